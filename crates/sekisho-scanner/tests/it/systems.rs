use sekisho_scanner::merge;

use crate::{ALPINE, DEBIAN, Item, file, layer, not_assessed, packages, status};

#[track_caller]
fn check(items: &[Item], ecosystem: Option<&str>, want: &[&str], doubts: &[&str]) {
    let inventory = merge(&[layer(items)]);
    let found = inventory.os.as_ref().and_then(|os| os.ecosystem.clone());
    assert_eq!(found.map(|e| e.to_string()).as_deref(), ecosystem);
    assert_eq!(packages(&inventory), want);
    assert_eq!(not_assessed(&inventory), doubts);
}

#[test]
fn debian() {
    check(
        &[
            file("etc/debian_version", "12.5\n"),
            Item::Link("etc/os-release", "../usr/lib/os-release"),
            file("usr/lib/os-release", DEBIAN),
            file(
                "var/lib/dpkg/status",
                status(&[("tzdata", "2024a-0+deb12u1"), ("bash", "5.2-1")]),
            ),
        ],
        Some("Debian:12"),
        &["var/lib/dpkg/status: bash 5.2-1", "var/lib/dpkg/status: tzdata 2024a-0+deb12u1"],
        &[],
    );
}

#[test]
fn distroless() {
    check(
        &[
            file("usr/lib/os-release", DEBIAN),
            file("var/lib/dpkg/status.d/base", "Package: base-files\nVersion: 12.4+deb12u5"),
            file("var/lib/dpkg/status.d/base.md5sums", "00  etc/issue\n"),
            file("var/lib/dpkg/status.d/tzdata", "Package: tzdata\nVersion: 2024a-0+deb12u1\n"),
        ],
        Some("Debian:12"),
        &[
            "var/lib/dpkg/status.d/base: base-files 12.4+deb12u5",
            "var/lib/dpkg/status.d/tzdata: tzdata 2024a-0+deb12u1",
        ],
        &[],
    );
}

#[test]
fn alpine_with_a_merged_usr() {
    let installed = "P:musl\nV:1.2.5-r0\no:musl\n\n";
    for items in [
        vec![file("lib/apk/db/installed", installed)],
        vec![file("usr/lib/apk/db/installed", installed)],
        vec![Item::Link("lib", "usr/lib"), file("usr/lib/apk/db/installed", installed)],
    ] {
        let items = [vec![file("etc/os-release", ALPINE)], items].concat();
        let inventory = merge(&[layer(&items)]);
        assert_eq!(inventory.packages.len(), 1, "{items:?}");
        assert_eq!(inventory.packages[0].ecosystem.to_string(), "Alpine:v3.20");
        assert_eq!(not_assessed(&inventory), [""; 0]);
    }
}

#[test]
fn a_moved_database_is_followed() {
    check(
        &[
            file("etc/os-release", DEBIAN),
            Item::Link("var/lib/dpkg", "/data/dpkg"),
            file("data/dpkg/status", status(&[("bash", "5.2-1")])),
        ],
        Some("Debian:12"),
        &["data/dpkg/status: bash 5.2-1"],
        &[],
    );
}

#[test]
fn nothing_that_is_unknown_passes_in_silence() {
    let bash = || file("var/lib/dpkg/status", status(&[("bash", "5.2-1")]));
    // A system that we do not support.
    check(
        &[file("etc/os-release", "ID=kali\nVERSION_ID=2024.1\nPRETTY_NAME=Kali\n"), bash()],
        None,
        &[],
        &["Kali: this operating system is not supported"],
    );
    // A release without a number.
    check(
        &[file("etc/os-release", "ID=debian\nPRETTY_NAME=sid\n"), bash()],
        None,
        &[],
        &["sid: this operating system is not supported"],
    );
    // Packages, and no name; a C library, and no name.
    let unnamed =
        "operating system: there is a package database, and nothing names the operating system";
    check(&[bash()], None, &[], &[unnamed]);
    check(
        &[file("lib64/ld-linux-x86-64.so.2", "")],
        None,
        &[],
        &["operating system: there is a C library, and nothing names the operating system"],
    );
    // A name, and no packages: taken away, or behind a link.
    let name = "Debian GNU/Linux 12 (bookworm)";
    let os = || file("etc/os-release", DEBIAN);
    check(
        &[os()],
        Some("Debian:12"),
        &[],
        &[&format!("{name}: its package database is not in the image")],
    );
    check(
        &[os(), Item::Link("var/lib/dpkg/status", "/opt/x"), file("opt/x", "Package: a\n")],
        Some("Debian:12"),
        &[],
        &[&format!("{name}: its package database is a link to a file that was not read")],
    );
    // A database of another system, of RPM, or outside its place.
    check(
        &[os(), bash(), file("lib/apk/db/installed", "P:musl\nV:1.2.5-r0\n")],
        Some("Debian:12"),
        &["var/lib/dpkg/status: bash 5.2-1"],
        &["lib/apk/db/installed: the package database is not one of this system's"],
    );
    check(
        &[os(), bash(), file("usr/lib/sysimage/rpm/rpmdb.sqlite", "SQLite")],
        Some("Debian:12"),
        &["var/lib/dpkg/status: bash 5.2-1"],
        &["usr/lib/sysimage/rpm/rpmdb.sqlite: RPM databases are not read yet"],
    );
    check(
        &[file("srv/root/var/lib/dpkg/status", status(&[("bash", "5.2-1")]))],
        None,
        &[],
        &["srv/root/var/lib/dpkg/status: it is a package database outside the system's own place"],
    );
    // A damaged file.
    check(
        &[os(), file("var/lib/dpkg/status", "Package: bash\n\nPackage: sed\nVersion: 4.9-1\n")],
        Some("Debian:12"),
        &["var/lib/dpkg/status: sed 4.9-1"],
        &["var/lib/dpkg/status: a package has no name or no version"],
    );
    // The same with the name of the system gone as well: a layer took the database away.
    let status = || file("var/lib/dpkg/status", status(&[("bash", "5.2-1")]));
    let gone = [Item::Gone("var/lib/dpkg/status"), Item::Gone("etc/os-release")];
    assert_eq!(
        not_assessed(&merge(&[layer(&[os(), status()]), layer(&gone)])),
        [
            "var/lib/dpkg/status: a layer of the image removes the package database of the layers below"
        ]
    );
    // An image from scratch with an app in it holds no system: that is no doubt.
    check(&[file("app/server.js", "")], None, &[], &[]);
}

/// What nobody reads yet is named.
#[test]
fn languages_that_are_not_read_are_said() {
    let go = "\u{7f}ELF 0123456789";
    let items = [
        file("app/Gemfile.lock", "GEM\n"),
        file("app/go.sum", "x v1.0.0 h1:\n"),
        file("app/lib/x.jar", "PK"),
        file("app/poetry.lock", ""),
        file("usr/local/bin/tool", go),
    ];
    let said = |more: &[Item]| not_assessed(&merge(&[layer(&[&items[..], more].concat())]));
    let read = "app/poetry.lock: packages of Python are not read yet";
    let want = [
        "app/Gemfile.lock: packages of Ruby are not read yet",
        "app/go.sum: packages of Go are not read yet",
        "app/lib/x.jar: packages of Java are not read yet",
        read,
    ];
    assert_eq!(said(&[]), want);
    // What poetry locked is installed, and that is read.
    let installed = file("x/site-packages/a-1.0.dist-info/METADATA", "Name: a\nVersion: 1.0\n");
    assert_eq!(said(&[installed]), want[..3]);

    // A tar of bytes, for a program of Go is no text.
    let program = [b"\x7fELF".as_slice(), &[0; 60], b"\xff Go buildinf:\x08\x02"].concat();
    let mut writer = sekisho_oci::layer::Writer::new(Vec::new());
    let entry = sekisho_oci::layer::Entry::file("bin/tool", program.len() as u64);
    writer.append_data(&entry, &mut &program[..]).unwrap();
    let archive = writer.finish().unwrap();
    let index =
        sekisho_scanner::index_layer(archive.as_slice(), &sekisho_scanner::Limits::default());
    assert_eq!(
        not_assessed(&merge(&[index.unwrap()])),
        ["bin/tool: it was built of packages of Go, which are not read yet"]
    );

    let names: Vec<&'static str> =
        (0..25).map(|at| &*Box::leak(format!("app/{at:02}.jar").into_boxed_str())).collect();
    let jars: Vec<Item> = names.into_iter().map(|name| file(name, "PK")).collect();
    let said = not_assessed(&merge(&[layer(&jars)]));
    assert_eq!(said.len(), 21, "{said:?}");
    assert!(
        said.contains(&"5 more files: packages of Java are not read yet".to_owned()),
        "{said:?}"
    );
}

#[test]
fn hard_links_name_the_same_file() {
    let items = [
        file("etc/os-release", DEBIAN),
        file("opt/dpkg/status", status(&[("bash", "5.2-1")])),
        Item::Hard("var/lib/dpkg/status", "opt/dpkg/status"),
        file("opt/list", crate::lock(&[("a", "1.0.0")])),
        Item::Hard("app/package-lock.json", "opt/list"),
    ];
    check(
        &items,
        Some("Debian:12"),
        &["var/lib/dpkg/status: bash 5.2-1"],
        &[
            "opt/dpkg/status: it is a package database outside the system's own place",
            "app/package-lock.json: it is a hard link to a file that was not read",
        ],
    );
}
