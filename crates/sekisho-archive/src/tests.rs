//! What was written is read, from every line, by us and by `zcat`, and after a kill at any byte.

use std::process::Command;

use proptest::prelude::*;

use super::*;

fn log(lines: &[&str], flush_every: usize) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run/job.log.gz");
    let mut writer = Writer::create(&path).unwrap();
    for (number, line) in lines.iter().enumerate() {
        writer.line(line.as_bytes()).unwrap();
        if number % flush_every == flush_every - 1 {
            writer.flush().unwrap();
        }
    }
    assert_eq!(writer.lines(), lines.len() as u64);
    writer.finish().unwrap();
    (folder, path)
}

#[test]
fn a_reader_follows_a_writer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("job.log.gz");
    let mut writer = Writer::create(&path).unwrap();
    let mut reader = Reader::open(&path).unwrap();
    assert_eq!(reader.next_text().unwrap(), None);
    writer.line(b"one").unwrap();
    assert_eq!(reader.next_text().unwrap(), None, "not flushed yet");
    writer.flush().unwrap();
    assert_eq!(reader.next_text().unwrap().as_deref(), Some("one\n"));
    writer.line(b"").unwrap();
    writer.line(b"two\nhalves").unwrap();
    writer.flush().unwrap();
    assert_eq!(reader.next_text().unwrap().as_deref(), Some("\ntwo halves\n"));
    assert_eq!(reader.next_text().unwrap(), None);
}

#[test]
fn a_log_has_one_writer() {
    let (_folder, path) = log(&["x"], 1);
    assert!(matches!(Writer::create(&path), Err(ArchiveError::Io { verb: "create", .. })));
    let missing = path.with_extension("gone");
    let error = Reader::open(&missing).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read the log `{}`", missing.display()));
}

#[test]
fn zcat_reads_it() {
    let lines: Vec<String> = (0..5_000).map(|n| format!("line {n}")).collect();
    let borrowed: Vec<&str> = lines.iter().map(String::as_str).collect();
    let (_folder, path) = log(&borrowed, 700);
    let output = Command::new("zcat").arg(&path).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), lines.join("\n") + "\n");
}

#[test]
fn a_line_longer_than_a_member_is_cut_not_lost() {
    // Not compressible, so that the 16-bit size of a member is put to the test too.
    let noise: Vec<u8> = (0..100_000_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[3])
        .map(|byte| if byte == b'\n' || byte == b'\r' || byte >= 128 { b'x' } else { byte })
        .collect();
    let text = String::from_utf8(noise).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.log.gz");
    let mut writer = Writer::create(&path).unwrap();
    writer.line(text.as_bytes()).unwrap();
    writer.finish().unwrap();
    let lines = Reader::open(&path).unwrap().rest().unwrap();
    assert_eq!(lines.len(), text.len().div_ceil(MAX_LINE));
    assert_eq!(lines.concat(), text);
}

#[test]
fn a_full_log_says_how_much_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("full.log.gz");
    let mut writer = Writer::create_with_room(&path, 8).unwrap();
    for line in ["one", "two", "three", "x"] {
        writer.line(line.as_bytes()).unwrap();
    }
    assert_eq!(writer.lines(), 2);
    writer.finish().unwrap();
    let lines = Reader::open(&path).unwrap().rest().unwrap();
    assert_eq!(lines, ["one", "two", "… 2 more lines were not kept: the log is full"]);
}

#[test]
fn damage_in_the_middle_is_named() {
    let (_folder, path) = log(&["one", "two"], 1);
    let mut bytes = fs_err::read(&path).unwrap();
    let middle = bytes.len() / 2 - 2;
    bytes[middle] ^= 0xff;
    fs_err::write(&path, &bytes).unwrap();
    let error = Reader::open(&path).unwrap().rest().unwrap_err();
    assert!(matches!(error, ArchiveError::Damaged { offset: 0, .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_line_is_found_from_everywhere(
        lines in proptest::collection::vec("[a-z ]{0,40}", 1..200),
        flush_every in 1..50_usize,
        first in 0..220_u64,
        cut in any::<prop::sample::Index>(),
    ) {
        let borrowed: Vec<&str> = lines.iter().map(String::as_str).collect();
        let (_folder, path) = log(&borrowed, flush_every);
        let mut reader = Reader::open(&path).unwrap();
        let skip = usize::try_from(first).unwrap().min(lines.len());
        reader.seek_line(first).unwrap();
        prop_assert_eq!(reader.rest().unwrap(), &lines[skip..]);
        reader.seek_tail(first).unwrap();
        let tail = reader.rest().unwrap();
        prop_assert_eq!(&tail[..], &lines[lines.len() - skip..]);

        // A killed writer: the file ends at any byte, and what is read is a prefix.
        let bytes = fs_err::read(&path).unwrap();
        fs_err::write(&path, &bytes[..cut.index(bytes.len() + 1)]).unwrap();
        let kept = Reader::open(&path).unwrap().rest().unwrap();
        prop_assert_eq!(&lines[..kept.len()], &kept[..]);
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs_err::write(&path, bytes).unwrap();
        let mut reader = Reader::open(&path).unwrap();
        if reader.seek_tail(3).is_ok() {
            let _ = reader.rest();
        }
    }
}
