//! What reading one layer may take.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// What a child may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plane) struct Limits {
    /// Memory that it writes to, in bytes.
    pub(super) memory_bytes: u64,
    /// Processor time.
    pub(super) cpu: Duration,
    /// How long it may take no byte, and after the last byte say nothing.
    pub(super) silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 1024 * 1024 * 1024,
            cpu: Duration::from_secs(600),
            silence: Duration::from_secs(60),
        }
    }
}

/// `gate/analysis.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    memory_mib: Option<u64>,
    cpu_seconds: Option<u64>,
    silence_seconds: Option<u64>,
}

impl Limits {
    /// Reads limits; what is not said stays as it is by default.
    pub(in crate::plane) fn parse(text: &str) -> anyhow::Result<Self> {
        let raw: Raw = toml::from_str(text).context("it is not TOML of the known names")?;
        let within = |name, value: Option<u64>, most: u64, default: u64| {
            let value = value.unwrap_or(default);
            ensure!((1..=most).contains(&value), "`{name}` is {value}, not 1 to {most}");
            Ok(value)
        };
        let memory_mib = within("memory_mib", raw.memory_mib, 64 * 1024, 1024)?;
        let cpu = within("cpu_seconds", raw.cpu_seconds, 86_400, 600)?;
        let silence = within("silence_seconds", raw.silence_seconds, 3600, 60)?;
        Ok(Self {
            memory_bytes: memory_mib * 1024 * 1024,
            cpu: Duration::from_secs(cpu),
            silence: Duration::from_secs(silence),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        assert_eq!(Limits::parse("").unwrap(), Limits::default());
        let own = Limits::parse("memory_mib = 64\ncpu_seconds = 5\nsilence_seconds = 2").unwrap();
        let (cpu, silence) = (Duration::from_secs(5), Duration::from_secs(2));
        assert_eq!(own, Limits { memory_bytes: 64 * 1024 * 1024, cpu, silence });
        for bad in ["memory_mib = 0", "memory_mib = 70000", "memory = 1", "cpu_seconds = \"1\""] {
            assert!(Limits::parse(bad).is_err(), "{bad}");
        }
    }
}
