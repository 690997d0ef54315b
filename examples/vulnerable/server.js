// One page from a lodash template. The versions in package-lock.json are old on purpose.

'use strict';

const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');

const _ = require('lodash');
const minimist = require('minimist');

const options = minimist(process.argv.slice(2), { default: { port: process.env.PORT || 8080 } });
const page = fs.readFileSync(path.join(__dirname, 'public', 'index.html'), 'utf8');
const render = _.template(page);

const server = http.createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost');
  if (request.method !== 'GET' || url.pathname !== '/') {
    response.writeHead(404, { 'content-type': 'text/plain; charset=utf-8' }).end('not found\n');
    return;
  }
  const html = render({ name: url.searchParams.get('name') || 'traveller' });
  response.writeHead(200, { 'content-type': 'text/html; charset=utf-8' }).end(html);
});

server.listen(Number(options.port), () => console.log(`listening on port ${options.port}`));
process.on('SIGTERM', () => server.close());
