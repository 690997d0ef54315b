//! Cache keys: SHA-256 over typed, length-prefixed parts.

use sha2::{Digest as _, Sha256};

use sekisho_types::Digest;

/// Makes a key from parts. Each part is written as its type, its length and its bytes, so that no
/// two different lists of parts give the same input: `("ab","c")` and `("a","bc")` differ.
///
/// ```
/// use sekisho_dockerfile::key::Key;
/// let one = Key::new("run.v1").text("user", "ab").text("dir", "c").finish();
/// let two = Key::new("run.v1").text("user", "a").text("dir", "bc").finish();
/// assert_ne!(one, two);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Key(Sha256);

/// What a part is, in the hashed bytes.
#[derive(Clone, Copy)]
enum Tag {
    Domain = 1,
    Name = 2,
    Text = 3,
    Bytes = 4,
    Number = 5,
    Flag = 6,
    Absent = 7,
    List = 8,
    Digest = 9,
}

impl Key {
    /// Starts a key. The domain keeps kinds of keys apart, and carries the version of their rules.
    pub fn new(domain: &str) -> Self {
        Self(Sha256::new()).part(Tag::Domain, domain.as_bytes())
    }

    fn part(mut self, tag: Tag, bytes: &[u8]) -> Self {
        self.0.update([tag as u8]);
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    fn named(self, name: &str) -> Self {
        self.part(Tag::Name, name.as_bytes())
    }

    /// Text.
    pub fn text(self, name: &str, value: &str) -> Self {
        self.named(name).part(Tag::Text, value.as_bytes())
    }

    /// Text that may be absent, which differs from being empty.
    pub fn optional(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(name, value),
            None => self.named(name).part(Tag::Absent, &[]),
        }
    }

    /// Bytes.
    pub fn bytes(self, name: &str, value: &[u8]) -> Self {
        self.named(name).part(Tag::Bytes, value)
    }

    /// A number.
    pub fn number(self, name: &str, value: u64) -> Self {
        self.named(name).part(Tag::Number, &value.to_be_bytes())
    }

    /// A yes or no.
    pub fn flag(self, name: &str, value: bool) -> Self {
        self.named(name).part(Tag::Flag, &[u8::from(value)])
    }

    /// The digest of content.
    pub fn digest(self, name: &str, value: &Digest) -> Self {
        self.named(name).part(Tag::Digest, value.to_string().as_bytes())
    }

    /// Texts, in their order.
    pub fn list<S: AsRef<str>>(self, name: &str, values: impl IntoIterator<Item = S>) -> Self {
        let values: Vec<S> = values.into_iter().collect();
        let start = self.named(name).part(Tag::List, &(values.len() as u64).to_be_bytes());
        values.iter().fold(start, |key, value| key.part(Tag::Text, value.as_ref().as_bytes()))
    }

    /// Names and values, in their order. Sort them first where order means nothing.
    pub fn pairs<K: AsRef<str>, V: AsRef<str>>(
        self,
        name: &str,
        values: impl IntoIterator<Item = (K, V)>,
    ) -> Self {
        let values: Vec<(K, V)> = values.into_iter().collect();
        let start = self.named(name).part(Tag::List, &(values.len() as u64).to_be_bytes());
        values.iter().fold(start, |key, (name, value)| key.text(name.as_ref(), value.as_ref()))
    }

    /// The key.
    pub fn finish(self) -> Digest {
        Digest::from_sha256(self.0.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let keys = [
            Key::new("a").finish(),
            Key::new("b").finish(),
            Key::new("a").text("x", "").finish(),
            Key::new("a").bytes("x", b"").finish(),
            Key::new("a").optional("x", None).finish(),
            Key::new("a").flag("x", false).finish(),
            Key::new("a").number("x", 0).finish(),
            Key::new("a").list("x", ["b", "c"]).finish(),
            Key::new("a").list("x", ["bc"]).finish(),
            Key::new("a").list("x", ["c", "b"]).finish(),
            Key::new("a").list("x", ["b"]).text("c", "").finish(),
            Key::new("a").pairs("x", [("b", "c")]).finish(),
        ];
        let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(
            Key::new("a").optional("x", Some("y")).finish(),
            Key::new("a").text("x", "y").finish()
        );
    }

    proptest! {
        #[test]
        fn different_lists_have_different_keys(
            one in prop::collection::vec("[ab]{0,2}", 0..4),
            two in prop::collection::vec("[ab]{0,2}", 0..4),
        ) {
            let key = |list: &Vec<String>| Key::new("t").list("l", list).finish();
            prop_assert_eq!(one == two, key(&one) == key(&two));
        }
    }
}
