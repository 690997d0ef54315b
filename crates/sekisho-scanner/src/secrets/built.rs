//! Programs that say which packages they were built of. They are found on the way, for what a program was
//! built of is not read yet, and must not pass as if it were.

/// How a program begins.
pub(super) const ELF: &[u8] = b"\x7fELF";

/// Whose packages a program was built of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    Go,
    Rust,
}

/// What stands in a program.
pub(super) struct Mark {
    pub(super) text: &'static str,
    /// The bytes around it.
    before: u8,
    behind: Option<u8>,
    pub(super) of: Language,
}

pub(super) const MARKS: &[Mark] = &[
    // Source: Go, `src/debug/buildinfo/buildinfo.go`.
    Mark { text: " Go buildinf:", before: 0xff, behind: None, of: Language::Go },
    // The section of `cargo auditable`, in the table of names.
    Mark { text: ".dep-v0", before: 0, behind: Some(0), of: Language::Rust },
];

impl Mark {
    pub(super) fn stands_at(&self, window: &[u8], at: usize) -> bool {
        let before = at.checked_sub(1).and_then(|before| window.get(before));
        let behind = window.get(at + self.text.len());
        before == Some(&self.before) && self.behind.is_none_or(|want| behind == Some(&want))
    }
}
