//! Emulators of other processors that the kernel knows of.
//!
//! Source: the kernel's `admin-guide/binfmt-misc`. Only an interpreter with the flag `F` helps: it was
//! opened when it was registered, so it need not be in the image.

use std::path::Path;

use sekisho_oci::Platform;

/// Where the kernel lists what is registered.
const REGISTERED: &str = "/proc/sys/fs/binfmt_misc";

/// Most of an entry that is read, in bytes; real ones have some hundred.
const MAX_ENTRY_BYTES: u64 = 64 << 10;

/// Whether programs for a platform can run here, natively or by an emulator.
///
/// The kernel of a 64-bit machine mostly runs 32-bit programs too, but the sandbox's filter does not know
/// their system calls, and ends them at the first.
pub(crate) fn can_run(platform: &Platform) -> bool {
    let host = Platform::host();
    if platform.os != host.os {
        return false;
    }
    platform.rank_for(&host).is_some() || registered(Path::new(REGISTERED), platform)
}

fn registered(folder: &Path, platform: &Platform) -> bool {
    let Some(name) = emulator(&platform.architecture) else { return false };
    let path = folder.join(format!("qemu-{name}"));
    let small = std::fs::metadata(&path).is_ok_and(|there| there.len() <= MAX_ENTRY_BYTES);
    small && std::fs::read_to_string(path).is_ok_and(|text| is_usable(&text))
}

fn is_usable(entry: &str) -> bool {
    let mut lines = entry.lines();
    let flags = || entry.lines().find_map(|line| line.strip_prefix("flags:"));
    lines.next() == Some("enabled") && flags().is_some_and(|flags| flags.contains('F'))
}

/// QEMU's name for an architecture.
fn emulator(architecture: &str) -> Option<&'static str> {
    Some(match architecture {
        "amd64" => "x86_64",
        "386" => "i386",
        "arm64" => "aarch64",
        "arm" => "arm",
        "riscv64" => "riscv64",
        "s390x" => "s390x",
        "ppc64le" => "ppc64le",
        "mips64le" => "mips64el",
        "loong64" => "loongarch64",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_emulator_must_be_on_and_open() {
        let folder = tempfile::tempdir().unwrap();
        let arm = Platform::new("linux", "arm64");
        assert!(!registered(folder.path(), &arm));
        for (text, want) in [
            ("enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: POCF\noffset 0\n", true),
            ("enabled\ninterpreter /usr/bin/qemu-aarch64\nflags: \n", false),
            ("disabled\ninterpreter /usr/bin/qemu-aarch64\nflags: F\n", false),
            ("", false),
        ] {
            std::fs::write(folder.path().join("qemu-aarch64"), text).unwrap();
            assert_eq!(registered(folder.path(), &arm), want, "{text}");
        }
        assert!(can_run(&Platform::host()));
        assert!(!can_run(&Platform::new("windows", "amd64")));
        assert!(!can_run(&Platform::new("linux", "sparc")));
        assert_eq!(
            can_run(&Platform::new("linux", "386")),
            registered(Path::new(REGISTERED), &Platform::new("linux", "386")),
            "by an emulator alone"
        );
    }
}
