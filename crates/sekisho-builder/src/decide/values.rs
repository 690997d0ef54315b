//! Small values of instructions: signals, ports.

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

/// `80` → `80/tcp`; `80-82/udp` → three.
pub(super) fn port_range(text: &str) -> Option<Vec<String>> {
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
