//! The forms in which a secret shows up in output.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

/// Encoded forms shorter than this say too little and match too much.
const MIN_ENCODED_LEN: usize = 4;
/// A value in double quotes is also masked without them when it is longer than this.
const MIN_QUOTED_LEN: usize = 8;

/// `value` and its encoded forms, none empty; some may be the same.
pub(super) fn of(value: &str) -> Vec<String> {
    let mut forms = vec![value.to_owned()];
    let mut add = |form: String| {
        if form.len() >= MIN_ENCODED_LEN {
            forms.push(form);
        }
    };
    for shift in 0..3 {
        let standard = base64_at(value.as_bytes(), shift);
        add(standard.replace('+', "-").replace('/', "_"));
        add(standard);
    }
    add(json(value));
    add(percent(value, false));
    add(percent(value, true));
    add(percent(value, false).replace("%20", "+"));
    add(xml(value));
    add(value.replace('\'', "''"));
    add(value.replace('\'', "'\\''"));
    add(value.replace('"', "\\\""));
    let unquoted = value.strip_prefix('"').and_then(|v| v.strip_suffix('"'));
    if let Some(unquoted) = unquoted.filter(|v| v.len() > MIN_QUOTED_LEN) {
        add(unquoted.to_owned());
    }
    forms
}

/// The characters that every base64 text has in which `bytes` stand `shift` bytes after a
/// multiple of three: those that no byte before or after has a bit in.
fn base64_at(bytes: &[u8], shift: usize) -> String {
    let mut padded = vec![0; shift];
    padded.extend_from_slice(bytes);
    let encoded = STANDARD_NO_PAD.encode(&padded);
    let from = (shift * 8).div_ceil(6);
    let to = padded.len() * 8 / 6;
    encoded.get(from..to).unwrap_or_default().to_owned()
}

fn json(value: &str) -> String {
    let quoted = serde_json::Value::from(value).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Percent-encoded, all but the unreserved characters of RFC 3986.
fn percent(value: &str, lower: bool) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            _ if lower => text.push_str(&format!("%{byte:02x}")),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

fn xml(value: &str) -> String {
    let escaped = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('"', "&quot;").replace('\'', "&apos;")
}
