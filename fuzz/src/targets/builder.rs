//! What a build is made of, beside the Dockerfile.

use sekisho_builder::fuzzing as builder;

use super::texts;
use crate::Target;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "copy-patterns",
        reads: "a pattern of COPY, and a name",
        holds: "plain text matches itself alone; each name matches its own escaped form, and wildcards of its depth",
        seeds: || texts(&["a/*.[ch]\0a/b.c", "[^a-c]?\\*\0dx*", "*\0.a"]),
        words: &["*", "?", "[", "]", "^", "-", "\\", "/", "\0", "a"],
        cost: 2,
        run: builder::pattern,
    },
    Target {
        name: "file-modes",
        reads: "a `--chmod`",
        holds: "only permissions come out; a number is what it says",
        seeds: || texts(&["755", "u=rwX,go+r-w", "g=u", "+t,a-s"]),
        words: &[
            "u", "g", "o", "a", "+", "-", "=", "r", "w", "x", "X", "s", "t", ",", "07777", "é",
        ],
        cost: 1,
        run: builder::chmod,
    },
    Target {
        name: "image-users",
        reads: "a `user[:group]`, and an image's `/etc/passwd` and `/etc/group`",
        holds: "numbers are themselves; a name that is given a group has no others",
        seeds: || {
            texts(&[
                "app:staff\0root:x:0:0::/root:/bin/sh\napp:x:7:8::/home/app:\n\0staff:x:9:app\nother:x:10:app,x\n",
                "7:8\0a:x:7:9:::\n\0",
            ])
        },
        words: &["\0", ":", "\n", "root", "0", "4294967295", "-1", "+1", ",", "app"],
        cost: 1,
        run: builder::user,
    },
    Target {
        name: "remote-files",
        reads: "the address of an ADD, and the time that its server says",
        holds: "no name or password is in it; a file's name is one; a time is written and read again as the same",
        seeds: || {
            texts(&[
                "https://files.example/a/b.tar.gz?x=/y\0Sun, 06 Nov 1994 08:49:37 GMT",
                "http://files.example/%2e%2e/a",
            ])
        },
        words: &[
            "http://", "https://", "@", ":", "/", "..", "%2f", "%2e", "\\", "?", "#", "\0", "GMT",
            "Feb", "60", "file:",
        ],
        cost: 1,
        run: builder::remote_file,
    },
    Target {
        name: "build-contexts",
        reads: "where a build context is: a folder, an image, a layout, a stage, a git repository",
        holds: "git is given no option and no control character, and no folder leads out of the checkout",
        seeds: || {
            texts(&[
                "https://git.example/a/b.git?branch=feature%2Fx&subdir=/d/&checksum=abcdef1#v1:sub",
                "git@git.example:a/b.git#:docs",
                "ssh://git@git.example:22/b#x",
                "oci-layout:///l/a:tag@sha256:00",
                "docker-image://debian:12",
                "target:base",
            ])
        },
        words: &[
            "#",
            "?",
            ":",
            "@",
            "&",
            "=",
            "..",
            "/",
            "%2e",
            "%00",
            "%0a",
            "-",
            "ref=",
            "subdir=",
            ".git",
            "ssh://-",
            "git://",
            "oci-layout://",
            "keep-git-dir",
            "submodules=",
            "commit=",
        ],
        cost: 1,
        run: builder::context,
    },
    Target {
        name: "layer-records",
        reads: "the index of a layer as the cache keeps it, and a path in it",
        holds: "what is written is read again as the same; links are followed to their end, and never out of the root",
        seeds: || vec![builder::layer_record_seed()],
        words: &["\0", "a/c\0", "..", "/", "a", "b", "\u{1}", "\u{2}", "\u{3}", "\u{4}"],
        cost: 1,
        run: builder::layer_record,
    },
    Target {
        name: "added-archives",
        reads: "an archive of ADD, or of a context: tar, plain, gzip, bzip2, xz or zstd",
        holds: "data is as long as its entry says; nothing is made beside the folder that it is unpacked into",
        seeds: builder::archive_seeds,
        words: &[
            "ustar\0",
            "BZh9",
            "\u{fd}7zXZ\0",
            "../",
            "/etc",
            "out/a",
            "up/tmp/a",
            "0000777\0",
            "2",
            "1",
            "5",
            "00000000000\0",
            "././@LongLink",
            "12 path=a/b\n",
        ],
        cost: 10,
        run: builder::archive,
    },
];
