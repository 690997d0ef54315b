//! What other registries say to the client, and what it knows of them.

use sekisho_registry::fuzzing;

use super::texts;
use crate::Target;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "challenges",
        reads: "`WWW-Authenticate` headers",
        holds: "what is written is read again as the same",
        seeds: || {
            texts(&[
                "Bearer realm=\"https://a/token\",service=\"a\",scope=\"repository:x:pull,push\"",
                "Basic realm=\"x\", Bearer realm=\"y\\\"z\"\nBasic",
            ])
        },
        words: &["Bearer ", "Basic ", "realm=", "service=", "scope=", "\"", "\\", ",", "=", "\n"],
        cost: 1,
        run: fuzzing::challenge,
    },
    Target {
        name: "followed-addresses",
        reads: "where a registry says that tokens are given, or that an upload goes on",
        holds: "a registry elsewhere leads to no program on this machine, nor to plain HTTP, nor takes a password along",
        seeds: || {
            texts(&[
                "registry.example\0https://auth.example/token",
                "127.0.0.1:5000\0/v2/a/blobs/uploads/x?y=z",
                "docker.io\0//user:secret@auth.example/",
            ])
        },
        words: &[
            "\0",
            "http://",
            "https://",
            "//",
            "@",
            ":",
            "127.0.0.1",
            "0x7f.1",
            "0",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "localhost",
            ".localhost",
            "localhost.",
            "\\",
            "..",
            "%00",
            "file:",
            "0.0.0.0",
            "[::]",
        ],
        cost: 2,
        run: fuzzing::followed,
    },
    Target {
        name: "token-answers",
        reads: "the answer of a token service, or of a credential helper",
        holds: "a token lives for a minute to a day; it makes one header, and is shown nowhere",
        seeds: || {
            texts(&[
                "{\"token\":\"abcdefghijkl\",\"expires_in\":300,\"issued_at\":\"x\"}",
                "{\"access_token\":\"abcdefghijkl\",\"token\":null}",
                "{\"ServerURL\":\"a\",\"Username\":\"<token>\",\"Secret\":\"abcdefghijkl\"}",
            ])
        },
        words: &["null", "\"token\":", "\"expires_in\":", "-1", "\\r\\n", "\\u0000", "\"Secret\":"],
        cost: 1,
        run: fuzzing::tokens,
    },
    Target {
        name: "docker-config",
        reads: "docker's `config.json`",
        holds: "neither what is read nor an error shows a secret",
        seeds: || {
            texts(&[
                "{\"auths\":{\"gate.example\":{\"auth\":\"dXNlcjpwYXNzd29yZA==\",\"identitytoken\":\"abcdefghijkl\"},\"https://index.docker.io/v1/\":{\"username\":\"a\",\"password\":\"mnopqrstuvwx\"}},\"credsStore\":\"x\",\"credHelpers\":{\"a\":\"b\"}}",
            ])
        },
        words: &[
            "\"auths\":{",
            "\"auth\":",
            "\"identitytoken\":",
            "\"registrytoken\":",
            "\"credsStore\":",
            "\"credHelpers\":{",
            "https://",
            "/v1/",
            ":",
            "=",
            "null",
            "\"password\":",
        ],
        cost: 1,
        run: fuzzing::docker_config,
    },
    Target {
        name: "registry-errors",
        reads: "the body of an answer that is no success",
        holds: "what is no error of a registry is shown when it is short text; what is written is read again as the same",
        seeds: || {
            texts(&[
                "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"no: x\",\"detail\":{\"a\":1}}]}",
                "<html>no</html>",
                " gone \n",
            ])
        },
        words: &[
            "\"errors\":",
            "[",
            "]",
            "null",
            "\"code\":",
            "\"message\":",
            "<",
            "\u{feff}",
            "{}",
        ],
        cost: 1,
        run: fuzzing::error_body,
    },
    Target {
        name: "answered-ranges",
        reads: "the `Content-Range` of a download, and what was asked for",
        holds: "only what was asked for, or its beginning, is taken",
        seeds: || texts(&["bytes 0-9/10\x000 10 10", "bytes 5-7/*\x005 10 20"]),
        words: &["bytes ", "-", "/", "*", "+", "\0", " ", "0"],
        cost: 1,
        run: fuzzing::content_range,
    },
    Target {
        name: "warnings",
        reads: "a `Warning` header, as the gate sends it",
        holds: "its text is read as it was written",
        seeds: || texts(&["299 - \"rule: a \\\"b\\\" \\\\ c\"", "a \\ b"]),
        words: &["299 ", "- ", "\"", "\\", "\\\\", "\\\""],
        cost: 1,
        run: fuzzing::warning_header,
    },
];
