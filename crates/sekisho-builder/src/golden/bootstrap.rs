//! From packages to a layer.
//!
//! Our own code unpacks them all, so that there is something to run; then the base's own dpkg installs
//! them, with their scripts, in the sandbox and without network. What depends on the time or on this
//! machine is removed, so that the same packages give the same bytes.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use anyhow::{Context as _, bail};
use fs_err as fs;
use sekisho_debian::fetch::package_path;
use sekisho_debian::{Selection, archive};
use sekisho_oci::layer::{Entry, EntryKind};
use sekisho_oci::{Platform, RunConfig};
use sekisho_sandbox::{Bind, Mount, Network, Outcome, Spec, Stream, User};
use sekisho_types::Digest;

use super::Workshop;
use super::installing::{Installing, STEP};
use crate::ages::Age;
use crate::decide::DEFAULT_PATH;
use crate::files::{FileMap, ImagePath};
use crate::image::{self, Layer, Parts};
use crate::options::Compression;
use crate::pack::{Packer, Press};
use crate::progress::Event;
use crate::tree::Unpacker;
use crate::upper::{self, Owners};

/// Folders that are links into `usr` in every Debian since bookworm (merged-/usr). Some of bookworm's
/// packages still name them as folders.
const MERGED: [&str; 4] = ["bin", "lib", "lib64", "sbin"];

/// Where the sandbox sees the packages.
const PACKAGES: &str = "/.packages";

/// Lines of dpkg's output that are kept for an error.
const TAIL_BYTES: usize = 4 << 10;

/// Longest time for installing.
const DEADLINE: std::time::Duration = std::time::Duration::from_mins(20);

/// Installs what was unpacked. `base-passwd` first, for others' scripts name users, and `awk` before the
/// package that will provide it; then all, in whatever order dpkg finds.
const INSTALL: &str = r#"
cp /usr/share/base-passwd/passwd.master /etc/passwd
cp /usr/share/base-passwd/group.master /etc/group
test -e /usr/bin/awk || ln -s mawk /usr/bin/awk
mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates
: > /var/lib/dpkg/status
: > /var/lib/dpkg/available
install="dpkg --force-depends --force-unsafe-io --install"
$install /.packages/base-passwd_*.deb
$install /.packages/base-files_*.deb
$install /.packages/*.deb
dpkg --configure --pending
audit=$(dpkg --audit)
if test -n "$audit"; then echo "$audit" >&2; exit 1; fi
printf '#!/bin/sh\n# There is no init here, so no service is started.\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
printf 'Acquire::Languages "none";\nAPT::Keep-Downloaded-Packages "false";\n' \
  > /etc/apt/apt.conf.d/90sekisho
rm -rf /var/log/*.log /var/log/apt/* /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old \
  /var/lib/dpkg/*-old /var/lib/dpkg/lock* /var/lib/dpkg/triggers/Lock /var/cache/apt/*.bin \
  /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/.pwd.lock /tmp/* /var/tmp/* \
  /var/lib/systemd /run/*
"#;

/// A finished base.
pub(super) struct Made {
    pub(super) manifest_digest: Digest,
    pub(super) diff_id: Digest,
    pub(super) size_bytes: u64,
}

pub(super) fn make(
    shop: &Workshop<'_>,
    selection: &Selection,
    pool: &Path,
) -> anyhow::Result<Made> {
    let folder = shop.session.folder("base").context("cannot make a folder")?;
    for name in ["upper", "work", "mnt", "packages"] {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.join(name);
        fs::create_dir(&path)?;
        fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    }
    unpack(shop, selection, pool, &folder.join("upper"))?;
    for package in &selection.packages {
        let name = format!("{}_{}.deb", package.id.name, package.id.architecture);
        fs::hard_link(package_path(package, pool), folder.join("packages").join(name))?;
    }
    shop.progress.event(Event::Note { text: "installing them in the sandbox".to_owned() });
    let outcome = install(shop, selection, &folder)?;
    shop.progress.event(Event::Note { text: "making a layer of them".to_owned() });
    let layer = pack(shop, &folder, outcome)?;
    let platform = Platform::host();
    let created_by = format!("{} Debian packages", selection.packages.len());
    let documents = image::documents(Parts {
        platform: &platform,
        created: selection.date,
        author: None,
        config: RunConfig {
            env: vec![format!("PATH={DEFAULT_PATH}")],
            cmd: Some(vec!["bash".to_owned()]),
            ..RunConfig::default()
        },
        history: vec![image::history(selection.date, created_by, true)],
        layers: std::slice::from_ref(&layer),
    })?;
    shop.store.put_blob(shop.session, &documents.config)?;
    let manifest_digest = shop.store.put_blob(shop.session, &documents.manifest)?;
    sekisho_sandbox::remove_tree(&folder).context("cannot remove the sandbox's folder")?;
    let size_bytes = layer.packed()?.size;
    Ok(Made { manifest_digest, diff_id: layer.diff_id, size_bytes })
}

fn unpack(
    shop: &Workshop<'_>,
    selection: &Selection,
    pool: &Path,
    upper: &Path,
) -> anyhow::Result<()> {
    let mut unpacker = Unpacker::open(upper, shop.isolation, Age::default())?;
    for name in MERGED {
        let kind = EntryKind::Symlink { target: format!("usr/{name}").into_bytes() };
        let mut link = Entry::file(name, 0);
        (link.kind, link.mode) = (kind, 0o777);
        unpacker.entry(&link, &mut io::empty()).context("cannot make a link")?;
        let mut folder = Entry::file(format!("usr/{name}"), 0);
        (folder.kind, folder.mode) = (EntryKind::Directory, 0o755);
        unpacker.entry(&folder, &mut io::empty()).context("cannot make a folder")?;
    }
    for (number, package) in selection.packages.iter().enumerate() {
        if shop.cancel.is_cancelled() {
            bail!("cancelled");
        }
        if number > 0 && number.is_multiple_of(STEP) {
            let text = format!("opened {number} of {} packages", selection.packages.len());
            shop.progress.event(Event::Note { text });
        }
        let file = io::BufReader::new(fs::File::open(package_path(package, pool))?);
        archive::data(file, &package.filename, &mut |entry, data| match merged(entry) {
            Some(entry) => unpacker.entry(&entry, data),
            None => Ok(()),
        })?;
    }
    unpacker.finish()
}

/// The entry where merged-/usr has it; `None` for the links themselves.
fn merged(entry: &Entry) -> Option<Entry> {
    let mut entry = entry.clone();
    if MERGED.iter().any(|name| name.as_bytes() == entry.path) {
        return None;
    }
    entry.path = merged_path(entry.path);
    if let EntryKind::HardLink { target } = entry.kind {
        entry.kind = EntryKind::HardLink { target: merged_path(target) };
    }
    Some(entry)
}

fn merged_path(path: ImagePath) -> ImagePath {
    let first = path.split(|byte| *byte == b'/').next().unwrap_or_default();
    match MERGED.iter().any(|name| name.as_bytes() == first) {
        true => [b"usr/", path.as_slice()].concat(),
        false => path,
    }
}

fn install(shop: &Workshop<'_>, selection: &Selection, folder: &Path) -> anyhow::Result<Outcome> {
    let date = selection.date.to_string();
    let env = [
        ("PATH", DEFAULT_PATH),
        ("HOME", "/root"),
        ("LC_ALL", "C"),
        ("TZ", "UTC"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        // What the `passwd` package writes as the day of a password's change.
        ("SOURCE_DATE_EPOCH", &date),
    ];
    let spec = Spec {
        isolation: shop.isolation,
        lower: Vec::new(),
        writable: folder.to_owned(),
        mountpoint: folder.join("mnt"),
        args: ["/usr/bin/sh", "-euc", INSTALL].map(str::to_owned).into(),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        current_dir: "/".to_owned(),
        user: User::default(),
        hostname: "sekisho".to_owned(),
        network: Network::None,
        mounts: vec![Mount::Bind(Bind {
            source: folder.join("packages"),
            target: PACKAGES.to_owned(),
            read_only: true,
        })],
        secret_env: Vec::new(),
        timeout: Some(DEADLINE),
        max_processes: sekisho_sandbox::MAX_PROCESSES,
        max_memory_bytes: None,
        min_free_bytes: sekisho_sandbox::MIN_FREE_BYTES,
    };
    let mut tail = Vec::new();
    let mut installing = Installing::new(selection.packages.len());
    let outcome = shop.launcher.run(&spec, shop.control, &mut |_: Stream, bytes: &[u8]| {
        for text in installing.read(bytes) {
            shop.progress.event(Event::Note { text });
        }
        tail.extend_from_slice(bytes);
        let excess = tail.len().saturating_sub(TAIL_BYTES);
        tail.drain(..excess);
    })?;
    if !outcome.exit.success() {
        bail!(
            "installing the packages failed with exit code {}:\n{}",
            outcome.exit.code(),
            String::from_utf8_lossy(&tail)
        );
    }
    Ok(outcome)
}

fn pack(shop: &Workshop<'_>, folder: &Path, outcome: Outcome) -> anyhow::Result<Layer> {
    let links: HashMap<_, _> = outcome.link_owners.into_iter().collect();
    let owners = Owners {
        isolation: shop.isolation,
        user: &User::default(),
        links: &links,
        before: &FileMap::default(),
    };
    let upper = folder.join("upper");
    let path = shop.session.path("layer");
    let cancel = shop.cancel.clone();
    let mut packer = Packer::new(Press { path, how: Compression::default(), cancel })?;
    upper::pack(&upper, &owners, (Age::default(), &|_| Ok(None)), &mut packer)
        .context("cannot read what was installed")?;
    upper::set_time(&upper, crate::LAYER_EPOCH).context("cannot date a folder")?;
    let layer = packer.finish()?.publish(shop.store)?;
    shop.store.publish_tree(&upper, shop.isolation, &layer)?;
    Ok(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_where_merged_usr_has_them() {
        let path = |text: &str| String::from_utf8(merged_path(text.into())).unwrap();
        assert_eq!(path("bin/sh"), "usr/bin/sh");
        assert_eq!(path("lib64/ld.so"), "usr/lib64/ld.so");
        assert_eq!(
            (path("usr/bin/sh"), path("binary/x")),
            ("usr/bin/sh".into(), "binary/x".into())
        );
        let mut entry = Entry::file("sbin/two", 0);
        entry.kind = EntryKind::HardLink { target: b"sbin/one".to_vec() };
        let entry = merged(&entry).unwrap();
        assert_eq!(entry.kind, EntryKind::HardLink { target: b"usr/sbin/one".to_vec() });
        assert_eq!(merged(&Entry::file("lib", 0)), None);
    }
}
