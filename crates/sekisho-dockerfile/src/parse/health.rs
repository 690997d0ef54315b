//! HEALTHCHECK, and durations.

use std::time::Duration;

use crate::ast::{Healthcheck, HealthcheckTest};
use crate::parse::flags::Flags;
use crate::parse::instruction::command;
use crate::parse::{Fail, Input, words};

pub(super) fn parse(input: &Input<'_>, warnings: &mut Vec<Fail>) -> Result<Healthcheck, Fail> {
    let (flags, at) = Flags::split(input);
    flags.allow(&["interval", "timeout", "start-period", "start-interval", "retries"], &[])?;
    let (kind, rest) = words::split_first(&input.line.text[at..]);
    let test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() => HealthcheckTest::None,
        "NONE" => {
            let offset = input.line.text.len() - rest.len();
            return Err(Fail::new(offset, "HEALTHCHECK NONE has no arguments"));
        }
        "CMD" if rest.is_empty() => {
            return Err(Fail::new(at, "HEALTHCHECK CMD needs a command"));
        }
        "CMD" => {
            let offset = input.line.text.len() - rest.len();
            HealthcheckTest::Command(command(input, offset, warnings)?)
        }
        _ => {
            let message = format!("HEALTHCHECK needs `CMD` or `NONE`, not `{kind}`");
            return Err(Fail::new(at, message));
        }
    };
    let time = |name: &str| match flags.value(name)? {
        Some((offset, text)) => duration(text).map(Some).ok_or_else(|| {
            let message = format!("flag `--{name}` is `{text}`, not a duration");
            Fail::new(offset, message).hint("write for example `30s`, `1m30s` or `500ms`")
        }),
        None => Ok(None),
    };
    let retries = match flags.value("retries")? {
        Some((offset, text)) => Some(text.parse().map_err(|_| {
            Fail::new(offset, format!("flag `--retries` is `{text}`, not a number"))
        })?),
        None => None,
    };
    Ok(Healthcheck {
        test,
        interval: time("interval")?,
        timeout: time("timeout")?,
        start_period: time("start-period")?,
        start_interval: time("start-interval")?,
        retries,
    })
}

/// A duration in Go's form: `1h2m3.5s`; 0, or a millisecond at least.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        rest = &rest[end..];
        total = total.checked_add(Duration::try_from_secs_f64(number * unit).ok()?)?;
    }
    // Docker's unit is a signed 64-bit number of nanoseconds.
    let fits = i64::try_from(total.as_nanos()).is_ok();
    (fits && (total.is_zero() || total >= Duration::from_millis(1))).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations() {
        for (text, want) in [
            ("30s", Some(Duration::from_secs(30))),
            ("1m30s", Some(Duration::from_secs(90))),
            ("1.5h", Some(Duration::from_secs(5400))),
            ("500ms", Some(Duration::from_millis(500))),
            ("0", Some(Duration::ZERO)),
            ("0s", Some(Duration::ZERO)),
            ("1us", None),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1d", None),
            ("1..5s", None),
            ("9999999999999999h", None),
        ] {
            assert_eq!(duration(text), want, "{text}");
        }
    }
}
