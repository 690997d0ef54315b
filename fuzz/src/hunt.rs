//! Runs a target on one input after another until something does not hold.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::Target;
use crate::mutate::Mutator;

/// Most inputs that are tried to make a finding smaller.
const MAX_REDUCTIONS: usize = 5_000;

/// An input of which something does not hold.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Which target.
    pub target: &'static str,
    /// The seed of the inputs.
    pub seed: u64,
    /// How many inputs were made before, the corpus not counted; `None`: it is of the corpus.
    pub round: Option<u64>,
    /// The input, made as small as it goes.
    pub input: Vec<u8>,
    /// What the target said, and where.
    pub said: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { target, seed, round, input, said } = self;
        match round {
            Some(round) => write!(f, "target `{target}`, seed {seed}, input {round}: {said}")?,
            None => write!(f, "target `{target}`, an input of its corpus: {said}")?,
        }
        write!(f, "\n{} bytes: {}", input.len(), input.escape_ascii())
    }
}

impl std::error::Error for Finding {}

/// Runs `target` on its corpus and then on what `seed` makes of it, as long as `goes_on` says, which
/// is told every input before it is run. The answer: how many inputs there were.
///
/// # Errors
/// The first finding; an error of `goes_on` or of the corpus is one too.
pub fn hunt(
    target: &Target,
    seed: u64,
    mut goes_on: impl FnMut(u64, &[u8]) -> io::Result<bool>,
) -> Result<u64, Box<Finding>> {
    let name = target.name;
    let finding = |round, input: &[u8], said| {
        let input = input.to_vec();
        Box::new(Finding { target: name, seed, round, input, said })
    };
    let failed = |error: io::Error| finding(None, &[], error.to_string());
    let corpus = target.corpus().map_err(failed)?;
    for input in &corpus {
        goes_on(0, input).map_err(failed)?;
        holds(target, input).map_err(|said| finding(None, input, said))?;
    }
    let mut mutator = Mutator::new(seed, &corpus, target.words);
    let mut round = 0;
    loop {
        let input = mutator.next_input();
        if !goes_on(round, input).map_err(failed)? {
            return Ok(round);
        }
        if let Err(said) = holds(target, input) {
            return Err(finding(Some(round), &reduce(target, input), said));
        }
        round += 1;
    }
}

/// Whether everything holds of an input.
///
/// # Errors
/// What the target said when it panicked, and where.
pub fn holds(target: &Target, input: &[u8]) -> Result<(), String> {
    keep_panics_quiet();
    WATCHED.set(true);
    let done = panic::catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    WATCHED.set(false);
    done.map_err(|payload| format!("{}, at {}", text(payload.as_ref()), PLACE.take()))
}

/// A smaller input of which it does not hold either: pieces are taken out as long as that is so.
fn reduce(target: &Target, input: &[u8]) -> Vec<u8> {
    let mut smallest = input.to_vec();
    let (mut size, mut tried) = (smallest.len().div_ceil(2), 0);
    while size > 0 {
        let mut at = 0;
        while at < smallest.len() && tried < MAX_REDUCTIONS {
            let mut smaller = smallest.clone();
            drop(smaller.drain(at..(at + size).min(smallest.len())));
            tried += 1;
            if holds(target, &smaller).is_err() {
                smallest = smaller;
            } else {
                at += size;
            }
        }
        size /= 2;
    }
    smallest
}

fn text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default()
}

thread_local! {
    /// Panics of this thread are a target's.
    static WATCHED: Cell<bool> = const { Cell::new(false) };
    /// Where the last of them was.
    static PLACE: Cell<String> = const { Cell::new(String::new()) };
}

/// The panics of targets are told once, as findings; all others as ever.
fn keep_panics_quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if WATCHED.get() {
                PLACE.set(info.location().map(ToString::to_string).unwrap_or_default());
            } else {
                before(info);
            }
        }));
    });
}
