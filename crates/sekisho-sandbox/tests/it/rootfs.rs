//! A root file system made of a few programs of the machine that runs the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Enough for shell scripts.
const PROGRAMS: &[&str] = &[
    "sh", "cat", "chmod", "chown", "id", "ln", "ls", "mkdir", "mknod", "mv", "rm", "sleep", "stat",
    "touch", "hostname", "readlink", "cp", "setpriv", "unshare", "mount", "dd",
];

/// Copies programs and the libraries they load.
pub(crate) fn make(at: &Path) {
    for program in PROGRAMS {
        let Some(path) = find(program) else { continue };
        add(at, &path, program);
    }
    fs::create_dir_all(at.join("etc")).unwrap();
    fs::create_dir_all(at.join("tmp")).unwrap();
}

/// Copies one program, and the libraries it loads that are not there yet.
pub(crate) fn add(at: &Path, program: &Path, name: &str) {
    let listed = Command::new("ldd").arg(program).output().expect("ldd runs");
    for word in String::from_utf8_lossy(&listed.stdout).split_whitespace() {
        if let Some(relative) = word.strip_prefix('/')
            && !at.join(relative).exists()
        {
            copy(Path::new(word), &at.join(relative));
        }
    }
    copy(program, &at.join("bin").join(name));
}

/// An `/etc` in which a user of this number, `ann`, has a range of ids.
pub(crate) fn etc_with_a_range(etc: &Path, uid: u32) {
    fs::create_dir(etc).unwrap();
    for (name, text) in [
        ("passwd", format!("root:x:0:0::/root:/bin/sh\nann:x:{uid}:{uid}::/:/bin/sh\n")),
        ("subuid", "ann:400000:65536\n".to_owned()),
        ("subgid", "ann:400000:65536\n".to_owned()),
    ] {
        fs::write(etc.join(name), text).unwrap();
    }
}

fn find(program: &str) -> Option<PathBuf> {
    ["/bin", "/usr/bin"].iter().map(|dir| Path::new(dir).join(program)).find(|path| path.exists())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::copy(from, to).unwrap();
}
