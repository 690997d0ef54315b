use std::io::Read;
use std::process::Command;

use sekisho_oci::layer::{Entry, EntryKind, Limits, Writer, read};

/// The program, or a line that says that there is none.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn tar() -> Option<Command> {
    let mut command = Command::new("tar");
    command.env("LC_ALL", "C.UTF-8");
    match Command::new("tar").arg("--version").output() {
        Ok(output) if output.status.success() => Some(command),
        _ => {
            eprintln!("skipped: needs tar");
            None
        }
    }
}

#[test]
fn the_tar_program_lists_what_we_write() {
    let Some(mut tar) = tar() else { return };
    let mut writer = Writer::new(Vec::new());
    let mut entries = vec![
        Entry::directory("etc"),
        Entry::file("etc/motd", 3),
        Entry::new("etc/link", EntryKind::Symlink { target: b"motd".to_vec() }),
        Entry::new("etc/hard", EntryKind::HardLink { target: b"etc/motd".to_vec() }),
        Entry::file(format!("{}/{}", "d".repeat(140), "f".repeat(60)), 0),
        Entry::file("x".repeat(300), 0),
        Entry::file("snow ☃", 0),
    ];
    entries[1].mode = 0o4755;
    entries[1].uid = 70_000;
    entries[1].gid = 3_000_000;
    entries[1].mtime = 86_400;
    entries[1].xattrs.insert(b"user.note".to_vec(), b"hello".to_vec());
    for entry in &entries {
        writer.append_data(entry, &mut std::io::repeat(b'a').take(entry.size())).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("layer.tar");
    std::fs::write(&file, writer.finish().unwrap()).unwrap();
    let output = tar
        .args(["--utc", "--numeric-owner", "--quoting-style=literal", "--xattrs", "-tvvf"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert!(output.status.success());
    let listing = String::from_utf8(output.stdout).unwrap();
    let words: Vec<String> =
        listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let long = format!("-rw-r--r-- 0/0 0 1970-01-01 00:00 {}/{}", "d".repeat(140), "f".repeat(60));
    let wide = format!("-rw-r--r-- 0/0 0 1970-01-01 00:00 {}", "x".repeat(300));
    assert_eq!(
        words,
        [
            "drwxr-xr-x 0/0 0 1970-01-01 00:00 etc/",
            "-rwsr-xr-x* 70000/3000000 3 1970-01-02 00:00 etc/motd",
            "lrw-r--r-- 0/0 0 1970-01-01 00:00 etc/link -> motd",
            "hrw-r--r-- 0/0 0 1970-01-01 00:00 etc/hard link to etc/motd",
            long.as_str(),
            wide.as_str(),
            "-rw-r--r-- 0/0 0 1970-01-01 00:00 snow ☃",
        ]
    );
}

#[test]
fn we_read_what_the_tar_program_writes() {
    for format in ["v7", "oldgnu", "gnu", "ustar", "posix"] {
        let Some(mut tar) = tar() else { return };
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        std::fs::write(tree.join("a/file"), "content").unwrap();
        std::fs::hard_link(tree.join("a/file"), tree.join("a/hard")).unwrap();
        std::os::unix::fs::symlink("../nowhere", tree.join("a/link")).unwrap();
        // v7 and ustar cannot hold it.
        let long = "n".repeat(150);
        if !matches!(format, "v7" | "ustar") {
            std::fs::write(tree.join("a").join(&long), "long").unwrap();
        }
        let output = tar
            .args(["--sort=name", "--format", format, "-C"])
            .arg(&tree)
            .args(["-cf", "-", "."])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let mut seen = Vec::new();
        read(output.stdout.as_slice(), &Limits::default(), &mut |entry, data| {
            let mut text = String::new();
            data.read_to_string(&mut text)?;
            seen.push((entry.display_path(), entry.kind.clone(), text));
            Ok(())
        })
        .unwrap();
        let mut want = vec![
            (String::new(), EntryKind::Directory, String::new()),
            ("a".to_owned(), EntryKind::Directory, String::new()),
            ("a/b".to_owned(), EntryKind::Directory, String::new()),
            ("a/file".to_owned(), EntryKind::File { size: 7 }, "content".to_owned()),
            (
                "a/hard".to_owned(),
                EntryKind::HardLink { target: b"a/file".to_vec() },
                String::new(),
            ),
            (
                "a/link".to_owned(),
                EntryKind::Symlink { target: b"../nowhere".to_vec() },
                String::new(),
            ),
        ];
        if !matches!(format, "v7" | "ustar") {
            want.push((format!("a/{long}"), EntryKind::File { size: 4 }, "long".to_owned()));
        }
        assert_eq!(seen, want, "{format}");
    }
}
