//! Secrets in layers, also in files that a later layer hides.

use jiff::Timestamp;
use sekisho_advisory::Database;
use sekisho_scanner::{FingerprintKey, Limits, index_layer, inspect};

use crate::{Item, file, tar};

/// Of the right form, and nobody's: made here, so that it stands nowhere.
fn key() -> String {
    let body: Vec<String> = (0..300_u32)
        .map(|at| {
            char::from(b'A' + ((at.wrapping_mul(2_654_435_761) >> 16) % 26) as u8).to_string()
        })
        .collect();
    format!("-----BEGIN PRIVATE KEY-----\nMIIE{}\n-----END PRIVATE KEY-----\n", body.concat())
}

fn limits(key: u8) -> Limits {
    Limits { fingerprint_key: Some(FingerprintKey::new(&[key; 32])), ..Limits::default() }
}

#[test]
fn a_secret_that_a_later_layer_removes_is_still_there() {
    let text = format!("a\nb\n{}", key());
    let lower =
        tar(&[file("app/key.pem", text.clone()), file("usr/share/app/tests/key.pem", text)]);
    let lower = index_layer(lower.as_slice(), &limits(1)).unwrap();
    let upper = tar(&[Item::Gone("app")]);
    let upper = index_layer(upper.as_slice(), &limits(1)).unwrap();
    let database = Database::from_json([], Timestamp::UNIX_EPOCH).unwrap();
    let report = inspect(&[lower.clone(), upper], &database);
    let told: Vec<_> = report
        .secrets
        .iter()
        .map(|it| (it.kind.as_str(), it.path.as_str(), it.line, it.offset, it.sample))
        .collect();
    assert_eq!(
        told,
        [
            ("private-key", "app/key.pem", 3, 4, false),
            ("private-key", "usr/share/app/tests/key.pem", 3, 4, true),
        ]
    );
    assert!(report.secrets.iter().all(|it| it.layer.as_ref() == Some(&lower.diff_id)));
    assert_eq!(report.secrets[0].fingerprint, report.secrets[1].fingerprint);
    let kept = serde_json::to_string(&lower).unwrap();
    assert!(!kept.contains("MIIE"), "the value is nowhere: {kept}");
}

#[test]
fn package_files_are_searched_too_and_all_beyond_a_hundred_counted() {
    let lines: String = (0..150).map(|_| key()).collect();
    let layer = tar(&[file("app/package-lock.json", lines)]);
    let index = index_layer(layer.as_slice(), &limits(1)).unwrap();
    assert_eq!((index.secrets.len(), index.more_secrets), (100, 50));
    assert_eq!(index.secrets[1].line, 4);
}

/// Files whose packages are not read are searched all the same, whatever they are called.
#[test]
fn no_name_of_a_file_hides_a_secret() {
    let paths = [
        "app/yarn.lock",
        "app/pnpm-lock.yaml",
        "lib64/ld-linux-x86-64.so.2",
        "var/lib/rpm/Packages",
        "app/go.sum",
        "app/app.jar",
        "home/demo/.ssh/id_rsa",
        "srv/info/tls.key",
    ];
    let items: Vec<Item> = paths.iter().map(|path| file(path, key())).collect();
    let index = index_layer(tar(&items).as_slice(), &limits(1)).unwrap();
    let found: Vec<_> = index.secrets.iter().map(|it| (it.path.as_str(), it.sample)).collect();
    assert_eq!(found, paths.map(|path| (path, false)));
    // Nor does its size.
    let small = Limits { file_bytes: 10, ..limits(1) };
    let index = index_layer(tar(&[file("app/package-lock.json", key())]).as_slice(), &small);
    assert_eq!(index.unwrap().secrets.len(), 1);
}
