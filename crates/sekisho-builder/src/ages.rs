//! Times of files: those in a layer, and those that a command sees.
//!
//! In a layer every file that we put there has one fixed time, or the same content would not be the same
//! layer. But `make`, cargo and their like tell by times what changed since their results were made, and
//! what a RUN made would be as old as what a COPY brought after it. So a command sees the layers of its
//! stage in ages, each later than the one before: a new one begins with each COPY or ADD after a RUN, or
//! after an image that others built on. The trees that overlayfs shows carry these times, and nothing else
//! does: layers hold the fixed one.
//!
//! ```text
//!  FROM image     age 0   as in its layers
//!  COPY main.c    age 1
//!  RUN make       age 1   main.o is as old as main.c, so it is up to date
//!  COPY main.c    age 2
//!  RUN make       age 2   main.c is newer than main.o
//! ```
//!
//! Python source is special in two ways. Its compiled form names the time of the source in its header, and
//! is taken when that is right, also in the image. So the time of a `.py` in a layer follows from its content,
//! and another content is another time; the compiled form gets that time too, see `pyc`. And of what a RUN
//! left a command sees the very times of the layer, or each RUN would compile all of it anew.

use crate::LAYER_EPOCH;
use crate::files::{NodeKind, Sum};
use crate::image::Layer;

/// Times that Python source may have from the fixed one on, and so how far ages are apart, in seconds: some
/// twelve days. A thousand ages end before this year.
const SPREAD: i64 = 1 << 20;

/// As many ages as end before any result of a real clock.
const MAX_AGE: u32 = 1000;

/// Of which age what a command sees of a layer is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Age {
    number: u32,
    /// A command left it.
    ran: bool,
}

impl Age {
    /// The time that commands see of an entry with this one. What has a time of its own keeps it.
    pub(crate) fn shown(self, path: &[u8], mtime: i64) -> i64 {
        if mtime >= LAYER_EPOCH + SPREAD || (self.ran && is_python(path)) {
            return mtime;
        }
        mtime + i64::from(self.number) * SPREAD
    }

    /// What the name of the layer's tree ends with.
    pub(crate) fn suffix(self) -> String {
        match (self.number, self.ran) {
            (0, _) => String::new(),
            (number, false) => format!(".{number}"),
            (number, true) => format!(".{number}r"),
        }
    }
}

/// Who made a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Maker {
    /// COPY or ADD.
    Copy,
    Run,
    /// Nothing in it is a source or a result.
    Other,
}

/// How far a stage has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ages {
    number: u32,
    /// There are results that what is copied next must be newer than.
    results: bool,
}

impl Ages {
    /// Those of an image that the stage is built on.
    pub(crate) fn of_base(chain: &[Layer]) -> Self {
        Self { number: 0, results: !chain.is_empty() }
    }

    /// The age of a RUN's results.
    pub(crate) fn run(self) -> Age {
        Age { number: self.number, ran: true }
    }

    /// The age of one more layer.
    pub(crate) fn next(&mut self, by: Maker) -> Age {
        match by {
            Maker::Copy if self.results => {
                self.number = (self.number + 1).min(MAX_AGE);
                self.results = false;
            }
            Maker::Run => self.results = true,
            Maker::Copy | Maker::Other => {}
        }
        Age { number: self.number, ran: by == Maker::Run }
    }
}

fn is_python(path: &[u8]) -> bool {
    path.ends_with(b".py")
}

/// Whether the time of an entry follows from its content.
pub(crate) fn follows_content(path: &[u8], kind: &NodeKind, mtime: i64) -> bool {
    mtime == LAYER_EPOCH && is_python(path) && matches!(kind, NodeKind::File { .. })
}

/// The time of Python source with that content.
pub(crate) fn of_content(sum: Sum) -> i64 {
    let [one, two, three, ..] = sum.bytes().map(i64::from);
    LAYER_EPOCH + (one << 16 | two << 8 | three) % SPREAD
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Known;

    #[test]
    fn what_is_copied_after_a_command_is_newer_than_its_results() {
        use Maker::{Copy, Other, Run};
        let ages = |base: bool, makers: &[Maker]| -> Vec<i64> {
            let mut ages = Ages { number: 0, results: base };
            let shown = |by: &Maker| ages.next(*by).shown(b"a.c", LAYER_EPOCH);
            makers.iter().map(shown).map(|time| (time - LAYER_EPOCH) / SPREAD).collect()
        };
        assert_eq!(
            ages(false, &[Copy, Run, Other, Copy, Copy, Run, Run, Copy]),
            [0, 0, 0, 1, 1, 1, 1, 2]
        );
        assert_eq!(ages(true, &[Copy, Run]), [1, 1], "a base holds results");
        assert_eq!(ages(true, &[Run, Copy]), [0, 1]);
        let many = vec![[Run, Copy]; 1200].concat();
        assert!(ages(true, &many).last() == Some(&i64::from(MAX_AGE)));
        // 2013, and no later than what a clock says today.
        assert!(LAYER_EPOCH + i64::from(MAX_AGE + 1) * SPREAD < 1_400_000_000);
    }

    #[test]
    fn own_times_and_those_of_python_stay() {
        let (copied, ran) = (Age { number: 3, ran: false }, Age { number: 3, ran: true });
        let later = LAYER_EPOCH + 3 * SPREAD;
        assert_eq!((copied.shown(b"a", LAYER_EPOCH), ran.shown(b"a", LAYER_EPOCH)), (later, later));
        assert_eq!(copied.shown(b"a", 1_700_000_000), 1_700_000_000);
        assert_eq!(copied.shown(b"d/a.py", LAYER_EPOCH + 7), later + 7);
        assert_eq!(ran.shown(b"d/a.py", LAYER_EPOCH + 7), LAYER_EPOCH + 7);
        assert_eq!((copied.suffix(), ran.suffix()), (".3".to_owned(), ".3r".to_owned()));
        assert_eq!(Age::default().suffix(), "");
    }

    #[test]
    fn another_content_is_another_time() {
        let of = |text: &[u8]| of_content(Sum::of(text));
        assert_eq!(of(b"DEBUG = 1"), of(b"DEBUG = 1"));
        assert_ne!(of(b"DEBUG = 1"), of(b"DEBUG = 0"));
        for text in [&b""[..], b"a", b"b"] {
            assert!((LAYER_EPOCH..LAYER_EPOCH + SPREAD).contains(&of(text)));
        }
        let file = NodeKind::File { size: 0, digest: Known::default() };
        assert!(follows_content(b"a/b.py", &file, LAYER_EPOCH));
        assert!(
            !follows_content(b"a/b.py", &file, 5) && !follows_content(b"b.c", &file, LAYER_EPOCH)
        );
        assert!(!follows_content(b"d.py", &NodeKind::Directory, LAYER_EPOCH));
    }
}
