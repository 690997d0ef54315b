//! `--chmod` of COPY and ADD: `755`, or `u=rwX,go+r-w` as the program `chmod` reads it.

/// A change of permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Chmod {
    /// These, whatever they were.
    Octal(u32),
    /// In this order.
    Symbolic(Vec<Change>),
}

/// One `+`, `-` or `=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// The bits that belong to those it is about.
    who: u32,
    operator: Operator,
    /// For everybody; `who` picks.
    bits: u32,
    /// `X`: execution, of folders and of what somebody may execute already.
    conditional: bool,
    /// `g=u`: where the bits are copied from, as a shift.
    copied: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

impl Chmod {
    /// `None` when it is neither form.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return mode.map(Self::Octal);
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            clause_of(clause, &mut changes)?;
        }
        Some(Self::Symbolic(changes))
    }

    /// The permissions of a file or folder that had `mode`.
    pub(crate) fn apply(&self, mode: u32, is_folder: bool) -> u32 {
        let changes = match self {
            Self::Octal(mode) => return *mode,
            Self::Symbolic(changes) => changes,
        };
        changes.iter().fold(mode & 0o7777, |mode, change| {
            let mut bits = change.bits;
            if change.conditional && (is_folder || mode & 0o111 != 0) {
                bits |= 0o111;
            }
            if let Some(shift) = change.copied {
                bits |= (mode >> shift & 0o7) * 0o111;
            }
            let bits = bits & change.who;
            match change.operator {
                Operator::Add => mode | bits,
                Operator::Remove => mode & !bits,
                // Setgid and setuid of a folder are kept, as `chmod` does.
                Operator::Set if is_folder => mode & !(change.who & 0o1777) | bits,
                Operator::Set => mode & !change.who | bits,
            }
        })
    }
}

/// `ugo+rwx-st=u`.
fn clause_of(clause: &str, changes: &mut Vec<Change>) -> Option<()> {
    let split = clause.find(['+', '-', '='])?;
    let (names, mut rest) = clause.split_at(split);
    let mut who = 0;
    for name in names.chars() {
        who |= match name {
            'u' => 0o4700,
            'g' => 0o2070,
            'o' => 0o1007,
            'a' => 0o7777,
            _ => return None,
        };
    }
    if names.is_empty() {
        who = 0o7777;
    }
    while let Some(operator) = rest.chars().next() {
        let operator = match operator {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            _ => Operator::Set,
        };
        let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |at| at + 1);
        let mut change = Change { who, operator, bits: 0, conditional: false, copied: None };
        for letter in rest[1..end].chars() {
            match letter {
                'r' => change.bits |= 0o444,
                'w' => change.bits |= 0o222,
                'x' => change.bits |= 0o111,
                's' => change.bits |= 0o6000,
                // It belongs to everybody.
                't' => (change.bits, change.who) = (change.bits | 0o1000, change.who | 0o1000),
                'X' => change.conditional = true,
                'u' | 'g' | 'o' if end == 2 => {
                    change.copied = Some(match letter {
                        'u' => 6,
                        'g' => 3,
                        _ => 0,
                    });
                }
                _ => return None,
            }
        }
        changes.push(change);
        rest = &rest[end..];
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers are those of `chmod` with umask 0.
    #[test]
    fn changes_like_chmod() {
        for (text, before, folder, want) in [
            ("755", 0o644, false, Some(0o755)),
            ("04755", 0o644, false, Some(0o4755)),
            ("u+x", 0o644, false, Some(0o744)),
            ("+x", 0o644, false, Some(0o755)),
            ("a-w", 0o666, false, Some(0o444)),
            ("u=rwX,go=rX", 0o600, false, Some(0o644)),
            ("u=rwX,go=rX", 0o700, false, Some(0o755)),
            ("u=rwX,go=rX", 0o600, true, Some(0o755)),
            ("g=u,o=", 0o750, false, Some(0o770)),
            ("u+s,g+s", 0o755, false, Some(0o6755)),
            ("+t", 0o777, true, Some(0o1777)),
            ("u=rw", 0o4755, false, Some(0o655)),
            ("u+r-w+x", 0o200, false, Some(0o500)),
            ("=", 0o777, false, Some(0)),
            ("888", 0, false, None),
            ("77777", 0, false, None),
            ("u", 0, false, None),
            ("z+x", 0, false, None),
            ("u+q", 0, false, None),
            ("u+x,", 0, false, None),
        ] {
            let got = Chmod::parse(text).map(|chmod| chmod.apply(before, folder));
            assert_eq!(got, want, "{text} {before:o}");
        }
    }
}
