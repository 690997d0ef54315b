//! A `.deb`: an `ar` archive of two compressed tars (deb(5)).

use sekisho_types::causes;
use std::io::{self, Read};

use lzma_rust2::XzReader;
use sekisho_oci::layer::{self, Entry, Limits};

use crate::DebianError;

const MAGIC: &[u8; 8] = b"!<arch>\n";

/// Of a member's header, in bytes.
const HEADER: usize = 60;

/// Members before the data: `debian-binary`, `control.tar`, and a few that others may add.
const MAX_MEMBERS: usize = 16;

/// Most memory for a decoder's dictionary, in KiB: what `xz -9` needs, twice.
const MAX_DICTIONARY_KIB: u32 = 128 << 10;

/// What a package may hold.
fn limits() -> Limits {
    Limits { entries: 500_000, total_bytes: 8 << 30, ..Limits::default() }
}

/// Gives every file of a package to `visitor`, in the archive's order.
///
/// # Errors
/// [`DebianError::Archive`] for what is no package, breaks a limit, or the visitor refuses.
pub fn data(
    mut file: impl Read,
    name: &str,
    visitor: &mut dyn FnMut(&Entry, &mut dyn Read) -> io::Result<()>,
) -> Result<(), DebianError> {
    let bad = |reason: String| DebianError::Archive { name: name.to_owned(), reason };
    let mut magic = [0; MAGIC.len()];
    file.read_exact(&mut magic).map_err(|error| bad(error.to_string()))?;
    if magic != *MAGIC {
        return Err(bad("it is no `ar` archive".to_owned()));
    }
    for _ in 0..MAX_MEMBERS {
        let mut header = [0; HEADER];
        file.read_exact(&mut header).map_err(|_| bad("it has no `data.tar`".to_owned()))?;
        let field = |range: std::ops::Range<usize>| {
            String::from_utf8_lossy(&header[range]).trim_end_matches([' ', '/']).to_owned()
        };
        let member = field(0..16);
        let size: u64 =
            field(48..58).parse().map_err(|_| bad(format!("`{member}` has no size")))?;
        if !member.starts_with("data.tar") {
            let padded = size + size % 2;
            let skipped = io::copy(&mut file.by_ref().take(padded), &mut io::sink());
            skipped.map_err(|error| bad(error.to_string()))?;
            continue;
        }
        let inner = file.take(size);
        let walked = if member.ends_with(".xz") {
            let mut reader = XzReader::new_mem_limit(inner, false, MAX_DICTIONARY_KIB);
            layer::walk(&mut reader, &limits(), visitor)
        } else {
            layer::read(inner, &limits(), visitor)
        };
        return walked.map(drop).map_err(|error| bad(causes(&error)));
    }
    Err(bad("it has no `data.tar`".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes =
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 644, data.len())
                .into_bytes();
        bytes.extend_from_slice(data);
        if data.len() % 2 == 1 {
            bytes.push(b'\n');
        }
        bytes
    }

    fn package(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        members.iter().for_each(|(name, data)| bytes.extend_from_slice(&member(name, data)));
        bytes
    }

    fn tar(path: &str) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_size(2);
        header.set_mode(0o644);
        // Not by `append_data`, which refuses bad paths itself.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, &b"hi"[..]).unwrap();
        builder.into_inner().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<(String, String)>, DebianError> {
        let mut found = Vec::new();
        data(bytes, "x.deb", &mut |entry, data| {
            let mut text = String::new();
            data.read_to_string(&mut text)?;
            found.push((entry.display_path(), text));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn files_come_out_whatever_stands_before_them() {
        let plain = tar("./etc/hi");
        let bytes = package(&[
            ("debian-binary", b"2.0\n"),
            ("control.tar.xz/", b"odd"),
            ("data.tar", &plain),
        ]);
        assert_eq!(read(&bytes).unwrap(), [("etc/hi".to_owned(), "hi".to_owned())]);
    }

    #[test]
    fn what_is_no_package_says_why() {
        let climbing = tar("../etc/passwd");
        for (bytes, reason) in [
            (b"not an archive".to_vec(), "no `ar` archive"),
            (package(&[("debian-binary", b"2.0\n")]), "no `data.tar`"),
            (package(&[("data.tar", &climbing)]), ".."),
            (package(&[("data.tar.xz", b"nonsense of some length")]), "x.deb"),
        ] {
            let error = read(&bytes).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
