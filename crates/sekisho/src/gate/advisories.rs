//! What images are judged by: `advisories/`, where somebody put OSV's records there, else the few that come along.
//!
//! ```text
//!  advisories/ ─┬─ ANY-NAME.json   one record
//!               └─ ANY-NAME.zip    many, as OSV publishes all of an ecosystem
//! ```

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;
use sekisho_advisory::osv::Record;
use sekisho_advisory::{Builder, Database};
use zip::ZipArchive;

/// Largest record, in bytes: those of the kernel, with every version that there was, have some MB.
const MAX_RECORD_BYTES: u64 = 32 * 1024 * 1024;

/// Records that are unpacked before the first of them is kept, in bytes. What is kept of one lies behind what
/// unpacked it, whose place the next one's cannot take: a hundred thousand such holes had 2 GB.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// What is known about packages.
pub(super) struct Advisories {
    pub(super) database: Database,
    /// Equal names, equal records.
    pub(super) name: String,
}

/// Reads those of a folder; those that come along where there is no such folder. `now` is when.
///
/// # Errors
/// Something in it is no record, or there is nothing in it.
pub(super) fn read(folder: &Path, now: Timestamp) -> anyhow::Result<Advisories> {
    let Some(files) = listed(folder)? else {
        let database = sekisho_scanner::embedded_advisories(now)?;
        return Ok(named(database, "that come along"));
    };
    let mut records = Builder::new(now);
    for path in files {
        match path.extension().and_then(|it| it.to_str()) {
            Some("json") => {
                let file = BufReader::new(fs_err::File::open(&path)?);
                let name = path.display().to_string();
                add(&mut records, &name, &bytes(&name, file)?)?;
            }
            Some("zip") => of_zip(&mut records, &path)?,
            _ => bail!("`{}` is neither a record (`.json`) nor many (`.zip`)", path.display()),
        }
    }
    ensure!(
        records.taken() > 0,
        "`{}` holds no record: fill it, or take it away",
        folder.display()
    );
    let database = records.finish();
    let which = database.contents().hex().to_owned();
    Ok(named(database, &which))
}

fn named(database: Database, which: &str) -> Advisories {
    let newest = database.newest().map(|at| at.to_string()).unwrap_or_default();
    let name = format!("{} records {which}, newest {newest}", database.records());
    Advisories { database, name }
}

/// The files of a folder, in order; `None` where there is none. What a volume has for itself is left out.
fn listed(folder: &Path) -> anyhow::Result<Option<Vec<PathBuf>>> {
    let entries = match fs_err::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(b".") && name != "lost+found" {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(Some(files))
}

fn of_zip(records: &mut Builder, path: &Path) -> anyhow::Result<()> {
    let file = BufReader::new(fs_err::File::open(path)?);
    let no_zip = || format!("`{}` is no zip archive", path.display());
    let mut archive = ZipArchive::new(file).with_context(no_zip)?;
    let (mut batch, mut size) = (Vec::new(), 0);
    for number in 0..archive.len() {
        let entry = archive.by_index(number).with_context(no_zip)?;
        let said = entry.name().with_context(no_zip)?;
        let name = format!("{} in `{}`", said.escape_debug(), path.display());
        ensure!(said.ends_with(".json"), "{name} is no record (`.json`)");
        let bytes = bytes(&name, entry)?;
        size += bytes.len();
        batch.push((name, bytes));
        if size > BATCH_BYTES || number + 1 == archive.len() {
            batch.drain(..).try_for_each(|(name, bytes)| add(records, &name, &bytes))?;
            size = 0;
        }
    }
    Ok(())
}

fn bytes(name: &str, reader: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(MAX_RECORD_BYTES + 1).read_to_end(&mut bytes).context(name.to_owned())?;
    ensure!(
        bytes.len() as u64 <= MAX_RECORD_BYTES,
        "{name} has more than {MAX_RECORD_BYTES} bytes"
    );
    Ok(bytes)
}

fn add(records: &mut Builder, name: &str, bytes: &[u8]) -> anyhow::Result<()> {
    let record: Record = serde_json::from_slice(bytes)
        .with_context(|| format!("{name} is no advisory in OSV's schema"))?;
    Ok(records.add(record)?)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    use super::*;

    fn record(id: &str, day: u8) -> String {
        format!(
            "{{\"id\": \"{id}\", \"modified\": \"2026-11-{day:02}T00:00:00Z\", \"affected\": [{{\
             \"package\": {{\"ecosystem\": \"npm\", \"name\": \"left-pad\"}}, \"versions\": [\"1.{day}\"]}}]}}"
        )
    }

    fn zipped(entries: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = ZipWriter::new(std::io::Cursor::new(Vec::new()));
        for (name, text) in entries {
            archive.start_file(*name, SimpleFileOptions::default()).unwrap();
            archive.write_all(text.as_bytes()).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    fn of(files: &[(&str, &[u8])]) -> Result<Advisories, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs_err::write(dir.path().join(name), bytes).unwrap();
        }
        read(dir.path(), Timestamp::UNIX_EPOCH).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn records_are_read_by_themselves_and_in_archives() {
        let (old, new) = (record("GHSA-1", 1), record("GHSA-1", 2));
        let archive = zipped(&[("GHSA-1.json", &new), ("GHSA-2.json", &record("GHSA-2", 3))]);
        let archive = archive.as_slice();
        let both =
            of(&[("a.json", old.as_bytes()), ("npm.zip", archive), (".hidden", b"".as_slice())]);
        let both = both.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(both.database.records(), 2, "the same advisory once");
        assert_eq!(both.database.newest(), Some("2026-11-03T00:00:00Z".parse().unwrap()));
        // The newer of the two, whichever is read first.
        let again = of(&[("z.json", old.as_bytes()), ("npm.zip", archive)]).unwrap();
        assert_eq!(again.name, both.name);
        let other = of(&[("a.json", old.as_bytes()), ("b.json", record("GHSA-2", 3).as_bytes())]);
        assert_ne!(other.unwrap().name, both.name, "as many, as new, and others");
    }

    #[test]
    fn without_a_folder_those_count_that_come_along() {
        let read = read("/nowhere/advisories".as_ref(), Timestamp::UNIX_EPOCH).unwrap();
        assert!(read.database.records() > 20);
        assert!(read.name.contains("that come along"), "{}", read.name);
    }

    #[test]
    fn what_is_no_record_is_named() {
        let (not_a_record, no_json) = (zipped(&[("x.json", "{}")]), zipped(&[("x.txt", "{}")]));
        let cases: [(&str, &[u8], &str); 5] = [
            ("a.txt", b"", "a.txt` is neither a record"),
            ("a.json", b"{", "a.json is no advisory in OSV's schema"),
            ("a.zip", b"PK", "a.zip` is no zip archive"),
            ("a.zip", &not_a_record, "x.json in `"),
            ("a.zip", &no_json, "x.txt in `"),
        ];
        for (name, bytes, want) in cases {
            let error = of(&[(name, bytes)]).err().unwrap();
            assert!(error.contains(want), "{want}: {error}");
        }
        assert!(of(&[]).err().unwrap().contains("holds no record"));
    }
}
