//! Small values of instructions: signals, ports; and how BuildKit, in Go, writes values in a history.

use sekisho_oci::Healthcheck;

/// `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`; which numbers there are is up to the kernel.
pub(super) fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 34] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT",
        "KILL", "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM",
        "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
    ];
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let real_time = name.strip_prefix("RTMIN").or_else(|| name.strip_prefix("RTMAX"));
    match real_time {
        Some("") => true,
        Some(offset) => offset
            .strip_prefix(['+', '-'])
            .and_then(|offset| offset.parse::<u8>().ok())
            .is_some_and(|offset| (1..=30).contains(&offset)),
        None => NAMES.contains(&name),
    }
}

/// `80` → `80/tcp`; `80-82/udp` → three. An address and a port of the host in front mean nothing.
pub(super) fn port_range(text: &str) -> Option<Vec<String>> {
    let text = match text.rsplit_once(':') {
        Some((_, container)) => container,
        None => text,
    };
    let (range, protocol) = match text.split_once('/') {
        Some((range, protocol)) => (range, protocol.to_ascii_lowercase()),
        None => (text, "tcp".to_owned()),
    };
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return None;
    }
    let number = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten()
    };
    let (low, high) = match range.split_once('-') {
        Some((low, high)) => (number(low)?, number(high)?),
        None => (number(range)?, number(range)?),
    };
    (low <= high).then(|| (low..=high).map(|port| format!("{port}/{protocol}")).collect())
}

/// `[a b]`: Go's `%v` of a list.
pub(super) fn plain_list(items: &[String]) -> String {
    format!("[{}]", items.join(" "))
}

/// `["a" "b"]`: Go's `%q` of a list.
pub(super) fn quoted_list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(" "))
}

/// Go's `strconv.Quote`.
fn quoted(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            c if u32::from(c) < 0x80 && c.is_control() => {
                quoted.push_str(&format!("\\x{:02x}", u32::from(c)));
            }
            c if c.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Go's `%+v` of a health check.
pub(super) fn healthcheck(check: &Healthcheck) -> String {
    format!(
        "{{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        plain_list(&check.test),
        duration(check.interval),
        duration(check.timeout),
        duration(check.start_period),
        duration(check.start_interval),
        check.retries
    )
}

/// Go's way to write a duration of so many nanoseconds: `1h2m3.5s`, `200ms`, `0s`.
fn duration(nanos: u64) -> String {
    let fraction = |value: u64, unit: u64, name: &str| {
        let (whole, rest) = (value / unit, value % unit);
        if rest == 0 {
            return format!("{whole}{name}");
        }
        let digits = unit.ilog10() as usize;
        let rest = format!("{rest:0digits$}");
        format!("{whole}.{}{name}", rest.trim_end_matches('0'))
    };
    match nanos {
        0 => "0s".to_owned(),
        1..1_000 => format!("{nanos}ns"),
        1_000..1_000_000 => fraction(nanos, 1_000, "\u{b5}s"),
        1_000_000..1_000_000_000 => fraction(nanos, 1_000_000, "ms"),
        _ => {
            let minutes = nanos / 60_000_000_000;
            let seconds = fraction(nanos % 60_000_000_000, 1_000_000_000, "s");
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, minutes) => format!("{minutes}m{seconds}"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_as_go_writes_them() {
        for (nanos, want) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5\u{b5}s"),
            (200_000_000, "200ms"),
            (1_000_000_000, "1s"),
            (1_050_000_000, "1.05s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
        ] {
            assert_eq!(duration(nanos), want);
        }
        let list = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            quoted_list(&list(&["sh", "a \"b\"\n\\", "\u{1}é"])),
            r#"["sh" "a \"b\"\n\\" "\x01é"]"#
        );
        assert_eq!(plain_list(&list(&["a", "b c"])), "[a b c]");
        let check = Healthcheck {
            test: list(&["CMD-SHELL", "true"]),
            interval: 30_000_000_000,
            retries: 3,
            ..Healthcheck::default()
        };
        assert_eq!(
            healthcheck(&check),
            "{Test:[CMD-SHELL true] Interval:30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:3}"
        );
    }

    #[test]
    fn ports_in_all_forms() {
        for (text, want) in [
            ("80", Some("80/tcp")),
            ("80-81/UDP", Some("80/udp,81/udp")),
            ("127.0.0.1:8080:80", Some("80/tcp")),
            ("8080:80/sctp", Some("80/sctp")),
            ("80/xyz", None),
            ("81-80", None),
            ("a", None),
            ("", None),
            ("8080:", None),
        ] {
            assert_eq!(port_range(text).map(|ports| ports.join(",")).as_deref(), want, "{text}");
        }
    }
}
