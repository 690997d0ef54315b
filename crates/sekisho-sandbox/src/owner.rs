//! Ownership that the disk cannot hold.
//!
//! In [`Isolation::SingleId`](crate::Isolation::SingleId) every file on the disk is ours. Whose it is in
//! the image stands in an extended attribute of the file itself: so it follows copies between overlay
//! layers, renames and links, and is there for the next command, without a table that could be lost.

use serde::{Deserialize, Serialize};

/// The attribute. Files without it belong to whom the sandbox's user is.
pub const OWNER_ATTRIBUTE: &str = "user.sekisho.owner";

/// Longest value: two numbers of 32 bits.
pub(crate) const MAX_VALUE_BYTES: usize = 21;

/// A user and a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Owner {
    /// The attribute's value: `uid:gid`, in decimal.
    pub fn to_attribute(self) -> String {
        format!("{}:{}", self.uid, self.gid)
    }

    /// Reads the attribute's value; `None` when somebody else wrote it.
    pub fn from_attribute(value: &[u8]) -> Option<Self> {
        let (uid, gid) = std::str::from_utf8(value).ok()?.split_once(':')?;
        Some(Self { uid: uid.parse().ok()?, gid: gid.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_round_trip_and_nonsense_is_none() {
        let owner = Owner { uid: 33, gid: u32::MAX };
        assert_eq!(owner.to_attribute(), "33:4294967295");
        assert_eq!(Owner::from_attribute(owner.to_attribute().as_bytes()), Some(owner));
        let longest = Owner { uid: u32::MAX, gid: u32::MAX };
        assert_eq!(longest.to_attribute().len(), MAX_VALUE_BYTES);
        for bad in [&b"33"[..], b"", b"a:b", b"-1:0", b"4294967296:0", b"1:2:3", b"\xff:1"] {
            assert_eq!(Owner::from_attribute(bad), None);
        }
    }
}
