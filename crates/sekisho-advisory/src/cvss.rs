//! CVSS base scores, versions 3.0 and 3.1.
//!
//! Source: the specifications of FIRST, section 7 of each
//! (<https://www.first.org/cvss/v3.1/specification-document>). Temporal and environmental metrics
//! are accepted and take no part: an advisory cannot know the environment. Version 4 has no
//! formula but a table of 270 lines; records that carry only that say their severity in words.

use std::fmt;

use sekisho_types::Severity;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A CVSS score, 0.0 to 10.0, in tenths; so it can be compared and hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Score {
    tenths: u8,
}

impl Score {
    /// The score as a number.
    pub fn value(self) -> f64 {
        f64::from(self.tenths) / 10.0
    }

    /// The word for it.
    pub fn severity(self) -> Severity {
        Severity::from_score(self.value())
    }

    /// Rounds to the nearest tenth and clamps to the scale.
    fn from_value(value: f64) -> Self {
        // The largest tenth not above `value`, without a float-to-integer cast.
        let nearest = |tenths: &u8| (f64::from(*tenths) / 10.0 - value).abs() < 0.05;
        let tenths = if value >= 10.0 { Some(100) } else { (0..=100).find(nearest) };
        Self { tenths: tenths.unwrap_or(0) }
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.tenths / 10, self.tenths % 10)
    }
}

impl Serialize for Score {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_f64(self.value())
    }
}

impl<'de> Deserialize<'de> for Score {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self::from_value(f64::deserialize(from)?))
    }
}

/// A text is no CVSS 3 vector.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum VectorError {
    /// It does not begin with `CVSS:3.0/` or `CVSS:3.1/`.
    #[error("vector is not of CVSS version 3.0 or 3.1")]
    Version,
    /// A metric that does not exist, or with a value that does not exist.
    #[error("vector has an unknown metric or value")]
    Metric,
    /// The same metric twice.
    #[error("vector has a metric twice")]
    Twice,
    /// Not all eight base metrics are there.
    #[error("vector lacks a base metric")]
    Missing,
}

const BASE: [(&str, &str); 8] = [
    ("AV", "NALP"),
    ("AC", "LH"),
    ("PR", "NLH"),
    ("UI", "NR"),
    ("S", "UC"),
    ("C", "HLN"),
    ("I", "HLN"),
    ("A", "HLN"),
];

const OTHER: [(&str, &str); 14] = [
    ("E", "XHFPU"),
    ("RL", "XUWTO"),
    ("RC", "XCRU"),
    ("CR", "XHML"),
    ("IR", "XHML"),
    ("AR", "XHML"),
    ("MAV", "XNALP"),
    ("MAC", "XLH"),
    ("MPR", "XNLH"),
    ("MUI", "XNR"),
    ("MS", "XUC"),
    ("MC", "XHLN"),
    ("MI", "XHLN"),
    ("MA", "XHLN"),
];

/// The base score of a CVSS 3.0 or 3.1 vector.
///
/// # Errors
/// The text is no such vector; see the variants.
pub fn base_score(vector: &str) -> Result<Score, VectorError> {
    let body = vector.strip_prefix("CVSS:3.1/").or(vector.strip_prefix("CVSS:3.0/"));
    let body = body.ok_or(VectorError::Version)?;
    let mut base = [None; BASE.len()];
    let mut other = [false; OTHER.len()];
    for metric in body.split('/') {
        let (name, value) = metric.split_once(':').ok_or(VectorError::Metric)?;
        let mut letters = value.chars();
        let (Some(letter), None) = (letters.next(), letters.next()) else {
            return Err(VectorError::Metric);
        };
        if let Some(i) = find(&BASE, name, letter) {
            if base[i].replace(letter).is_some() {
                return Err(VectorError::Twice);
            }
        } else {
            let i = find(&OTHER, name, letter).ok_or(VectorError::Metric)?;
            if std::mem::replace(&mut other[i], true) {
                return Err(VectorError::Twice);
            }
        }
    }
    let [Some(av), Some(ac), Some(pr), Some(ui), Some(s), Some(c), Some(i), Some(a)] = base else {
        return Err(VectorError::Missing);
    };
    let changed = s == 'C';
    let exploitability =
        8.22 * av_weight(av) * ac_weight(ac) * pr_weight(pr, changed) * ui_weight(ui);
    let iss = 1.0 - (1.0 - impact_weight(c)) * (1.0 - impact_weight(i)) * (1.0 - impact_weight(a));
    let impact =
        if changed { 7.52 * (iss - 0.029) - 3.25 * (iss - 0.02).powi(15) } else { 6.42 * iss };
    if impact <= 0.0 {
        return Ok(Score { tenths: 0 });
    }
    let sum = if changed { 1.08 * (impact + exploitability) } else { impact + exploitability };
    Ok(Score::from_value(round_up(sum.min(10.0))))
}

fn find(table: &[(&str, &str)], name: &str, letter: char) -> Option<usize> {
    table.iter().position(|(metric, letters)| *metric == name && letters.contains(letter))
}

/// Up to the next tenth, as appendix A of the 3.1 specification does it: first to five decimals,
/// so that `4.000000001`, which is floating point's doing, stays 4.0. The 3.0 one means the same.
fn round_up(value: f64) -> f64 {
    let hundred_thousandths = (value * 100_000.0).round();
    (hundred_thousandths / 10_000.0).ceil() / 10.0
}

fn av_weight(letter: char) -> f64 {
    match letter {
        'N' => 0.85,
        'A' => 0.62,
        'L' => 0.55,
        _ => 0.2,
    }
}

fn ac_weight(letter: char) -> f64 {
    if letter == 'L' { 0.77 } else { 0.44 }
}

fn pr_weight(letter: char, changed: bool) -> f64 {
    match (letter, changed) {
        ('N', _) => 0.85,
        ('L', false) => 0.62,
        ('L', true) => 0.68,
        (_, false) => 0.27,
        (_, true) => 0.5,
    }
}

fn ui_weight(letter: char) -> f64 {
    if letter == 'N' { 0.85 } else { 0.62 }
}

fn impact_weight(letter: char) -> f64 {
    match letter {
        'H' => 0.56,
        'L' => 0.22,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_of_the_specification() {
        // Examples of <https://www.first.org/cvss/v3.1/examples>.
        for (vector, want) in [
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", "6.1"),
            ("CVSS:3.0/AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N", "6.4"),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", "10.0"),
            ("CVSS:3.1/AV:P/AC:H/PR:H/UI:R/S:U/C:N/I:N/A:N", "0.0"),
            ("CVSS:3.1/AV:N/AC:L/PR:H/UI:N/S:U/C:H/I:H/A:H/E:P/RL:O", "7.2"),
        ] {
            assert_eq!(base_score(vector).map(|score| score.to_string()), Ok(want.to_owned()));
        }
        assert_eq!(Score { tenths: 72 }.severity(), Severity::High);
    }

    #[test]
    fn what_is_no_vector_is_refused() {
        for (vector, want) in [
            (
                "CVSS:4.0/AV:N/AC:L/AT:N/PR:H/UI:N/VC:L/VI:L/VA:N/SC:N/SI:N/SA:N",
                VectorError::Version,
            ),
            ("AV:N/AC:L/Au:N/C:N/I:N/A:C", VectorError::Version),
            ("CVSS:3.1/AV:X/AC:H/PR:H/UI:R/S:U/C:N/I:N/A:N", VectorError::Metric),
            ("CVSS:3.1/AV:P/AV:P/AC:H/PR:H/UI:R/S:U/C:N/I:N/A:N", VectorError::Twice),
            ("CVSS:3.1/AV:P/AC:H/PR:H/UI:R/S:U/C:N/I:N", VectorError::Missing),
        ] {
            assert_eq!(base_score(vector), Err(want), "{vector}");
        }
    }

    #[test]
    fn a_score_round_trips_as_a_number() {
        for tenths in 0..=100 {
            let score = Score { tenths };
            let json = serde_json::to_string(&score).unwrap();
            assert_eq!(serde_json::from_str::<Score>(&json).unwrap(), score, "{json}");
        }
    }
}
