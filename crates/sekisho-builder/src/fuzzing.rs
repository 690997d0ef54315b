//! What the fuzz targets of `fuzz/` call, for they are not of this crate: no interface of it.
//!
//! Each function takes any bytes, and panics when something does not hold.

use std::io::{self, Cursor, Read as _, Seek as _, Write as _};
use std::path::Path;

use jiff::Timestamp;
use sekisho_dockerfile::git::GitRef;
use sekisho_oci::layer::{self, Entry, EntryKind, Limits};
use sekisho_types::Sha256Writer;
use tokio_util::sync::CancellationToken;

use crate::archive::{extract, is_archive, opened};
use crate::chmod::Chmod;
use crate::fetch::{self, http_date};
use crate::files::{self, Apply, FileMap, IndexWriter, NodeKind};
use crate::options::NamedContext;
use crate::users::{UserError, find, is_numeric};
use crate::{git, pattern};

/// A pattern of COPY; after a NUL, a name.
pub fn pattern(input: &[u8]) {
    let at = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (text, name) = (String::from_utf8_lossy(&input[..at]), input.get(at + 1..).unwrap_or(b""));
    let found = pattern::matches(&text, name);
    // Whether it is a pattern does not depend on the name.
    assert_eq!(found.is_none(), pattern::matches(&text, b"").is_none(), "{text}");
    if !pattern::is_pattern(&text) {
        assert_eq!(found, Some(text.as_bytes() == name), "{text}");
    }
    if let Ok(name) = std::str::from_utf8(name) {
        let escaped: String = name.chars().flat_map(|c| ['\\', c]).collect();
        let escaped = escaped.replace("\\/", "/");
        assert_eq!(pattern::matches(&escaped, name.as_bytes()), Some(true), "{name}");
    }
    let any = vec!["*"; name.split(|byte| *byte == b'/').count()].join("/");
    assert_eq!(pattern::matches(&any, name), Some(true), "{any}");
    assert_eq!(pattern::matches(&format!("{any}/*"), name), Some(false), "{any}/*");
}

/// A `--chmod`.
pub fn chmod(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Some(chmod) = Chmod::parse(&text) else { return };
    for mode in [0, 0o644, 0o755, 0o4711, 0o7777, 0o100_644, u32::MAX] {
        for is_folder in [false, true] {
            let after = chmod.apply(mode, is_folder);
            assert!(after <= 0o7777, "{text}: {after:o}");
            if let Chmod::Octal(octal) = chmod {
                assert!(
                    after == octal
                        && text.trim_start_matches('0')
                            == format!("{octal:o}").trim_start_matches('0')
                );
            }
        }
    }
}

/// A `user[:group]`; after NULs, the image's `/etc/passwd` and `/etc/group`.
pub fn user(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut parts = text.splitn(3, '\0');
    let mut next = || parts.next().unwrap_or_default();
    let (who, passwd, group) = (next(), next(), next());
    let found = find(who, passwd, group);
    if is_numeric(who) && who.split(':').count() <= 2 {
        let numbers: Vec<u32> = who.split(':').filter_map(|number| number.parse().ok()).collect();
        let user = found.as_ref().map(|it| (it.user.uid, it.user.gid));
        assert_eq!(user.map(|it| it.0), Ok(numbers[0]), "{who}");
        assert!(numbers.get(1).is_none_or(|gid| user.is_ok_and(|it| it.1 == *gid)), "{who}");
    }
    match found {
        Ok(person) => {
            assert!(!person.home.is_empty());
            let names_group = who.split_once(':').is_some_and(|(_, group)| !group.is_empty());
            assert!(!names_group || person.user.groups.is_empty(), "{who}");
        }
        Err(UserError::NoUser(name) | UserError::NoGroup(name)) => assert!(who.contains(&name)),
    }
}

/// The address of an ADD; after a NUL, a `Last-Modified`.
pub fn remote_file(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (address, date) = text.split_once('\0').unwrap_or((&text, ""));
    if let Ok(url) = fetch::parse(address) {
        assert!(url.username().is_empty() && url.password().is_none(), "{url}");
        let name = fetch::file_name(&url);
        let inside = |name: &String| Path::new(name).file_name() == Some(name.as_ref());
        assert!(name.as_ref().is_none_or(inside), "{name:?}");
    }
    if let Some(second) = http_date(date) {
        let at = Timestamp::from_second(second);
        let written = at.map(|at| at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string());
        assert_eq!(written.ok().as_deref().and_then(http_date), Some(second), "{date}");
    }
}

/// The value of a `--build-context`, or the name of a git repository.
pub fn context(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match NamedContext::parse(&text) {
        Ok(NamedContext::OciLayout { path, name }) => {
            assert!(text.starts_with(&format!("oci-layout://{}", path.display())));
            assert!(name.is_none_or(|name| text.ends_with(&name)), "{text}");
        }
        Ok(NamedContext::Directory(path)) => assert_eq!(path, Path::new(&*text)),
        Ok(NamedContext::Image(name) | NamedContext::Stage(name) | NamedContext::Remote(name)) => {
            assert!(text.ends_with(&name), "{text}");
        }
        Err(problem) => assert!(GitRef::parse(&text) == Err(problem), "{text}"),
    }
    let Ok(Some(named)) = GitRef::parse(&text) else { return };
    // What git is given: no option, nothing that ends a line or a string.
    let plain = |text: &str| !text.starts_with('-') && !text.contains(char::is_control);
    assert!(plain(&named.remote) && named.reference.as_deref().is_none_or(plain), "{named:?}");
    let inside = |folder: &str| folder.split('/').all(|part| part != ".." && part != ".git");
    assert!(named.subdir.as_deref().is_none_or(|it| inside(it) && plain_folder(it)), "{named:?}");
    if let Some(host) = git::host(&named.remote) {
        assert!(named.remote.contains(&host) && !host.contains(['/', '@']), "{host}");
        assert!(!host.starts_with('-'), "{host}");
    }
}

fn plain_folder(text: &str) -> bool {
    !text.contains(char::is_control) && !text.starts_with('/')
}

/// The pieces of a layer's index, as the cache keeps it between what it begins with and its digest; before them,
/// up to a NUL, a path that is looked up in it.
pub fn layer_record(input: &[u8]) {
    let at = input.iter().position(|byte| *byte == 0).unwrap_or(input.len());
    let (path, pieces) = (&input[..at], input.get(at + 1..).unwrap_or_default());
    let read = |record: &[u8]| {
        let mut entries = Vec::new();
        let gone = files::read_from(record, &mut |entry| entries.push(entry)).ok()?;
        Some((entries, gone))
    };
    let mut whole = Sha256Writer::new(Vec::new());
    let _ = whole.write_all(&[files::MAGIC, pieces].concat());
    let (mut whole, sum, _) = whole.finish_bytes();
    whole.extend(sum);
    let Some(found) = read(&whole) else { return };
    let write = || -> io::Result<Vec<u8>> {
        let mut writer = IndexWriter::new(Vec::new())?;
        found.0.iter().cloned().try_for_each(|entry| writer.entry(entry))?;
        found.1.removed.iter().cloned().for_each(|path| writer.removed(path));
        found.1.opaque.iter().cloned().for_each(|path| writer.opaque(path));
        writer.end()
    };
    assert_eq!(write().ok().and_then(|record| read(&record)).as_ref(), Some(&found));
    let mut map = FileMap::default();
    for number in 0..2 {
        let mut apply = Apply::new(&mut map, number);
        found.0.iter().cloned().for_each(|entry| apply.entry(entry));
        apply.finish(&found.1);
    }
    for follow in [false, true] {
        let Ok(found) = map.resolve(path, follow) else { continue };
        let plain = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
        assert!(found.is_empty() || found.split(|byte| *byte == b'/').all(plain), "{found:?}");
        let is_link = matches!(map.get(&found).map(|it| &it.kind), Some(NodeKind::Symlink { .. }));
        assert!(!follow || !is_link, "{found:?} is a link");
    }
}

/// Archives to begin with: bzip2, gzip, zstd and plain.
pub fn archive_seeds() -> Vec<Vec<u8>> {
    let mut writer = layer::Writer::new(Vec::new());
    let link = |path: &str, target: &str| Entry {
        kind: EntryKind::Symlink { target: target.into() },
        ..Entry::file(path, 0)
    };
    let entries = [
        Entry::directory("d"),
        Entry::file("d/a", 5),
        link("out", "../.."),
        link("up", "/"),
        Entry { kind: EntryKind::HardLink { target: b"d/a".to_vec() }, ..Entry::file("h", 0) },
    ];
    for entry in entries {
        let data = if entry.size() > 0 { &b"hello"[..] } else { b"" };
        let _ = writer.append_data(&entry, &mut { data });
    }
    let plain = writer.finish().unwrap_or_default();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let written = bzip2.write_all(&plain).and_then(|()| gzip.write_all(&plain));
    let packed = [bzip2.finish(), gzip.finish(), zstd::encode_all(&plain[..], 1)];
    let packed = packed.into_iter().filter(|_| written.is_ok()).flatten();
    packed.chain([plain.clone()]).collect()
}

/// An archive of ADD, or of a context.
pub fn archive(input: &[u8]) {
    let limits = Limits { total_bytes: 4 << 20, entries: 2_000, ..Limits::default() };
    let Ok(reader) = opened(Cursor::new(input.to_vec())) else { return };
    let mut has_links = false;
    let read = layer::read(reader, &limits, &mut |entry, data| {
        has_links |= matches!(entry.kind, EntryKind::Symlink { .. } | EntryKind::HardLink { .. });
        let mut content = Vec::new();
        data.take(limits.total_bytes).read_to_end(&mut content)?;
        assert_eq!(content.len() as u64, entry.size());
        Ok(())
    });
    // Made for real only where somebody may be led astray, for that takes long.
    if read.is_ok() && has_links {
        stays_inside(input);
    }
}

/// Whether nothing is made beside the folder that it is unpacked into.
fn stays_inside(input: &[u8]) {
    let Ok(around) = tempfile::tempdir() else { return };
    let folder = around.path().join("folder");
    let Ok(mut file) = tempfile::tempfile_in(around.path()) else { return };
    let ready = std::fs::create_dir(&folder).and_then(|()| file.write_all(input));
    if ready.and_then(|()| file.rewind()).is_err() {
        return;
    }
    assert!(is_archive(&mut file).is_ok());
    let _ = extract(file, &CancellationToken::new(), &folder);
    let beside = std::fs::read_dir(around.path()).into_iter().flatten().count();
    assert_eq!(beside, 1, "something was made beside the folder");
}

/// An index to begin with: `a/c` by way of a link, a file, a folder, and what is gone.
pub fn layer_record_seed() -> Vec<u8> {
    let node = |path: &[u8], kind| files::IndexEntry {
        path: path.to_vec(),
        node: files::Node::new(kind, 0o755),
    };
    let file = NodeKind::File { size: 1, digest: files::Known::default() };
    let entries = [
        node(b"a", NodeKind::Symlink { target: b"../../b".to_vec() }),
        node(b"b", NodeKind::Directory),
        node(b"b/c", file),
    ];
    let write = || -> io::Result<Vec<u8>> {
        let mut writer = IndexWriter::new(Vec::new())?;
        entries.into_iter().try_for_each(|entry| writer.entry(entry))?;
        writer.removed(b"x\xff".to_vec());
        writer.opaque(b"b".to_vec());
        writer.end()
    };
    let whole = write().unwrap_or_default();
    let pieces = whole.strip_prefix(files::MAGIC).and_then(|rest| rest.split_last_chunk::<32>());
    [&b"a/c\0"[..], pieces.map_or(&b""[..], |(pieces, _)| pieces)].concat()
}
