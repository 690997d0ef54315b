//! What the scanner reads of layers.

use std::io::Read as _;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use sekisho_advisory::Database;
use sekisho_oci::layer::{self, Entry};
use sekisho_scanner::{
    Attestors, LayerIndex, Limits, embedded_advisories, index_layer, inspect, read_document,
    secrets_in,
};
use sekisho_types::{Digest, Document, StatementKind};

use super::{must, text, texts};
use crate::Target;

/// Files that packages are read from, the place of each in an image.
const DATABASES: [&str; 13] = [
    "var/lib/dpkg/status",
    "var/lib/dpkg/status.d/base",
    "lib/apk/db/installed",
    "etc/os-release",
    "app/package-lock.json",
    "app/npm-shrinkwrap.json",
    "app/node_modules/a/package.json",
    "usr/lib/python3/site-packages/a-1.0.dist-info/METADATA",
    "usr/lib/python3/site-packages/a.egg-info/PKG-INFO",
    "app/requirements.txt",
    "etc/alpine-release",
    "etc/debian_version",
    "app/yarn.lock",
];

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "package-files",
        reads: "packages of dpkg, apk, npm and Python, and what names the system, each where it lies in a layer",
        holds: "no package is without a name or version; names keep their length; the same layer says the same, and what it says is written and read again",
        seeds: packages,
        words: &[
            "Package: ",
            "Status: install ok installed\n",
            "Version: ",
            "Source: a (1)\n",
            "\n\n",
            "P:",
            "V:",
            "o:",
            "ID=debian\n",
            "VERSION_ID=",
            "\"",
            "{\"lockfileVersion\":3,\"packages\":{",
            "\"node_modules/a\":{\"version\":\"1.0.0\"}",
            "node_modules/",
            "Name: ",
            "==",
            ">=",
            "; extra",
            "-r other",
            "\r\n",
            " ",
            "1:",
            "~",
            "+",
            "\0",
            "[[",
            "{\"dependencies\":{",
            "\"version\":\"\"",
            "npm:b@1",
            "\\n",
        ],
        cost: 4,
        run: packages_in,
    },
    Target {
        name: "analysed-layers",
        reads: "a layer as the sandboxed analysis reads it: tar, plain, gzip or zstd",
        holds: "size and digest are those of its uncompressed bytes; entries keep their limit; no path leads out of it",
        seeds: sekisho_builder::fuzzing::archive_seeds,
        words: &[
            "ustar\0",
            "././@LongLink",
            "12 path=a/b\n",
            "../",
            "/etc/passwd",
            ".wh.",
            ".wh..wh..opq",
            "var/lib/dpkg/status",
            "etc/os-release",
            "GNU.sparse.size=",
            "00000000000\0",
            "\0\0\0\0\0\0\0\0",
        ],
        cost: 4,
        run: analysed,
    },
    Target {
        name: "layer-facts",
        reads: "what the sandboxed analysis of a layer says",
        holds: "what is written is read again as the same; an image of such layers is inspected twice with the same bytes",
        seeds: facts,
        words: &[
            "\"removed\":[",
            "\"opaque\":[",
            "\"links\":{",
            "\"etc\":\"../..\"",
            "\"lib\":\"/usr/lib\"",
            "\"others\":[",
            "\"directories\":[",
            "\"files\":{",
            "\"absent\"",
            "\"present\"",
            "{\"line\":\"12\"}",
            "..",
            "/",
            "\"var/lib/dpkg/status\"",
            "null",
            "{}",
            "[]",
            "\"\"",
        ],
        cost: 4,
        run: layer_facts,
    },
    Target {
        name: "secrets",
        reads: "a file with secrets in it",
        holds: "each is where it says, and none begins in another; where the pieces of the file end makes no difference",
        seeds: || {
            texts(&[
                "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\n-----END OPENSSH PRIVATE KEY-----\n",
                "aws_access_key_id = AKIAQ3EGRIOZ5XHTBWPL\naws_secret = x\n",
                "AccountKey=c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0cw==;",
            ])
        },
        words: &[
            "AKIA",
            "AKIAQ3EGRIOZ5XHTBWPL",
            "ghp_",
            "github_pat_",
            "xoxb-",
            "-----BEGIN ",
            "PRIVATE KEY-----\n",
            "-----END ",
            "glpat-",
            "npm_",
            "sk_live_",
            "AIza",
            "\n",
            "\0",
            "\\n",
            "hvs.",
            "dckr_pat_",
            "8Q~",
            "T3BlbkFJ",
            "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY3zA5",
        ],
        cost: 2,
        run: secrets,
    },
    Target {
        name: "statements",
        reads: "what is pushed as a statement about an image: in-toto, DSSE, Sigstore bundles, SPDX, CycloneDX",
        holds: "nobody has signed; provenance says of what it is; its secrets are told; what is told is written and read again as the same",
        seeds: statements,
        words: &[
            "\"_type\":\"https://in-toto.io/Statement/v1\"",
            "\"subject\":[",
            "{\"digest\":{\"sha256\":\"",
            "\"predicateType\":\"https://slsa.dev/provenance/v1\"",
            "\"predicate\":{",
            "\"payload\":\"e30=\"",
            "\"signatures\":[{\"sig\":\"AAAA\"}]",
            "\"dsseEnvelope\":{",
            "\"spdxVersion\":\"SPDX-2.3\"",
            "\"components\":[]",
            "[[",
            "null",
        ],
        cost: 2,
        run: statement,
    },
];

fn statements() -> Vec<Vec<u8>> {
    let said = "{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":[{\"name\":\"a\",\"digest\":{\"sha256\":\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"}}],\"predicateType\":\"https://slsa.dev/provenance/v1\",\"predicate\":{\"buildDefinition\":{\"buildType\":\"t\"},\"runDetails\":{\"builder\":{\"id\":\"b\"}}}}";
    let payload = BASE64_STANDARD.encode(said);
    let envelope = format!(
        "{{\"payloadType\":\"application/vnd.in-toto+json\",\"payload\":\"{payload}\",\"signatures\":[{{\"sig\":\"AAAA\"}}]}}"
    );
    texts(&[
        said,
        &envelope,
        &format!("{{\"mediaType\":\"m\",\"dsseEnvelope\":{envelope}}}"),
        "{\"spdxVersion\":\"SPDX-2.3\",\"SPDXID\":\"SPDXRef-DOCUMENT\",\"packages\":[]}",
        "{\"bomFormat\":\"CycloneDX\",\"specVersion\":\"1.5\",\"components\":[]}",
        // In two pieces, or those who look for secrets in sources find one.
        &["{\"args\":{\"TOKEN\":\"glpat-", "9yJ3kQ7wZ1xR5tB8mN2v\"}}"].concat(),
    ])
}

fn statement(input: &[u8]) {
    let Ok(read) = read_document(input, &Attestors::default(), None) else { return };
    let Document { statement: said, secrets, .. } = &read;
    assert!(said.signers.is_empty(), "{said:?}");
    // What speaks of how it was built says of what; only a list of parts may be about what it is attached to.
    assert!(said.kind != StatementKind::Provenance || said.subjects.is_some(), "{said:?}");
    let whole = secrets_in("(statement)", input, None);
    assert_eq!(secrets[..whole.len()], whole, "what is found in it as a text is told first");
    let text = must(serde_json::to_vec(&read), "it is written");
    assert_eq!(must(serde_json::from_slice::<Document>(&text), "it is read again"), read);
}

static ADVISORIES: LazyLock<Option<Database>> =
    LazyLock::new(|| embedded_advisories(Timestamp::UNIX_EPOCH).ok());

/// A layer with these files.
fn layer_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = layer::Writer::new(Vec::new());
    for (path, content) in files {
        let entry = Entry::file(*path, content.len() as u64);
        must(writer.append_data(&entry, &mut { *content }), "a layer is written");
    }
    must(writer.finish(), "a layer is written")
}

fn packages() -> Vec<Vec<u8>> {
    let texts = [
        "Package: a\nStatus: install ok installed\nSource: b (1:1)\nVersion: 2.0-1\nArchitecture: amd64\n\nPackage: c\n",
        "Package: base-files\nVersion: 12\n",
        "P:musl\nV:1.2.5-r0\nA:x86_64\no:musl\nL:MIT\n\nP:a\nV:1\n",
        "ID=debian\nVERSION_ID=\"12\"\nPRETTY_NAME=\"Debian\"\n",
        "{\"lockfileVersion\":3,\"packages\":{\"\":{\"name\":\"x\"},\"node_modules/lodash\":{\"version\":\"4.17.20\",\"dev\":true,\"license\":\"MIT\"}}}",
        "{\"lockfileVersion\":1,\"dependencies\":{\"a\":{\"version\":\"1.0.0\",\"dependencies\":{\"b\":{\"version\":\"npm:c@2.0.0\"}}}}}",
        "{\"name\":\"a\",\"version\":\"1.0.0\",\"license\":{\"type\":\"MIT\"}}",
        "Metadata-Version: 2.1\nName: a\nVersion: 1.0\nLicense: MIT\n\ntext",
        "Name: b\nVersion: 2.0\n",
        "a==1.0\nb[x]>=2 ; python_version < '3' # c\n-r other.txt\n",
        "3.20.1\n",
        "12.5\n",
        "# yarn lockfile v1\n",
    ];
    let of_place = |(place, text): (usize, &str)| {
        [&[u8::try_from(place).unwrap_or_default()], text.as_bytes()].concat()
    };
    texts.into_iter().enumerate().map(of_place).collect()
}

/// The first byte of an input says which file it is.
fn packages_in(input: &[u8]) {
    const LONGEST: usize = 512;
    let Some((place, content)) = input.split_first() else { return };
    let path = DATABASES[usize::from(*place) % DATABASES.len()];
    let system: &[u8] = match path.contains("apk") {
        true => b"ID=alpine\nVERSION_ID=3.20.1\n",
        false => b"ID=debian\nVERSION_ID=\"12\"\n",
    };
    let mut files = vec![(path, content)];
    if !path.starts_with("etc/") {
        files.push(("etc/os-release", system));
    }
    let layer = layer_of(&files);
    let limits = Limits::default();
    let index = must(index_layer(&layer[..], &limits), "a layer that is right is read");
    assert_eq!(must(index_layer(&layer[..], &limits), "and again"), index);
    let written = must(serde_json::to_vec(&index), "it is written");
    let again: LayerIndex = must(serde_json::from_slice(&written), "what was written is read");
    assert_eq!(again, index);
    let Some(database) = &*ADVISORIES else { return };
    let report = inspect(&[index], database);
    assert!(report.packages.len() <= limits.packages);
    for package in &report.packages {
        for part in [&package.name, &package.version] {
            assert!((1..=LONGEST).contains(&part.len()), "{package:?}");
            // Each is part of a line that people are told.
            assert!(!part.contains(char::is_control), "{package:?}");
        }
    }
}

fn analysed(input: &[u8]) {
    const MAX_BYTES: u64 = 4 << 20;
    const MAX_ENTRIES: u64 = 2_000;
    let layer =
        layer::Limits { total_bytes: MAX_BYTES, entries: MAX_ENTRIES, ..Limits::default().layer };
    let limits = Limits { layer, ..Limits::default() };
    let Ok(index) = index_layer(input, &limits) else { return };
    assert!(index.entries <= MAX_ENTRIES, "{} entries", index.entries);
    let mut plain = Vec::new();
    let mut decoder = must(layer::decompress(input, MAX_BYTES), "it was read before");
    must(decoder.read_to_end(&mut plain), "to its end");
    assert_eq!((index.size_bytes, &index.diff_id), (plain.len() as u64, &Digest::sha256(&plain)));
    let paths = index.removed.iter().chain(&index.opaque).chain(&index.directories);
    let paths = paths.chain(&index.others).chain(index.links.keys()).chain(index.files.keys());
    for path in paths {
        let inside = !path.starts_with('/') && path.split('/').all(|part| part != "..");
        assert!(inside && !path.contains(char::is_control), "{path:?}");
    }
}

fn facts() -> Vec<Vec<u8>> {
    let files: &[(&str, &[u8])] = &[
        ("etc/os-release", b"ID=debian\nVERSION_ID=12\n"),
        ("var/lib/dpkg/status", b"Package: a\nVersion: 1\nStatus: install ok installed\n"),
        ("usr/lib/ld-linux-x86-64.so.2", b""),
        (".wh.lib", b""),
        ("usr/.wh..wh..opq", b""),
    ];
    let index = index_layer(&layer_of(files)[..], &Limits::default());
    let index = index.ok().and_then(|index| serde_json::to_vec(&index).ok()).unwrap_or_default();
    let links = br#"{"analyser":2,"diff_id":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","entries":1,"size_bytes":1,"links":{"var":"/x/y","x":"../var","lib":"usr/lib"},"files":{"x/y/lib/dpkg/status":{"packages":{"found":[{"name":"a","version":"1"}]}}}}"#;
    vec![index, links.to_vec()]
}

fn layer_facts(input: &[u8]) {
    let Ok(index) = serde_json::from_slice::<LayerIndex>(input) else { return };
    let written = must(serde_json::to_vec(&index), "it is written");
    let again: LayerIndex = must(serde_json::from_slice(&written), "what was written is read");
    assert_eq!(again, index);
    let Some(database) = &*ADVISORIES else { return };
    let lower = facts().into_iter().filter_map(|bytes| serde_json::from_slice(&bytes).ok());
    let mut layers: Vec<LayerIndex> = lower.collect();
    layers.push(index);
    let first = must(serde_json::to_vec(&inspect(&layers, database)), "it is written");
    let second = must(serde_json::to_vec(&inspect(&layers, database)), "it is written");
    assert_eq!(text(&first), text(&second));
}

fn secrets(input: &[u8]) {
    sekisho_scanner::fuzzing::secrets(input);
    for secret in secrets_in("file", input, None) {
        assert!(secret.path == "file" && secret.fingerprint.is_empty(), "{secret:?}");
    }
}
