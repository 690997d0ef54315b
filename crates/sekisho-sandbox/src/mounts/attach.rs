//! What a spec wants to be seen in the root besides the image's own files.

use std::fs;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result as SysResult};
use rustix::mount::{self, MountFlags};

use super::{Found, Root, make_read_only, overlay};
use crate::Isolation;
use crate::error::Step;
use crate::spec::{Bind, Layers, MemoryFile, Mount, Spec};
use crate::wire::{AtStep as _, Failure};

/// Mounts all of it, in order. `scratch` is the private tmpfs.
pub(super) fn attach(root: &Root, spec: &Spec, scratch: &Path) -> Result<(), Failure> {
    for (index, mount) in spec.mounts.iter().enumerate() {
        let (target, is_folder) = mount.stub();
        let place = place(root, target, is_folder).at_path(Step::Bind, target)?;
        let own = scratch.join(format!("mount-{index}"));
        match mount {
            Mount::Bind(bind) => bind_one(root, bind, &place)?,
            Mount::Layers(layers) => stacked(layers, &own, &place)?,
            Mount::Tmpfs { size_bytes, .. } => {
                memory(*size_bytes, &place).at_path(Step::Bind, target)?;
            }
            Mount::File(file) => {
                memory_file(file, spec.isolation, &own).at_path(Step::Bind, target)?;
                mount::mount_bind(&own, place.path()).at_path(Step::Bind, target)?;
                let found = root.find(target).at_path(Step::Bind, target)?;
                make_read_only(&found.path()).at_path(Step::Bind, target)?;
            }
        }
    }
    Ok(())
}

/// Finds the place, or makes it where a removed folder, or another mount, hides the skeleton.
fn place(root: &Root, target: &str, is_folder: bool) -> SysResult<Found> {
    match root.find(target) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let parts: Vec<&str> = target.split('/').filter(|part| !part.is_empty()).collect();
    let Some((last, folders)) = parts.split_last() else { return Err(Errno::INVAL) };
    let mode = Mode::from_raw_mode(0o755);
    let mut at = root.find(".")?;
    let mut path = String::new();
    for folder in folders {
        path.push('/');
        path.push_str(folder);
        at = match root.find(&path) {
            Err(Errno::NOENT) => {
                rustix::fs::mkdirat(at.0.as_fd(), *folder, mode)?;
                root.find(&path)?
            }
            other => other?,
        };
    }
    if is_folder {
        rustix::fs::mkdirat(at.0.as_fd(), *last, mode)?;
    } else {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        rustix::fs::openat(at.0.as_fd(), *last, flags, Mode::from_raw_mode(0o644))?;
    }
    root.find(target)
}

fn bind_one(root: &Root, bind: &Bind, place: &Found) -> Result<(), Failure> {
    mount::mount_bind_recursive(&bind.source, place.path()).at_path(Step::Bind, &bind.source)?;
    if bind.read_only {
        let found = root.find(&bind.target).at_path(Step::Bind, &bind.target)?;
        make_read_only(&found.path()).at_path(Step::Bind, &bind.target)?;
    }
    Ok(())
}

fn stacked(layers: &Layers, own: &Path, place: &Found) -> Result<(), Failure> {
    fs::create_dir_all(own.join("skeleton")).at_path(Step::Scratch, own)?;
    fs::set_permissions(own.join("skeleton"), fs::Permissions::from_mode(0o755))
        .at_path(Step::Scratch, own)?;
    overlay(own, &layers.lower, layers.writable.as_deref())
        .at_path(Step::Overlay, &layers.target)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let whole = rustix::fs::open(own.join("root"), flags, Mode::empty());
    let whole = Root(whole.at_path(Step::Overlay, &layers.target)?);
    let source = if layers.source.is_empty() { "." } else { &layers.source };
    let found = whole.find(source).at_path(Step::Bind, PathBuf::from(source))?;
    mount::mount_bind(found.path(), place.path()).at_path(Step::Bind, &layers.target)
}

fn memory(size_bytes: Option<u64>, place: &Found) -> SysResult<()> {
    let size = size_bytes.map(|size| format!(",size={size}")).unwrap_or_default();
    let options = std::ffi::CString::new(format!("mode=1777{size}")).map_err(|_| Errno::INVAL)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount::mount("sekisho", place.path(), "tmpfs", flags, Some(&*options))
}

fn memory_file(file: &MemoryFile, isolation: Isolation, at: &Path) -> std::io::Result<()> {
    fs::write(at, &file.content.0)?;
    if isolation.has_owners() {
        chown(at, Some(file.uid), Some(file.gid))?;
    }
    fs::set_permissions(at, fs::Permissions::from_mode(file.mode))
}
