//! What the hub reads before it knows whom it speaks with.

use sekisho_hub::fuzzing;

use super::texts;
use crate::Target;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "repository-names",
        reads: "names of repositories, refs and paths in URLs and bodies",
        holds: "what is taken stays inside of a folder, and is no option of git's",
        seeds: || {
            texts(&[
                "acme/app",
                "sekisho/pipeline.git",
                "refs/heads/feature/a",
                ".github/workflows/a.yml",
            ])
        },
        words: &["..", "/", ".git", ".lock", "-", "@{", "refs/heads/", "\0", "\\", "~", ":", "api"],
        cost: 1,
        run: fuzzing::names,
    },
    Target {
        name: "host-header",
        reads: "a `Host` header",
        holds: "only this machine's names and addresses are taken as its own",
        seeds: || texts(&["127.0.0.1:7350", "hub.localhost:7350", "[::1]:1", "localhost"]),
        words: &[
            "127.0.0.1",
            "localhost",
            ".localhost",
            "evil.example",
            "@",
            ":80",
            "[::1]",
            "#",
            "/",
            "?",
            "\\",
            "%2e",
            "0x7f.1",
            "xn--",
            ".",
        ],
        cost: 1,
        run: fuzzing::host_header,
    },
    Target {
        name: "authorization-header",
        reads: "an `Authorization` header, and tokens in it",
        holds: "what nobody signed is no token; user and password are read as they were written",
        seeds: fuzzing::authorizations,
        words: &[
            "Bearer ",
            "token ",
            "Basic ",
            "RemoteAuth ",
            "eyJ",
            ".",
            ":",
            "=",
            "e30",
            "bm9uZQ",
        ],
        cost: 1,
        run: fuzzing::authorization,
    },
    Target {
        name: "git-frames",
        reads: "pkt-line frames of git's answer to a push",
        holds: "nothing is lost or added, wherever the pieces end",
        seeds: || {
            texts(&[
                "0006ab00000005c0000",
                "0006ab0000",
                "nonsense0000",
                "001e# service=git-upload-pack\n0000",
            ])
        },
        words: &[
            "0000", "0001", "0002", "0003", "0004", "fff0", "fff1", "ffff", "0006ab", "+001",
            "-001",
        ],
        cost: 1,
        run: fuzzing::git_frames,
    },
    Target {
        name: "git-commits",
        reads: "commits, as `git log` writes what somebody pushed",
        holds: "each has eight fields, or all are refused",
        seeds: || {
            vec![b"sha\0tree\0ann\0a@b\0bob\0b@c\x002030-01-01T00:00:00Z\0message\n\0\n".to_vec()]
        },
        words: &["\0", "\n", "\0\n", "\u{1}"],
        cost: 1,
        run: fuzzing::git_commits,
    },
];
