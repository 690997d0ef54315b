use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn any_path() -> impl Strategy<Value = Vec<u8>> {
    let component = prop::collection::vec(
        any::<u8>().prop_filter("no separator", |b| *b != b'/' && *b != 0),
        1..60,
    )
    .prop_filter("no dots", |component| component != b"." && component != b"..");
    let plain = "[a-z0-9.]{1,90}[a-z]".prop_map(String::into_bytes);
    prop::collection::vec(prop_oneof![component, plain], 1..5)
        .prop_map(|components| components.join(&b'/'))
}

fn any_entry() -> impl Strategy<Value = (Entry, Vec<u8>)> {
    let data = prop::collection::vec(any::<u8>(), 0..1500);
    let kind = prop_oneof![
        Just(EntryKind::Directory),
        Just(EntryKind::Fifo),
        any_path().prop_map(|target| EntryKind::HardLink { target }),
        any_path().prop_map(|target| EntryKind::Symlink { target }),
        (0..4096u32, 0..1_048_576u32)
            .prop_map(|(major, minor)| EntryKind::CharDevice { major, minor }),
        data.clone().prop_map(|data| EntryKind::File { size: data.len() as u64 }),
    ];
    let xattrs: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    let xattrs = prop_oneof![
        Just(xattrs),
        prop::collection::btree_map(
            "[a-z]{1,9}\\.[a-z]{1,9}".prop_map(String::into_bytes),
            prop::collection::vec(any::<u8>(), 0..90),
            1..4
        ),
    ];
    let numbers = (0..0o10_000u32, any::<u64>(), any::<u64>(), any::<i64>());
    (any_path(), kind, numbers, xattrs).prop_map(|(path, kind, (mode, uid, gid, mtime), xattrs)| {
        let entry = Entry { path, kind, mode, uid, gid, mtime, xattrs };
        let data = vec![b'd'; usize::try_from(entry.size()).unwrap()];
        (entry, data)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn entries_round_trip(entries in prop::collection::vec(any_entry(), 0..8)) {
        let bytes = write(&entries);
        prop_assert_eq!(bytes.len() % BLOCK, 0);
        prop_assert_eq!(read_all(&bytes).unwrap(), entries);
    }

    #[test]
    fn mutated_bytes_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        fix in any::<bool>(),
    ) {
        let mut bytes = write(&sample());
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if fix {
                // With a right checksum the change gets further.
                let start = at / BLOCK * BLOCK;
                let mut block: [u8; BLOCK] = bytes[start..start + BLOCK].try_into().unwrap();
                header::put_checksum(&mut block);
                bytes[start..start + BLOCK].copy_from_slice(&block);
            }
        }
        let limits = Limits { total_bytes: 1 << 20, ..Limits::default() };
        if let Ok((seen, _)) = read_with(&bytes, &limits) {
            for (entry, _) in seen {
                prop_assert!(!entry.path.starts_with(b"/"));
                prop_assert!(!entry.path.split(|b| *b == b'/').any(|part| part == b".."));
            }
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let limits = Limits { total_bytes: 1 << 20, ..Limits::default() };
        let _ = read_with(&bytes, &limits);
        for magic in [&[0x1f, 0x8b, 8][..], &[0x28, 0xb5, 0x2f, 0xfd], &[0x50, 0x2a, 0x4d, 0x18]] {
            let _ = read_with(&[magic, &bytes].concat(), &limits);
        }
    }
}
