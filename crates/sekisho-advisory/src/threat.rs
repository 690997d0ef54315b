//! What is known about attacks: CISA's catalogue of exploited vulnerabilities, and FIRST's forecast.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::matching::Finding;

/// Largest file of either kind, in bytes: the forecast of all CVEs has some 10 MiB.
pub const MAX_THREAT_BYTES: usize = 64 * 1024 * 1024;

/// Most CVEs of either kind: three times as many as there are.
const MAX_CVES: usize = 1_000_000;

/// What is known about one vulnerability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Threat {
    /// It is in CISA's catalogue: attackers use it.
    pub exploited: bool,
    /// EPSS: how likely it is used within 30 days, in millionths.
    pub epss_ppm: u32,
}

/// What is known about all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Threats {
    exploited: BTreeSet<String>,
    epss_ppm: BTreeMap<String, u32>,
}

/// Why a file says nothing about attacks.
#[derive(Debug, thiserror::Error)]
pub enum ThreatError {
    /// Over [`MAX_THREAT_BYTES`], or too many entries.
    #[error("it is too large")]
    TooLarge,
    /// No JSON of the catalogue's form.
    #[error("it is no catalogue of exploited vulnerabilities")]
    Catalogue(#[source] serde_json::Error),
    /// A line that is none of the forecast's.
    #[error("line {0} is not `cve,epss,percentile`")]
    Forecast(usize),
}

#[derive(Deserialize)]
struct Catalogue {
    vulnerabilities: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "cveID")]
    cve: String,
}

impl Threats {
    /// Takes CISA's `known_exploited_vulnerabilities.json`.
    ///
    /// # Errors
    /// `TooLarge` or `Catalogue`.
    pub fn with_catalogue(self, bytes: &[u8]) -> Result<Self, ThreatError> {
        if bytes.len() > MAX_THREAT_BYTES {
            return Err(ThreatError::TooLarge);
        }
        let read: Catalogue = serde_json::from_slice(bytes).map_err(ThreatError::Catalogue)?;
        if read.vulnerabilities.len() > MAX_CVES {
            return Err(ThreatError::TooLarge);
        }
        let exploited = read.vulnerabilities.into_iter().map(|entry| entry.cve).collect();
        Ok(Self { exploited, ..self })
    }

    /// Takes FIRST's `epss_scores-current.csv`: comments, a header, then `cve,epss,percentile`.
    ///
    /// # Errors
    /// `TooLarge` or `Forecast`.
    pub fn with_forecast(self, text: &str) -> Result<Self, ThreatError> {
        if text.len() > MAX_THREAT_BYTES {
            return Err(ThreatError::TooLarge);
        }
        let mut epss_ppm = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            if line.starts_with('#') || line.starts_with("cve,") || line.trim().is_empty() {
                continue;
            }
            let mut fields = line.split(',');
            let cve = fields.next().filter(|cve| cve.starts_with("CVE-"));
            let score = fields.next().and_then(ppm);
            let (Some(cve), Some(score)) = (cve, score) else {
                return Err(ThreatError::Forecast(number + 1));
            };
            epss_ppm.insert(cve.to_owned(), score);
            if epss_ppm.len() > MAX_CVES {
                return Err(ThreatError::TooLarge);
            }
        }
        Ok(Self { epss_ppm, ..self })
    }

    /// What is known about a finding under any of its ids; `None` when nothing is.
    pub fn of(&self, finding: &Finding) -> Option<Threat> {
        let mut known = None;
        for id in finding.aliases.iter().chain([&finding.id]) {
            let exploited = self.exploited.contains(id);
            let epss_ppm = self.epss_ppm.get(id).copied();
            if exploited || epss_ppm.is_some() {
                let threat: &mut Threat = known.get_or_insert_default();
                threat.exploited |= exploited;
                threat.epss_ppm = threat.epss_ppm.max(epss_ppm.unwrap_or_default());
            }
        }
        known
    }
}

/// A probability in decimals, such as `0.97534` or `1`.
fn ppm(text: &str) -> Option<u32> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = decimals.chars().chain("000000".chars()).take(6).collect();
    let whole: u32 = whole.parse().ok().filter(|whole| *whole <= 1)?;
    let parts: u32 = digits.parse().ok().filter(|_| digits.bytes().all(|b| b.is_ascii_digit()))?;
    Some((whole * 1_000_000 + parts).min(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(id: &str, aliases: &[&str]) -> Finding {
        let text = format!(
            r#"{{"id": "{id}", "aliases": {aliases:?}, "severity": "high", "ecosystem": "npm",
               "package": "a", "installed": "1", "summary": "", "url": "", "path": ""}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn any_id_of_a_finding_counts() {
        let catalogue = br#"{"title": "x", "count": 1, "vulnerabilities": [
            {"cveID": "CVE-2021-44228", "vendorProject": "Apache", "dateAdded": "2021-12-10"}]}"#;
        let forecast = "#model_version:v2025.03.14,score_date:2026-11-20T00:00:00+0000\n\
                        cve,epss,percentile\nCVE-2021-44228,0.94358,0.99961\nCVE-2020-1,1,1\n\
                        CVE-2020-2,0.00001,0.0\n";
        let threats = Threats::default();
        let threats = threats.with_catalogue(catalogue).unwrap().with_forecast(forecast).unwrap();
        let of = |id, aliases: &[&str]| threats.of(&finding(id, aliases));
        let want = Threat { exploited: true, epss_ppm: 943_580 };
        assert_eq!(of("GHSA-x", &["CVE-2021-44228", "CVE-2020-2"]), Some(want));
        assert_eq!(of("CVE-2020-1", &[]), Some(Threat { exploited: false, epss_ppm: 1_000_000 }));
        assert_eq!(of("CVE-2020-2", &[]), Some(Threat { exploited: false, epss_ppm: 10 }));
        assert_eq!(of("CVE-2020-3", &["GHSA-y"]), None);
    }

    #[test]
    fn what_is_neither_is_refused() {
        assert!(matches!(Threats::default().with_catalogue(b"[]"), Err(ThreatError::Catalogue(_))));
        for bad in ["x", "CVE-1,", "CVE-1,2", "CVE-1,-0.1", "CVE-1,0.x", "1,0.1"] {
            let text = format!("cve,epss,percentile\n{bad}\n");
            let error = Threats::default().with_forecast(&text).unwrap_err();
            assert!(matches!(error, ThreatError::Forecast(2)), "{bad}");
        }
    }
}
