//! What golden bases are made of: a distribution's archive.

use sekisho_debian::fuzzing as debian;

use super::texts;
use crate::Target;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "debian-releases",
        reads: "the release of an archive with its signature, or a keyring",
        holds: "only what the key signed is taken, and only as it was signed; each file that is listed has a digest",
        seeds: debian::release_seeds,
        words: &[
            "-----BEGIN PGP SIGNED MESSAGE-----\n",
            "-----BEGIN PGP SIGNATURE-----\n",
            "Hash: SHA256\n",
            "\n\n",
            "- ",
            "SHA256:\n",
            "Suite: ",
            "Codename: bookworm\n",
            "Date: ",
            "\r\n",
            " ",
            "=",
        ],
        cost: 10,
        run: debian::release,
    },
    Target {
        name: "debian-packages",
        reads: "the index of an archive, and what a base needs of it",
        holds: "names and architectures are plain; nothing is fetched from above the mirror; who is chosen has what it needs",
        seeds: || {
            let digest = "c".repeat(64);
            let of = |name: &str, more: &str| {
                format!(
                    "Package: {name}\nVersion: 1:1.0-1\nArchitecture: amd64\nFilename: pool/{name}.deb\nSize: 10\nSHA256: {digest}\n{more}\n"
                )
            };
            let a = of("a", "Depends: b (>= 1.0) | c,\n d:any\nEssential: yes\n");
            let text = a
                + &of("b", "Provides: d (= 2), e\n")
                + &of("d", "Pre-Depends: e\nPriority: required\n");
            vec![text.into_bytes()]
        },
        words: &[
            "Package: ",
            "Version: ",
            "Architecture: ",
            "Filename: ",
            "../",
            "Depends: ",
            "Provides: ",
            "Essential: yes\n",
            "Priority: required\n",
            "|",
            ",",
            "(",
            ")",
            ">=",
            "<<",
            "\n\n",
            "a",
            "b",
            "e",
            ":any",
            "#",
            " ",
        ],
        cost: 4,
        run: debian::packages,
    },
    Target {
        name: "apt-sources",
        reads: "a file of apt's sources, in either form",
        holds: "only Debian's own archives are taken, over http and https; what is written for apt says the same",
        seeds: || {
            texts(&[
                "Types: deb deb-src\nURIs: http://a/debian/\nSuites: trixie trixie-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
                "deb [arch=amd64 signed-by=/k/debian-archive-keyring.gpg check-valid-until=no] https://a/debian bookworm main contrib # x\ndeb http://b/s bookworm-security main\n",
            ])
        },
        words: &[
            "deb ",
            "[",
            "]",
            "signed-by=",
            "bookworm",
            "-updates",
            "-security",
            " main",
            "\n\n",
            "Types: deb\n",
            "URIs: ",
            "Suites: ",
            "Components: main\n",
            "Enabled: no\n",
            "file:",
            "http://",
            "#",
        ],
        cost: 1,
        run: debian::sources,
    },
    Target {
        name: "debian-package",
        reads: "a `.deb`",
        holds: "paths are relative and stay inside; whatever is wrong is said of the package",
        seeds: debian::deb_seeds,
        words: &[
            "!<arch>\n",
            "debian-binary   ",
            "data.tar.xz     ",
            "data.tar.zst    ",
            "`\n",
            "\u{fd}7zXZ\0",
            "ustar\0",
            "../",
            "9999999999",
            "(\u{b5}/\u{fd}",
        ],
        cost: 4,
        run: debian::deb,
    },
];
