//! Names: what is ours can be told from its name alone.
//!
//! ```text
//!  s7k2qm4xa-image-build-k3vq7d2m-000041
//!  └───┬───┘ └────┬────┘ └──┬───┘ └─┬──┘
//!    mark     deployment   set    number
//! ```
//!
//! A runner, its pod, its secret and its registration at GitHub share one name. The mark is made of
//! the namespace's uid, so it is another one in each cluster and each namespace, and nobody can choose
//! it. A set never uses a number twice (see [`crate::replica_set`]), and one that is made again has
//! another uid, so a name means one runner for ever.

use sekisho_api::DEPLOYMENT_NAME_LENGTH_MAX;

/// Characters of a mark, with the `s` in front.
pub const MARK_LENGTH: usize = 9;
/// The longest name: that of a Kubernetes label; GitHub has 64.
pub const NAME_LENGTH_MAX: usize = 63;
/// Characters of a set in a name.
pub const SET_LENGTH: usize = 8;

/// What all names of one namespace in one cluster begin with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(String);

impl Mark {
    /// The mark of a namespace, by its `metadata.uid`.
    pub fn of_namespace(uid: &str) -> Self {
        Self(format!("s{}", short(uid)))
    }

    /// As it stands in a name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a name was given in this namespace of this cluster.
    pub fn is_on(&self, name: &str) -> bool {
        name.strip_prefix(&self.0).is_some_and(|rest| rest.starts_with('-'))
    }
}

/// Eight letters and digits for a uid. FNV-1a: the uid is random already, only its length is too much.
fn short(uid: &str) -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in uid.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let digit = |place| DIGITS.get((hash >> (59 - 5 * place) & 31) as usize).copied();
    (0..SET_LENGTH).map(|place| char::from(digit(place).unwrap_or(b'a'))).collect()
}

/// The name of a runner: at most [`NAME_LENGTH_MAX`] characters. `set_uid`: that of its replica set.
pub fn runner(mark: &Mark, deployment: &str, set_uid: &str, number: u64) -> String {
    let deployment: String = deployment.chars().take(DEPLOYMENT_NAME_LENGTH_MAX).collect();
    format!("{}-{deployment}-{}-{number:06}", mark.0, short(set_uid))
}

/// The number in a runner's name.
pub fn number(name: &str) -> Option<u64> {
    name.rsplit_once('-').and_then(|(_, number)| number.parse().ok())
}

/// The name of the replica set of a revision.
pub fn replica_set(deployment: &str, revision: &str) -> String {
    format!("{deployment}-{revision}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_where_it_was_given() {
        let (here, there) = (Mark::of_namespace("a-uid"), Mark::of_namespace("b-uid"));
        assert_ne!(here, there);
        assert_eq!(here.as_str().len(), MARK_LENGTH);
        let name = runner(&here, "image-build", "a-uid", 41);
        let set = here.as_str().strip_prefix('s').unwrap();
        assert_eq!(name, format!("{}-image-build-{set}-000041", here.as_str()));
        assert_ne!(name, runner(&here, "image-build", "b-uid", 41));
        assert_eq!(number(&name), Some(41));
        assert!(here.is_on(&name) && !there.is_on(&name));
        assert!(!here.is_on(here.as_str()), "a mark alone is no name");
        assert!(!here.is_on("my-runner"));
    }

    #[test]
    fn the_longest_name_fits() {
        let mark = Mark::of_namespace("x");
        let longest = runner(&mark, &"d".repeat(99), "a-uid", 9_999_999_999_999);
        assert_eq!(longest.len(), NAME_LENGTH_MAX);
        assert_eq!(number(&longest), Some(9_999_999_999_999));
    }
}
