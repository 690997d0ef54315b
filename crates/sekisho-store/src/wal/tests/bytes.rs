//! What is written in a log is read again, and any other bytes are refused.

use proptest::prelude::*;

use super::*;

#[test]
fn a_log_that_leads_elsewhere_is_refused() {
    let roots = [PathBuf::from("/data/a"), PathBuf::from("/data/b")];
    let outside = encode(&[file(Path::new("/etc/passwd"), b"x")], &roots);
    assert!(outside.unwrap_err().to_string().contains("lies elsewhere"));
    for path in ["../c", "/etc", "x/../../y", ""] {
        let mut body = vec![0, 0];
        body.extend(u32::try_from(path.len()).unwrap().to_le_bytes());
        body.extend(path.as_bytes());
        body.extend([0; 8]);
        let error = decode(&body, &roots).unwrap_err().to_string();
        assert!(error.contains("leads elsewhere"), "{path}: {error}");
    }
    assert!(decode(&[9], &roots).unwrap_err().to_string().contains("unknown change"));
    assert!(
        decode(&[1, 7, 0, 0, 0, 0], &roots).unwrap_err().to_string().contains("unknown folder")
    );
}

fn change() -> impl Strategy<Value = Change> {
    let path = || {
        ("[a-z]{1,8}(/[a-zé-]{1,8}){0,3}", any::<bool>()).prop_map(|(name, other)| {
            PathBuf::from(if other { "/data/b" } else { "/data/a" }).join(name)
        })
    };
    prop_oneof![
        (path(), proptest::collection::vec(any::<u8>(), 0..300), any::<u32>()).prop_map(
            |(path, bytes, mode)| {
                let spool = path.parent().unwrap().to_owned();
                Change::File { path, bytes, mode, spool }
            }
        ),
        (path(), path()).prop_map(|(from, to)| Change::Link { from, to }),
        (path(), path()).prop_map(|(from, to)| Change::Rename { from, to }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(changes in proptest::collection::vec(change(), 1..6)) {
        let roots = [PathBuf::from("/data/a"), PathBuf::from("/data/b")];
        let body = encode(&changes, &roots).unwrap();
        prop_assert_eq!(decode(&body, &roots).unwrap(), changes);
    }

    #[test]
    fn any_bytes_are_a_log_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let roots = [PathBuf::from("/data/a")];
        let with_head = [b"SEKLOG1\n", bytes.as_slice()].concat();
        for bytes in [&bytes, &with_head] {
            for body in bodies(bytes).unwrap_or_default() {
                let _ = decode(body, &roots);
            }
        }
        let _ = decode(&bytes, &roots);
    }
}
