use std::io::{self, Cursor, Read, Write};

use super::*;

mod properties;

type Seen = Vec<(Entry, Vec<u8>)>;

fn write(entries: &[(Entry, Vec<u8>)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (entry, data) in entries {
        writer.append_data(entry, &mut data.as_slice()).unwrap();
    }
    writer.finish().unwrap()
}

fn read_with(bytes: &[u8], limits: &Limits) -> Result<(Seen, Summary), ReadError> {
    let mut seen = Vec::new();
    let summary = read(bytes, limits, &mut |entry, data| {
        let mut bytes = Vec::new();
        data.read_to_end(&mut bytes)?;
        seen.push((entry.clone(), bytes));
        Ok(())
    })?;
    Ok((seen, summary))
}

fn read_all(bytes: &[u8]) -> Result<Seen, ReadError> {
    Ok(read_with(bytes, &Limits::default())?.0)
}

fn sample() -> Seen {
    let plain = |entry| (entry, Vec::new());
    let mut owned = Entry::file("etc/passwd", 5);
    owned.uid = 3_000_000;
    owned.gid = 7;
    owned.mode = 0o4711;
    owned.mtime = 1_700_000_000;
    owned.xattrs.insert(b"security.capability".to_vec(), vec![1, 0, 0, 2, b'\n', 0xff]);
    owned.xattrs.insert(b"user.empty".to_vec(), vec![]);
    let mut old = Entry::directory("old");
    old.mtime = -5;
    vec![
        plain(Entry::directory("")),
        plain(Entry::directory("etc")),
        (owned, b"root\n".to_vec()),
        plain(Entry::new("etc/link", EntryKind::Symlink { target: b"/../etc/x".to_vec() })),
        plain(Entry::new("etc/again", EntryKind::HardLink { target: b"etc/passwd".to_vec() })),
        plain(Entry::new("dev/null", EntryKind::CharDevice { major: 1, minor: 3 })),
        plain(Entry::new("dev/sda", EntryKind::BlockDevice { major: 8, minor: 1_000_000 })),
        plain(Entry::new("run/pipe", EntryKind::Fifo)),
        plain(old),
        (Entry::file(format!("{}/name", "d".repeat(120)), 600), vec![b'x'; 600]),
        (Entry::file("n".repeat(101), 512), vec![b'y'; 512]),
        (Entry::file("å/日本語 ☃".as_bytes(), 1), b"z".to_vec()),
        (Entry::file(&b"not\xffutf8\n"[..], 0), vec![]),
        plain(Entry::new("l", EntryKind::Symlink { target: "t/".repeat(200).into() })),
        plain(Entry::directory(format!("{}/{}", "p".repeat(90), "q".repeat(99)))),
    ]
}

#[test]
fn what_is_written_is_read() {
    let bytes = write(&sample());
    assert_eq!(bytes, write(&sample()));
    assert_eq!(read_all(&bytes).unwrap(), sample());
}

/// The bytes are part of what a digest is made of: a change of them is a change of every layer.
#[test]
fn bytes_do_not_change() {
    use sekisho_types::Digest;
    let digest = Digest::sha256(&write(&sample()));
    assert_eq!(
        digest.to_string(),
        "sha256:23a41609edfe90c1cb33eb153d5957db72325538b84327eb0e0dfc0c3ee375e7"
    );
}

#[test]
fn another_reader_sees_the_same() {
    let bytes = write(&sample());
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut paths = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut data = Vec::new();
        entry.read_to_end(&mut data).unwrap();
        let link = entry.link_name_bytes().map(|link| display_path(&link));
        paths.push((display_path(&entry.path_bytes()), data.len(), link));
    }
    let want: Vec<_> = sample()
        .into_iter()
        .map(|(entry, data)| {
            let mut path = entry.path.clone();
            if entry.kind == EntryKind::Directory {
                path.extend_from_slice(if path.is_empty() { b"./" } else { b"/" });
            }
            let link = match entry.kind {
                EntryKind::Symlink { target } | EntryKind::HardLink { target } => {
                    Some(display_path(&target))
                }
                _ => None,
            };
            (display_path(&path), data.len(), link)
        })
        .collect();
    assert_eq!(paths, want);
}

#[test]
fn refuses_entries_that_cannot_be_written() {
    let mut writer = Writer::new(Vec::new());
    for (path, want) in [
        ("", "`` is no path of a layer: it names the root or nothing"),
        ("/a", "`/a` is no path of a layer: it is absolute"),
        ("a/../b", "`a/../b` is no path of a layer: it leads out of its folder with `..`"),
        ("a//b", "`a//b` is no path of a layer: it has an empty or `.` component"),
        ("a/", "`a/` is no path of a layer: it has an empty or `.` component"),
    ] {
        let error = writer.append(&Entry::file(path, 0)).unwrap_err();
        assert_eq!(error.to_string(), want);
    }
    let short = writer.append_data(&Entry::file("a", 3), &mut &b"ab"[..]).unwrap_err();
    assert_eq!(short.to_string(), "data of `a` is not 3 bytes long");
    let long = writer.append_data(&Entry::file("a", 3), &mut &b"abcd"[..]).unwrap_err();
    assert_eq!(long.to_string(), "data of `a` is not 3 bytes long");
    let mut bad = Entry::file("a", 0);
    bad.xattrs.insert(b"user.a=b".to_vec(), vec![]);
    assert!(matches!(writer.append(&bad), Err(WriteError::Xattr { .. })));
}

/// A header block that the writer would not write.
fn raw(kind: u8, name: &[u8], size: &[u8], data: &[u8]) -> Vec<u8> {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name);
    block[header::SIZE][..size.len()].copy_from_slice(size);
    block[header::TYPE] = kind;
    block[header::MAGIC].copy_from_slice(b"ustar\x0000");
    if matches!(kind, b'1' | b'2') {
        block[header::LINK][..6].copy_from_slice(b"target");
    }
    header::put_checksum(&mut block);
    let mut bytes = block.to_vec();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut data = Vec::new();
    for (key, value) in records {
        super::pax::put(&mut data, key.as_bytes(), value);
    }
    raw(b'x', b"pax", format!("{:o}", data.len()).as_bytes(), &data)
}

const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

fn archive(parts: &[&[u8]]) -> Vec<u8> {
    [&parts.concat()[..], &END].concat()
}

#[test]
fn reads_what_other_programs_write() {
    // GNU long names.
    let name = "g".repeat(150);
    let long = raw(b'L', b"././@LongLink", b"227", format!("{name}\0").as_bytes());
    let bytes = archive(&[&long, &raw(b'0', b"short", b"1", b"x")]);
    assert_eq!(read_all(&bytes).unwrap(), [(with_mode(Entry::file(name, 1)), b"x".to_vec())]);
    // The size of a PAX record wins, and so does what follows it.
    let bytes = archive(&[
        &pax(&[("size", b"3"), ("path", b"./pax//name")]),
        &raw(b'0', b"a", b"0", b"abc"),
        &raw(0, b"old/", b"0", b""),
        &raw(b'1', b"hard", b"5", b""),
    ]);
    let paths: Vec<_> = read_all(&bytes)
        .unwrap()
        .into_iter()
        .map(|(entry, data)| (entry.display_path(), entry.kind, data))
        .collect();
    assert_eq!(
        paths,
        [
            ("pax/name".to_owned(), EntryKind::File { size: 3 }, b"abc".to_vec()),
            ("old".to_owned(), EntryKind::Directory, vec![]),
            ("hard".to_owned(), EntryKind::HardLink { target: b"target".to_vec() }, vec![]),
        ]
    );
    // A size in base 256.
    let bytes = archive(&[&raw(b'0', b"big", b"\x80\0\0\0\0\0\0\0\0\0\0\x02", b"xy")]);
    assert_eq!(read_all(&bytes).unwrap()[0].1, b"xy");
}

fn with_mode(mut entry: Entry) -> Entry {
    entry.mode = 0;
    entry
}

#[track_caller]
fn refused(bytes: &[u8], want: &str) {
    let error = read_all(bytes).unwrap_err();
    assert_eq!(error.to_string(), want);
}

#[test]
fn refuses_what_programs_read_differently() {
    let file = raw(b'0', b"a", b"0", b"");
    let at = |offset, problem: &str| {
        format!("layer has a malformed tar header at byte {offset}: {problem}")
    };
    refused(&archive(&[&raw(b'5', b"d", b"1", b"x")]), &at(0, "entry that is no file has a size"));
    refused(
        &archive(&[&pax(&[("path", b"x")]), &pax(&[("path", b"y")]), &file]),
        &at(1024, "extension header stands twice"),
    );
    let long = raw(b'L', b"long", b"2", b"zz");
    refused(
        &archive(&[&pax(&[("path", b"x")]), &long, &file]),
        &at(2048, "name stands in a PAX record and in a GNU header"),
    );
    let mut global = pax(&[("path", b"x")]);
    global[header::TYPE] = b'g';
    let mut block: [u8; BLOCK] = global[..BLOCK].try_into().unwrap();
    header::put_checksum(&mut block);
    global[..BLOCK].copy_from_slice(&block);
    refused(
        &archive(&[&global, &file]),
        &at(0, "global PAX record that programs read in different ways"),
    );
    let mut wrong = file.clone();
    wrong[0] = b'b';
    refused(&archive(&[&wrong]), &at(0, "checksum is wrong"));
    refused(
        &archive(&[&[0; BLOCK], &file]),
        &at(0, "one zero block stands where two or none are expected"),
    );
    let unsupported = "layer has an entry that is not supported at byte";
    refused(&archive(&[&raw(b'S', b"s", b"0", b"")]), &format!("{unsupported} 0: sparse file"));
    refused(
        &archive(&[&pax(&[("GNU.sparse.major", b"1")]), &file]),
        &format!("{unsupported} 1024: sparse file"),
    );
    refused(&archive(&[&raw(b'M', b"m", b"0", b"")]), &format!("{unsupported} 0: type `M`"));
}

#[test]
fn refuses_unsafe_paths() {
    let unsafe_path = "layer has an unsafe path:";
    for (name, problem) in [
        ("../x", "leads out of its folder with `..`"),
        ("a/../../x", "leads out of its folder with `..`"),
        ("/etc/passwd", "is absolute"),
        ("./", "names the root or nothing"),
    ] {
        let bytes = archive(&[&raw(b'0', name.as_bytes(), b"0", b"")]);
        refused(&bytes, &format!("{unsafe_path} `{name}` {problem}"));
    }
    let link = archive(&[&pax(&[("linkpath", b"../../etc/shadow")]), &raw(b'1', b"a", b"0", b"")]);
    refused(&link, &format!("{unsafe_path} `../../etc/shadow` leads out of its folder with `..`"));
    let limits = Limits { absolute_paths: AbsolutePaths::MakeRelative, ..Limits::default() };
    let (seen, _) = read_with(&archive(&[&raw(b'0', b"//etc/x", b"0", b"")]), &limits).unwrap();
    assert_eq!(seen[0].0.path, b"etc/x");
}

#[test]
fn holds_to_limits() {
    let bytes = write(&sample());
    let check = |limits: Limits, want: &str| {
        let error = read_with(&bytes, &limits).unwrap_err();
        assert_eq!(error.to_string(), want);
    };
    let limits = Limits::default();
    check(Limits { entries: 3, ..limits.clone() }, "layer has more than 3 entries");
    check(Limits { path_bytes: 50, ..limits.clone() }, "layer has more than 50 bytes in a path");
    check(
        Limits { header_bytes: 100, ..limits.clone() },
        "layer has more than 100 header bytes for one entry",
    );
    let total = bytes.len() as u64;
    assert!(read_with(&bytes, &Limits { total_bytes: total, ..limits.clone() }).is_ok());
    check(
        Limits { total_bytes: total - 1, ..limits },
        &format!("layer has more than {} decompressed bytes", total - 1),
    );
}

#[test]
fn every_cut_is_seen() {
    let bytes = write(&sample());
    // A prime step meets every offset within a block somewhere; the blocks' own ends come too.
    let ends = (0..bytes.len()).filter(|end| end % 13 == 0 || end % BLOCK == 0);
    for end in ends {
        let error = read_all(&bytes[..end]).unwrap_err();
        assert!(matches!(error, ReadError::Truncated { .. }), "cut at {end}: {error}");
    }
    // Without the mark only a cut between two entries goes unseen, as it does at runtimes.
    let limits = Limits { end_mark: EndMark::Optional, ..Limits::default() };
    for end in (0..bytes.len()).step_by(101) {
        assert!(end % BLOCK == 0 || read_with(&bytes[..end], &limits).is_err(), "cut at {end}");
    }
}

#[test]
fn bytes_after_the_end_are_counted_or_read() {
    let one = write(&[(Entry::file("one", 1), b"1".to_vec())]);
    let two = write(&[(Entry::file("two", 1), b"2".to_vec())]);
    let both = [&one[..], &[0; 3 * BLOCK], &two].concat();
    let (seen, summary) = read_with(&both, &Limits::default()).unwrap();
    assert_eq!((seen.len(), summary.entries), (1, 1));
    assert_eq!(summary.trailing_bytes, two.len() as u64);
    assert_eq!(summary.bytes, both.len() as u64);
    let limits = Limits { after_end: AfterEnd::Continue, ..Limits::default() };
    let (seen, summary) = read_with(&both, &limits).unwrap();
    assert_eq!((seen[1].0.path.as_slice(), summary.trailing_bytes), (&b"two"[..], 0));
    assert_eq!(read_with(&one, &limits).unwrap().1.trailing_bytes, 0);
}

#[test]
fn decompresses_by_magic() {
    let bytes = write(&sample());
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| {
        ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
    };
    let (head, tail) = bytes.split_at(700);
    let skippable = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0], &b"abc"[..]].concat();
    for (compressed, want) in [
        (bytes.clone(), Compression::Plain),
        (gzip(&bytes), Compression::Gzip),
        ([gzip(head), gzip(tail)].concat(), Compression::Gzip),
        (zstd(&bytes), Compression::Zstd),
        ([skippable.clone(), zstd(head), skippable, zstd(tail)].concat(), Compression::Zstd),
    ] {
        let (seen, summary) = read_with(&compressed, &Limits::default()).unwrap();
        assert_eq!((seen, summary.compression), (sample(), want));
        if want != Compression::Plain {
            assert!(read_all(&compressed[..compressed.len() - 9]).is_err(), "{want:?}");
            assert!(read_all(&[&compressed[..], b"garbage"].concat()).is_err(), "{want:?}");
        }
    }
}

#[test]
fn a_bomb_stops_at_the_budget() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    io::copy(&mut io::repeat(0).take(64 << 20), &mut encoder).unwrap();
    let bomb = encoder.finish().unwrap();
    assert!(bomb.len() < 100_000);
    let mut decoder = decompress(Cursor::new(&bomb), 1 << 20).unwrap();
    let error = io::copy(&mut decoder, &mut io::sink()).unwrap_err();
    assert_eq!(error.to_string(), "layer is larger than 1048576 bytes when decompressed");
    assert_eq!(decoder.decompressed_bytes(), 1 << 20);
    let limits = Limits { total_bytes: 1 << 20, ..Limits::default() };
    let error = read(bomb.as_slice(), &limits, &mut |_, _| Ok(())).unwrap_err();
    assert!(matches!(error, ReadError::Limit { .. }), "{error}");
}

#[test]
fn the_visitor_may_skip_and_may_fail() {
    let bytes = write(&sample());
    let mut paths = 0;
    read(bytes.as_slice(), &Limits::default(), &mut |_, data| {
        paths += 1;
        data.read_exact(&mut []).map(drop)
    })
    .unwrap();
    assert_eq!(paths, sample().len());
    let error = read(bytes.as_slice(), &Limits::default(), &mut |entry, _| {
        if entry.path == b"etc/passwd" { Err(io::Error::other("no")) } else { Ok(()) }
    })
    .unwrap_err();
    assert_eq!(error.to_string(), "layer entry `etc/passwd` cannot be handled");
}
