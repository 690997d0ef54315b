// Drives GitHub's own packages against the hub: `node toolkit.mjs NODE_MODULES FOLDER WHAT`.
// Prints one line for each thing that held, and fails at the first that does not.
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const [modules, folder, what] = process.argv.slice(2)
const load = file => import(pathToFileURL(path.join(modules, '@actions', file)))
const { DefaultArtifactClient } = await load('artifact/lib/artifact.js')
const cache = await load('cache/lib/cache.js')
const core = await load('core/lib/core.js')

// The packages talk on stdout; what held goes to stderr.
const held = what => process.stderr.write(`held: ${what}\n`)
const file = (name, content) => {
  const at = path.join(folder, name)
  fs.mkdirSync(path.dirname(at), { recursive: true })
  fs.writeFileSync(at, content)
  return at
}
const text = name => fs.readFileSync(path.join(folder, name), 'utf8')
// Larger than one block of the uploads, and not compressible.
const large = Buffer.alloc(9 * 1024 * 1024 + 17)
for (let at = 0, x = 1; at + 4 <= large.length; at += 4) {
  x = (Math.imul(x, 1664525) + 1013904223) >>> 0
  large.writeUInt32LE(x, at)
}

async function artifacts() {
  const client = new DefaultArtifactClient()
  const files = [file('up/a.txt', 'one'), file('up/deep/b.bin', large)]
  const made = await client.uploadArtifact('app', files, path.join(folder, 'up'))
  assert.ok(made.id > 0 && made.size > large.length, JSON.stringify(made))
  held('uploadArtifact')

  const listed = await client.listArtifacts()
  assert.deepEqual(listed.artifacts.map(a => [a.name, a.id, a.size]), [['app', made.id, made.size]])
  assert.equal(listed.artifacts[0].digest, `sha256:${made.digest}`)
  assert.ok(listed.artifacts[0].createdAt instanceof Date)
  held('listArtifacts')

  const { artifact } = await client.getArtifact('app')
  assert.equal(artifact.id, made.id)
  await assert.rejects(client.getArtifact('none'), /not found/i)
  held('getArtifact')

  const down = path.join(folder, 'down')
  const expectedHash = `sha256:${made.digest}`
  const got = await client.downloadArtifact(made.id, { path: down, expectedHash })
  assert.equal(got.digestMismatch, false)
  assert.equal(text('down/a.txt'), 'one')
  assert.ok(large.equals(fs.readFileSync(path.join(down, 'deep/b.bin'))))
  held('downloadArtifact')

  await assert.rejects(client.uploadArtifact('app', files, folder), /already exists/)
  held('an artifact of the same name is refused')

  const raw = file('up/café.txt', 'raw')
  const alone = await client.uploadArtifact('ignored', [raw], folder, { skipArchive: true })
  await client.downloadArtifact(alone.id, { path: path.join(folder, 'raw') })
  assert.equal(text('raw/café.txt'), 'raw')
  held('an artifact that is no archive')

  assert.equal((await client.deleteArtifact('app')).id, made.id)
  const left = await client.listArtifacts()
  assert.deepEqual(left.artifacts.map(a => a.name), ['café.txt'])
  await client.uploadArtifact('app', files.slice(0, 1), folder)
  held('deleteArtifact')
}

async function caches() {
  assert.ok(cache.isFeatureAvailable())
  const kept = path.join(folder, 'kept')
  file('kept/a.txt', 'one')
  file('kept/b.bin', large)
  assert.equal(await cache.restoreCache([kept], 'go-1'), undefined)
  held('restoreCache: a miss')

  assert.ok((await cache.saveCache([kept], 'go-1')) > 0)
  held('saveCache')
  fs.rmSync(kept, { recursive: true })
  assert.equal(await cache.restoreCache([kept], 'go-1'), 'go-1')
  assert.equal(text('kept/a.txt'), 'one')
  assert.ok(large.equals(fs.readFileSync(path.join(kept, 'b.bin'))))
  held('restoreCache')

  file('kept/a.txt', 'two')
  await cache.saveCache([kept], 'go-2')
  assert.equal(await cache.restoreCache([kept], 'go-3', ['npm-', 'go-']), 'go-2')
  assert.equal(text('kept/a.txt'), 'two')
  assert.equal(await cache.restoreCache([kept], 'go-3', ['npm-']), undefined)
  assert.equal(await cache.restoreCache([kept], 'none', ['go-1'], { lookupOnly: true }), 'go-1')
  held('restoreCache: prefixes')

  // Another list of paths is another version.
  assert.equal(await cache.restoreCache([kept, folder], 'go-1'), undefined)
  held('restoreCache: versions')

  assert.equal(await cache.saveCache([kept], 'go-1'), -1)
  held('saveCache: a conflict')
}

async function idToken() {
  const token = await core.getIDToken('gate')
  const claims = JSON.parse(Buffer.from(token.split('.')[1], 'base64url'))
  assert.equal(claims.aud, 'gate')
  assert.equal(claims.repository, 'acme/app')
  held('getIDToken')
}

// Whether this job can make an entry, and find the one that another job made.
async function cacheMode() {
  const kept = path.join(folder, 'kept')
  file('kept/a.txt', 'one')
  const saved = await cache.saveCache([kept], `${what}-1`)
  held(saved > 0 ? 'saves' : 'does not save')
  if (what === 'seed') return
  const found = await cache.restoreCache([kept], 'seed-1')
  held(found === 'seed-1' ? 'restores' : 'does not restore')
}

// What this job finds of what others saved; then it saves, under its own name and under theirs.
async function scope(own, others) {
  const kept = path.join(folder, 'kept')
  for (const name of others) {
    file('kept/a.txt', 'nothing')
    const found = await cache.restoreCache([kept], `${name}-1`)
    held(found ? `finds ${name}: ${text('kept/a.txt')}` : `does not find ${name}`)
  }
  file('kept/a.txt', `by ${own}`)
  for (const name of [own, ...others]) {
    const saved = await cache.saveCache([kept], `${name}-1`)
    held(`${saved > 0 ? 'saves' : 'does not save'} ${name}`)
  }
}

if (what.startsWith('scope:')) {
  const [, own, others] = what.split(':')
  await scope(own, others.split(',').filter(Boolean))
} else if (what === 'all') {
  await artifacts()
  await caches()
  await idToken()
} else {
  await cacheMode()
}
