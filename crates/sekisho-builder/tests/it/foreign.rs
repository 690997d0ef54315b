//! A RUN for another processor, by an emulator: QEMU's, registered in a user namespace of the test's own, which
//! kernels allow since 6.7 (kernel documentation, `admin-guide/binfmt-misc`).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::world::World;

const SAID: &[u8] = b"hello from arm64";
const MADE: &[u8] = b"/made";

/// Says so to the child, which is in the namespace.
const CHILD: &str = "SEKISHO_TEST_FOREIGN";

/// Registers the emulator, opened now (`F`), for 64-bit little-endian ELF programs of machine 183; 77 and 78 where
/// the kernel does not let us.
const SCRIPT: &str = r#"
mount -t binfmt_misc none /proc/sys/fs/binfmt_misc || exit 77
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":qemu-aarch64:M::$magic:$mask:$0:F" > /proc/sys/fs/binfmt_misc/register || exit 78
exec "$@"
"#;

/// A program for arm64 that says [`SAID`] and makes the folder [`MADE`].
fn program() -> Vec<u8> {
    const SVC: u32 = 0xd400_0001;
    // `movz xR, #VALUE`, and `adr x1, TEXT` for the instruction at a place.
    let movz =
        |register: u32, value: usize| 0xd280_0000 | u32::try_from(value).unwrap() << 5 | register;
    let adr = |from: usize, to: usize| {
        let offset = u32::try_from(to - from * 4).unwrap();
        0x1000_0001 | (offset & 3) << 29 | (offset >> 2) << 5
    };
    const COUNT: usize = 13;
    let (said, made) = (COUNT * 4, COUNT * 4 + SAID.len() + 1);
    let code: [u32; COUNT] = [
        // write(1, SAID)
        movz(0, 1),
        adr(1, said),
        movz(2, SAID.len() + 1),
        movz(8, 64),
        SVC,
        // mkdirat(AT_FDCWD, MADE, 0o755); `movn x0, #99` is -100.
        0x9280_0000 | 99 << 5,
        adr(6, made),
        movz(2, 0o755),
        movz(8, 34),
        SVC,
        // exit(0)
        movz(0, 0),
        movz(8, 93),
        SVC,
    ];
    let code: Vec<u8> = code.iter().flat_map(|word| word.to_le_bytes()).collect();
    let text = [&code, SAID, b"\n", MADE, b"\0"].concat();
    // elf(5): a header, one segment that is read and run, and the text.
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let size = HEADERS + text.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for half in [2_u16, 183] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1_u32.to_le_bytes());
    for long in [BASE + HEADERS, 64, 0] {
        elf.extend(long.to_le_bytes());
    }
    elf.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    for word in [1_u32, 5] {
        elf.extend(word.to_le_bytes());
    }
    for long in [0, BASE, BASE, size, size, 0x1000] {
        elf.extend(long.to_le_bytes());
    }
    elf.extend(text);
    elf
}

fn emulator() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).map(|folder| folder.join("qemu-aarch64-static"));
    places.into_iter().find(|place| place.exists())
}

#[test]
#[expect(clippy::print_stdout, reason = "says what it skipped")]
fn a_foreign_command_runs_where_an_emulator_is_registered() {
    let Some(emulator) = emulator().filter(|_| cfg!(target_arch = "x86_64")) else {
        println!("skipped: needs amd64 and qemu-aarch64-static");
        return;
    };
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT])
        .arg(emulator)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "foreign::child_in_a_namespace_with_an_emulator"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    match output.status.code() {
        Some(1) if said.contains("unshare") => println!("skipped: no user namespace: {said}"),
        Some(77 | 78) => println!("skipped: binfmt_misc is the machine's alone here: {said}"),
        code => assert!(code == Some(0) && said.contains(" 1 passed"), "{code:?}: {said}"),
    }
}

/// Run by [`a_foreign_command_runs_where_an_emulator_is_registered`] in a process of its own.
#[tokio::test(flavor = "multi_thread")]
async fn child_in_a_namespace_with_an_emulator() {
    if std::env::var_os(CHILD).is_none() {
        return;
    }
    let world = World::new().await;
    let path = world.context().join("hello");
    fs::write(&path, program()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    world.dockerfile("FROM scratch\nCOPY hello /\nRUN [\"/hello\"]\n");
    let mut options = world.options();
    options.platforms = vec!["linux/arm64".parse().unwrap()];
    let built = world.try_build(options).await.unwrap();
    assert_eq!(world.log(), [String::from_utf8_lossy(SAID)]);
    assert_eq!(world.last_layer(&built), ["made d755 0:0 "]);
    world.assert_clean();
}
