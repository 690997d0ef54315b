//! Who a process says it is: the rules of `setuid` and its relatives, as a plain function.
//!
//! Sources: setuid(2), setreuid(2), setresuid(2), setfsuid(2), setgroups(2) and `kernel/sys.c`.

use rustix::io::Errno;

/// Most supplementary groups: Linux's own limit.
pub(super) const MAX_GROUPS: usize = 65_536;

/// "Leave it as it is", in the calls that take several ids.
const KEEP: u32 = u32::MAX;

/// Real, effective, saved and file-system id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) real: u32,
    pub(super) effective: u32,
    pub(super) saved: u32,
    pub(super) file: u32,
}

impl Ids {
    fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id, file: id }
    }

    fn has(self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }
}

/// Everything a process is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) user: Ids,
    pub(super) group: Ids,
    pub(super) groups: Vec<u32>,
}

/// Which ids a call changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    User,
    Group,
}

/// A call that changes an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// `setuid`, `setgid`.
    One(u32),
    /// `setreuid`, `setregid`.
    RealEffective(u32, u32),
    /// `setresuid`, `setresgid`.
    RealEffectiveSaved(u32, u32, u32),
    /// `setfsuid`, `setfsgid`: these never fail.
    File(u32),
}

impl Identity {
    fn privileged(&self) -> bool {
        self.user.effective == 0
    }

    /// Whether a group is one of ours.
    pub(super) fn in_group(&self, gid: u32) -> bool {
        self.group.file == gid || self.groups.contains(&gid)
    }

    /// Whether the groups may be changed. Programs that keep their capabilities over `setuid` change the
    /// user first: so as long as the groups are still root's, they may.
    fn may_change_group(&self) -> bool {
        self.privileged() || self.group == Ids::default()
    }

    /// What the process is after the call.
    pub(super) fn change(&self, which: Which, change: &Change) -> Result<Self, Errno> {
        let now = match which {
            Which::User => self.user,
            Which::Group => self.group,
        };
        let privileged = match which {
            Which::User => self.privileged(),
            Which::Group => self.may_change_group(),
        };
        let new = ids(now, privileged, change)?;
        Ok(match which {
            Which::User => Self { user: new, ..self.clone() },
            Which::Group => Self { group: new, ..self.clone() },
        })
    }

    /// What the process is after `setgroups`.
    pub(super) fn change_groups(&self, groups: Vec<u32>) -> Result<Self, Errno> {
        match (self.privileged() || self.groups.is_empty(), groups.len()) {
            (false, _) => Err(Errno::PERM),
            (true, ..=MAX_GROUPS) => Ok(Self { groups, ..self.clone() }),
            (true, _) => Err(Errno::INVAL),
        }
    }
}

fn ids(now: Ids, privileged: bool, change: &Change) -> Result<Ids, Errno> {
    let may = |allowed: bool| if privileged || allowed { Ok(()) } else { Err(Errno::PERM) };
    Ok(match *change {
        Change::One(KEEP) => return Err(Errno::INVAL),
        Change::One(id) if privileged => Ids::all(id),
        Change::One(id) => {
            may(id == now.real || id == now.saved)?;
            Ids { effective: id, file: id, ..now }
        }
        Change::RealEffective(real, effective) => {
            may(real == KEEP || real == now.real || real == now.effective)?;
            may(effective == KEEP || now.has(effective))?;
            let mut new = now;
            if real != KEEP {
                new.real = real;
            }
            if effective != KEEP {
                new.effective = effective;
            }
            if real != KEEP || (effective != KEEP && effective != now.real) {
                new.saved = new.effective;
            }
            Ids { file: new.effective, ..new }
        }
        Change::RealEffectiveSaved(real, effective, saved) => {
            let pick = |id: u32, now_id: u32| {
                may(id == KEEP || now.has(id))?;
                Ok(if id == KEEP { now_id } else { id })
            };
            let effective = pick(effective, now.effective)?;
            Ids {
                real: pick(real, now.real)?,
                effective,
                saved: pick(saved, now.saved)?,
                file: effective,
            }
        }
        Change::File(id) if id != KEEP && (privileged || now.has(id) || id == now.file) => {
            Ids { file: id, ..now }
        }
        Change::File(_) => now,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(real: u32, effective: u32, saved: u32) -> Ids {
        Ids { real, effective, saved, file: effective }
    }

    #[track_caller]
    fn check(from: Ids, change: Change, want: Result<Ids, Errno>) {
        let identity = Identity { user: from, ..Identity::default() };
        let got = identity.change(Which::User, &change).map(|new| new.user);
        assert_eq!(got, want, "{from:?} {change:?}");
    }

    #[test]
    fn root_becomes_anybody_and_cannot_come_back() {
        let root = ids(0, 0, 0);
        check(root, Change::One(42), Ok(ids(42, 42, 42)));
        check(root, Change::RealEffectiveSaved(42, 42, 42), Ok(ids(42, 42, 42)));
        let user = ids(42, 42, 42);
        check(user, Change::One(0), Err(Errno::PERM));
        check(user, Change::One(42), Ok(user));
        check(user, Change::RealEffective(0, KEEP), Err(Errno::PERM));
        check(user, Change::RealEffective(KEEP, 0), Err(Errno::PERM));
        check(user, Change::RealEffectiveSaved(KEEP, KEEP, 0), Err(Errno::PERM));
        check(user, Change::File(0), Ok(user));
        check(root, Change::One(KEEP), Err(Errno::INVAL));
    }

    #[test]
    fn who_only_pretends_comes_back() {
        check(ids(0, 0, 0), Change::RealEffectiveSaved(KEEP, 42, KEEP), Ok(ids(0, 42, 0)));
        check(ids(0, 42, 0), Change::One(0), Ok(ids(0, 0, 0)));
        check(ids(0, 42, 0), Change::RealEffectiveSaved(KEEP, 0, KEEP), Ok(ids(0, 0, 0)));
        // The saved id follows when the real one is set, or the effective one becomes another.
        check(ids(0, 0, 0), Change::RealEffective(KEEP, 42), Ok(ids(0, 42, 42)));
        check(ids(0, 0, 0), Change::RealEffective(42, KEEP), Ok(ids(42, 0, 0)));
        check(ids(1, 2, 3), Change::RealEffective(2, 1), Ok(ids(2, 1, 1)));
    }

    #[test]
    fn groups_need_root_and_have_an_end() {
        let root = Identity::default();
        assert_eq!(root.change_groups(vec![1, 2]).unwrap().groups, [1, 2]);
        assert_eq!(root.change_groups(vec![0; MAX_GROUPS + 1]), Err(Errno::INVAL));
        let user = root.change(Which::User, &Change::One(1)).unwrap();
        // With kept capabilities, the user may come first.
        let late = user.change(Which::Group, &Change::One(7)).unwrap();
        assert_eq!(late.group, ids(7, 7, 7));
        assert_eq!(late.change(Which::Group, &Change::One(0)), Err(Errno::PERM));
        let late = late.change_groups(vec![8]).unwrap();
        assert_eq!(late.change_groups(vec![]), Err(Errno::PERM));
        let in_seven = root.change(Which::Group, &Change::One(7)).unwrap();
        assert!(in_seven.in_group(7) && !in_seven.in_group(0));
        assert_eq!(in_seven.user, Ids::default());
    }
}
