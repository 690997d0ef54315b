//! Inputs made of other inputs. The same seed makes the same inputs, on every machine.

use crate::MAX_INPUT;

/// Most changes of one input.
const MAX_CHANGES: u64 = 6;
/// Most times that a piece is repeated: what nests or multiplies shows by then.
const MAX_REPEATS: u64 = 600;
/// Of a hundred inputs, so many are made of the one before instead of a fresh one.
const WALK_PERCENT: u64 = 80;
/// Numbers at which programs err.
const NUMBERS: [&str; 18] = [
    "0",
    "1",
    "-1",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "-9223372036854775808",
    "99999999999999999999999999",
    "1e999",
    "0.1",
];
/// Bytes and characters at which programs err.
const PIECES: [&[u8]; 22] = [
    b"\0",
    b"\n",
    b"\r\n",
    b"\t",
    b" ",
    b"\"",
    b"'",
    b"\\",
    b"/",
    b"..",
    b"%",
    b"\x7f",
    b"\xff",
    b"\xc3\x28",
    b"\xef\xbb\xbf",
    "\u{85}".as_bytes(),
    "\u{2028}".as_bytes(),
    "é".as_bytes(),
    "\u{1f600}".as_bytes(),
    "\u{130}".as_bytes(),
    "\u{feff}".as_bytes(),
    "\u{202e}".as_bytes(),
];

/// Numbers that look random: `SplitMix64`.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of `0..bound`; 0 where that is empty.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.roll() % bound).unwrap_or_default()
    }

    /// Whether it happens, of a hundred times so often.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.roll() % 100 < percent
    }

    fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> Option<&'a T> {
        items.get(self.below(items.len())).copied()
    }

    /// A range within `0..len`, mostly a short one.
    fn range(&mut self, len: usize) -> std::ops::Range<usize> {
        let start = self.below(len + 1);
        let longest = if self.chance(70) { 16.min(len - start) } else { len - start };
        start..start + self.below(longest + 1)
    }
}

/// Makes inputs of a corpus.
#[derive(Debug)]
pub struct Mutator<'a> {
    dice: Dice,
    corpus: &'a [Vec<u8>],
    words: &'a [&'static str],
    last: Vec<u8>,
}

impl<'a> Mutator<'a> {
    /// What `seed` makes of `corpus` and `words`.
    pub fn new(seed: u64, corpus: &'a [Vec<u8>], words: &'a [&'static str]) -> Self {
        Self { dice: Dice::new(seed), corpus, words, last: Vec::new() }
    }

    /// The next input, of at most [`MAX_INPUT`] bytes.
    pub fn next_input(&mut self) -> &[u8] {
        if self.last.is_empty() || !self.dice.chance(WALK_PERCENT) {
            let fresh = self.corpus.get(self.dice.below(self.corpus.len()));
            self.last = fresh.cloned().unwrap_or_default();
        }
        for _ in 0..1 + self.dice.roll() % MAX_CHANGES {
            self.change();
            self.last.truncate(MAX_INPUT);
        }
        &self.last
    }

    fn change(&mut self) {
        let dice = &mut self.dice;
        let range = dice.range(self.last.len());
        match dice.roll() % 12 {
            0 | 1 => {
                let (at, bit) = (dice.below(self.last.len()), dice.roll() % 8);
                if let Some(byte) = self.last.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            2 => drop(self.last.drain(range)),
            3 => {
                let times = if dice.chance(80) { 1 } else { dice.roll() % MAX_REPEATS };
                let times = usize::try_from(times).unwrap_or(1);
                let piece = self.last.get(range.clone()).unwrap_or_default();
                let piece = piece.repeat(times.min(MAX_INPUT / piece.len().max(1)));
                self.put(range.end..range.end, &piece);
            }
            4 | 5 => {
                let piece = dice.pick(self.words).unwrap_or_default();
                let over = if dice.chance(50) { range } else { range.start..range.start };
                self.put(over, piece.as_bytes());
            }
            6 => {
                let piece = dice.pick(&PIECES).unwrap_or_default();
                self.put(range.start..range.start, piece);
            }
            7 => self.renumber(),
            8 => {
                let other = self.corpus.get(dice.below(self.corpus.len()));
                let other = other.map(Vec::as_slice).unwrap_or_default();
                let piece = other.get(dice.range(other.len())).unwrap_or_default();
                self.put(range, piece);
            }
            9 => {
                let piece: Vec<u8> = self.last.drain(range).collect();
                let at = self.dice.below(self.last.len() + 1);
                self.put(at..at, &piece);
            }
            10 if dice.chance(20) => self.last.truncate(range.start),
            10 => {
                for byte in self.last.get_mut(range).unwrap_or_default() {
                    *byte ^= if byte.is_ascii_alphabetic() { 0x20 } else { 0 };
                }
            }
            _ => {
                let byte = (dice.roll() & 0xff) as u8;
                self.put(range.start..range.start, &[byte]);
            }
        }
    }

    fn put(&mut self, over: std::ops::Range<usize>, piece: &[u8]) {
        self.last.splice(over, piece.iter().copied());
    }

    /// Another number where one is.
    fn renumber(&mut self) {
        let from = self.dice.below(self.last.len());
        let is_digit = |byte: &u8| byte.is_ascii_digit();
        let rest = self.last.get(from..).unwrap_or_default();
        let Some(start) = rest.iter().position(is_digit) else { return };
        let digits = rest.iter().skip(start).take_while(|byte| is_digit(byte)).count();
        let number = self.dice.pick(&NUMBERS).unwrap_or_default();
        self.put(from + start..from + start + digits, number.as_bytes());
    }
}
