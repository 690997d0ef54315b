//! Which calls are held, and what each comes to.

use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{AtFlags, CWD};
use rustix::io::{Errno, Result};
use std::os::fd::AsRawFd as _;

use super::identity::{Change, Identity, Which};
use super::{Emulator, Name};
use crate::owner::Owner;
use crate::sys::{self, Answer, Held};

/// Leaves an owner or group as it is.
const KEEP: u32 = u32::MAX;

/// The calls that come here on every architecture.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const HELD: &[i64] = COMMON;

/// x86-64 has older ones as well.
#[cfg(target_arch = "x86_64")]
pub(crate) const HELD: &[i64] = &{
    let mut all = [0; COMMON.len() + 4];
    let mut at = 0;
    while at < COMMON.len() {
        all[at] = COMMON[at];
        at += 1;
    }
    all[at] = libc::SYS_chown;
    all[at + 1] = libc::SYS_lchown;
    all[at + 2] = libc::SYS_stat;
    all[at + 3] = libc::SYS_lstat;
    all
};

const COMMON: &[i64] = &[
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_chroot,
];

/// Where the kernel's `struct stat` has the user; the group follows.
#[cfg(target_arch = "x86_64")]
const STAT_UID_AT: usize = 28;
#[cfg(not(target_arch = "x86_64"))]
const STAT_UID_AT: usize = 24;

/// The same in `struct statx`, which is alike everywhere.
const STATX_UID_AT: usize = 20;

/// The low half of a register: what the kernel takes as an `int` or an id.
#[expect(clippy::cast_possible_truncation, reason = "the kernel ignores the upper half too")]
const fn low(arg: u64) -> u32 {
    arg as u32
}

const fn int(arg: u64) -> i32 {
    low(arg).cast_signed()
}

impl Emulator {
    pub(super) fn decide(&mut self, held: &Held) -> Result<Answer> {
        let [first, second, third, fourth, fifth, _] = held.args;
        let here = CWD.as_raw_fd();
        let plain =
            |path, follow| Name { folder: here, path: Some(path), follow, may_be_empty: false };
        let descriptor = Name { folder: int(first), path: None, follow: true, may_be_empty: true };
        match held.number {
            #[cfg(target_arch = "x86_64")]
            libc::SYS_chown => self.chown(held.pid, plain(first, true), low(second), low(third)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_lchown => self.chown(held.pid, plain(first, false), low(second), low(third)),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_stat => self.stat(held.pid, plain(first, true), second),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_lstat => self.stat(held.pid, plain(first, false), second),
            libc::SYS_fchown => self.chown(held.pid, descriptor, low(second), low(third)),
            libc::SYS_fchownat => {
                let name = at(first, second, low(fifth));
                self.chown(held.pid, name, low(third), low(fourth))
            }
            libc::SYS_fstat => self.stat(held.pid, descriptor, second),
            libc::SYS_newfstatat => self.stat(held.pid, at(first, second, low(fourth)), third),
            libc::SYS_statx => {
                let Some(file) = self.file_with_owner(held.pid, at(first, second, low(third)))
                else {
                    return Ok(Answer::Continue);
                };
                let bytes = sys::statx_bytes(file.0.as_fd(), low(fourth))?;
                show(held.pid, fifth, bytes, STATX_UID_AT, file.1)
            }
            libc::SYS_chroot => {
                self.chrooted = true;
                Ok(Answer::Continue)
            }
            libc::SYS_getgroups => self.groups(held.pid, int(first), second),
            libc::SYS_setgroups => self.set_groups(held.pid, first, second),
            libc::SYS_getuid | libc::SYS_geteuid | libc::SYS_getgid | libc::SYS_getegid => {
                let identity = &self.identities[self.identity_number(held.pid)?];
                Ok(Answer::Value(i64::from(match held.number {
                    libc::SYS_getuid => identity.user.real,
                    libc::SYS_geteuid => identity.user.effective,
                    libc::SYS_getgid => identity.group.real,
                    _ => identity.group.effective,
                })))
            }
            libc::SYS_getresuid | libc::SYS_getresgid => {
                let identity = &self.identities[self.identity_number(held.pid)?];
                let ids = match held.number {
                    libc::SYS_getresuid => identity.user,
                    _ => identity.group,
                };
                for (address, id) in
                    [(first, ids.real), (second, ids.effective), (third, ids.saved)]
                {
                    sys::write_memory(held.pid, address, &id.to_ne_bytes())?;
                }
                Ok(Answer::Value(0))
            }
            _ => self.change(held),
        }
    }

    fn change(&mut self, held: &Held) -> Result<Answer> {
        let [first, second, third] = [held.args[0], held.args[1], held.args[2]].map(low);
        let (which, change) = match held.number {
            libc::SYS_setuid => (Which::User, Change::One(first)),
            libc::SYS_setgid => (Which::Group, Change::One(first)),
            libc::SYS_setreuid => (Which::User, Change::RealEffective(first, second)),
            libc::SYS_setregid => (Which::Group, Change::RealEffective(first, second)),
            libc::SYS_setresuid => (Which::User, Change::RealEffectiveSaved(first, second, third)),
            libc::SYS_setresgid => (Which::Group, Change::RealEffectiveSaved(first, second, third)),
            libc::SYS_setfsuid => (Which::User, Change::File(first)),
            libc::SYS_setfsgid => (Which::Group, Change::File(first)),
            // The filter holds nothing else.
            _ => return Ok(Answer::Continue),
        };
        let number = self.identity_number(held.pid)?;
        let now = &self.identities[number];
        let before = match which {
            Which::User => now.user.file,
            Which::Group => now.group.file,
        };
        let file_only = matches!(change, Change::File(_));
        let new = now.change(which, &change)?;
        if new != *now {
            self.set_identity(held.pid, new)?;
        }
        Ok(Answer::Value(if file_only { before.into() } else { 0 }))
    }

    fn groups(&self, pid: i32, room: i32, address: u64) -> Result<Answer> {
        let groups = &self.identities[self.identity_number(pid)?].groups;
        let room = usize::try_from(room).map_err(|_| Errno::INVAL)?;
        if room != 0 {
            if room < groups.len() {
                return Err(Errno::INVAL);
            }
            let bytes: Vec<u8> = groups.iter().flat_map(|gid| gid.to_ne_bytes()).collect();
            if !bytes.is_empty() {
                sys::write_memory(pid, address, &bytes)?;
            }
        }
        Ok(Answer::Value(i64::try_from(groups.len()).map_err(|_| Errno::INVAL)?))
    }

    fn set_groups(&mut self, pid: i32, count: u64, address: u64) -> Result<Answer> {
        let number = self.identity_number(pid)?;
        let count = usize::try_from(int(count)).map_err(|_| Errno::INVAL)?;
        if count > super::identity::MAX_GROUPS {
            return Err(Errno::INVAL);
        }
        let mut bytes = vec![0; count * size_of::<u32>()];
        if count > 0 && sys::read_memory(pid, address, &mut bytes)? != bytes.len() {
            return Err(Errno::FAULT);
        }
        let word = |word: &[u8]| word.try_into().map(u32::from_ne_bytes).unwrap_or(0);
        let groups = bytes.chunks_exact(size_of::<u32>()).map(word).collect();
        let new = self.identities[number].change_groups(groups)?;
        self.set_identity(pid, new)?;
        Ok(Answer::Value(0))
    }

    fn chown(&mut self, pid: i32, name: Name, uid: u32, gid: u32) -> Result<Answer> {
        let file = self.open(pid, name)?;
        let now = self.owner(&file).unwrap_or_default();
        let new = Owner {
            uid: if uid == KEEP { now.uid } else { uid },
            gid: if gid == KEEP { now.gid } else { gid },
        };
        let number = self.identity_number(pid)?;
        if !may_give(&self.identities[number], now, new) {
            return Err(Errno::PERM);
        }
        self.give(&file, new)?;
        Ok(Answer::Value(0))
    }

    fn stat(&mut self, pid: i32, name: Name, to: u64) -> Result<Answer> {
        let Some((file, owner)) = self.file_with_owner(pid, name) else {
            return Ok(Answer::Continue);
        };
        show(pid, to, sys::stat_bytes(file.as_fd())?, STAT_UID_AT, owner)
    }

    /// What the kernel would answer rightly, errors included, is none.
    fn file_with_owner(&mut self, pid: i32, name: Name) -> Option<(OwnedFd, Owner)> {
        let file = self.open(pid, name).ok()?;
        let owner = self.owner(&file)?;
        Some((file, owner))
    }
}

/// `*at` calls.
fn at(folder: u64, path: u64, flags: u32) -> Name {
    let flags = AtFlags::from_bits_retain(flags);
    let may_be_empty = flags.contains(AtFlags::EMPTY_PATH);
    Name {
        folder: int(folder),
        // Newer kernels take no address as an empty path.
        path: if may_be_empty && path == 0 { None } else { Some(path) },
        follow: !flags.contains(AtFlags::SYMLINK_NOFOLLOW),
        may_be_empty,
    }
}

/// Writes a stat with the owner we know.
fn show(pid: i32, to: u64, mut bytes: Vec<u8>, at: usize, owner: Owner) -> Result<Answer> {
    for (at, id) in [(at, owner.uid), (at + 4, owner.gid)] {
        bytes.get_mut(at..at + 4).ok_or(Errno::INVAL)?.copy_from_slice(&id.to_ne_bytes());
    }
    sys::write_memory(pid, to, &bytes)?;
    Ok(Answer::Value(0))
}

/// Root may; an owner may change the group to one of its own.
///
/// Source: chown(2).
fn may_give(who: &Identity, now: Owner, new: Owner) -> bool {
    who.user.file == 0
        || (who.user.file == now.uid
            && new.uid == now.uid
            && (new.gid == now.gid || who.in_group(new.gid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_gives_files_away_and_others_do_not() {
        let owner = |uid, gid| Owner { uid, gid };
        let root = Identity::default();
        assert!(may_give(&root, owner(5, 5), owner(6, 7)));
        let five = root
            .change_groups(vec![9])
            .unwrap()
            .change(Which::Group, &Change::One(5))
            .unwrap()
            .change(Which::User, &Change::One(5))
            .unwrap();
        assert!(!may_give(&five, owner(5, 5), owner(6, 5)));
        assert!(!may_give(&five, owner(6, 6), owner(6, 5)));
        assert!(!may_give(&five, owner(5, 5), owner(5, 6)));
        assert!(may_give(&five, owner(5, 5), owner(5, 9)));
        assert!(may_give(&five, owner(5, 9), owner(5, 5)));
    }

    #[test]
    fn stat_has_the_owner_where_we_write_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::File::open(dir.path()).unwrap();
        let uid = rustix::process::geteuid().as_raw().to_ne_bytes();
        let gid = rustix::process::getegid().as_raw().to_ne_bytes();
        let stat = sys::stat_bytes(file.as_fd()).unwrap();
        assert_eq!(
            (&stat[STAT_UID_AT..][..4], &stat[STAT_UID_AT + 4..][..4]),
            (&uid[..], &gid[..])
        );
        let statx = sys::statx_bytes(file.as_fd(), 0x7ff).unwrap();
        assert_eq!(
            (&statx[STATX_UID_AT..][..4], &statx[STATX_UID_AT + 4..][..4]),
            (&uid[..], &gid[..])
        );
    }
}
