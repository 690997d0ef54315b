//! What reading one layer may take.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use sekisho_sandbox::ParserLimits;
use serde::Deserialize;

/// `gate/analysis.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    memory_mib: Option<u64>,
    cpu_seconds: Option<u64>,
    silence_seconds: Option<u64>,
}

/// Reads limits; what is not said is 1 GiB, ten minutes of processor time, and one of silence.
pub(in crate::gate) fn parse_limits(text: &str) -> anyhow::Result<ParserLimits> {
    let raw: Raw = toml::from_str(text).context("it is not TOML of the known names")?;
    let within = |name, value: Option<u64>, most: u64, default: u64| {
        let value = value.unwrap_or(default);
        ensure!((1..=most).contains(&value), "`{name}` is {value}, not 1 to {most}");
        Ok(value)
    };
    let memory_mib = within("memory_mib", raw.memory_mib, 64 * 1024, 1024)?;
    let cpu = within("cpu_seconds", raw.cpu_seconds, 86_400, 600)?;
    let silence = within("silence_seconds", raw.silence_seconds, 3600, 60)?;
    Ok(ParserLimits {
        memory_bytes: memory_mib * 1024 * 1024,
        cpu: Duration::from_secs(cpu),
        silence: Duration::from_secs(silence),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let of = |memory_bytes, cpu, silence| ParserLimits {
            memory_bytes,
            cpu: Duration::from_secs(cpu),
            silence: Duration::from_secs(silence),
        };
        assert_eq!(parse_limits("").unwrap(), of(1 << 30, 600, 60));
        let own = "memory_mib = 64\ncpu_seconds = 5\nsilence_seconds = 2";
        assert_eq!(parse_limits(own).unwrap(), of(64 << 20, 5, 2));
        for bad in ["memory_mib = 0", "memory_mib = 70000", "memory = 1", "cpu_seconds = \"1\""] {
            assert!(parse_limits(bad).is_err(), "{bad}");
        }
    }
}
