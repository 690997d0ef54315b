//! What each kind of secret looks like. One line a kind; the sources are the issuers' own pages.

use std::ops::Range;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sekisho_types::Digest;

/// Characters of a run.
#[derive(Clone, Copy, Debug)]
enum Class {
    /// `0-9A-Za-z`.
    Alnum,
    /// `0-9A-Za-z`, `-` and `_`.
    Url,
    /// `0-9A-Za-z`, `+`, `/`.
    Base64,
    /// `A-Z2-7`.
    Base32,
    Digits,
    /// `0-9a-f`.
    Hex,
    /// `0-9A-Z`.
    Upper,
    /// Bech32 in capitals.
    Bech32,
    /// `0-9A-Za-z`, `.`, `_`, `~`, `-`.
    Azure,
    /// Between a name and its value.
    Separator,
}

impl Class {
    fn has(self, byte: u8) -> bool {
        match self {
            Self::Alnum => byte.is_ascii_alphanumeric(),
            Self::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
            Self::Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'),
            Self::Base32 => byte.is_ascii_uppercase() || (b'2'..=b'7').contains(&byte),
            Self::Digits => byte.is_ascii_digit(),
            Self::Hex => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Bech32 => b"QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L".contains(&byte),
            Self::Azure => byte.is_ascii_alphanumeric() || b"._~-".contains(&byte),
            Self::Separator => b" \t\"':=\\>".contains(&byte),
        }
    }
}

/// A part behind the prefix.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// So many characters of a class, no more.
    Run(Class, usize, usize),
    Text(&'static str),
    /// What stands between a name and its value; the value begins behind it.
    Between,
}

/// How a candidate is judged.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Parts one after the other, with a word's boundary on both sides, that look random.
    Parts(&'static [Part]),
    /// GitHub's form, which npm has too: the last 6 of 36 characters are the CRC-32 of the others in
    /// base 62. <https://github.blog/2021-04-05-behind-githubs-new-authentication-token-formats/>
    Checked,
    /// Three characters before a digit and `Q~`, 31 to 34 behind: a client secret of Entra ID.
    AzureClient,
    /// PEM without a passphrase. RFC 7468, PROTOCOL.key of OpenSSH.
    PrivateKey,
    /// The same in base64, as Kubernetes has it in secrets and kubeconfigs.
    EncodedKey,
}

/// One kind of secret.
pub(super) struct Detector {
    /// What it is called in findings.
    pub(super) kind: &'static str,
    /// What is searched for.
    pub(super) prefix: &'static str,
    shape: Shape,
}

const fn of(kind: &'static str, prefix: &'static str, parts: &'static [Part]) -> Detector {
    Detector { kind, prefix, shape: Shape::Parts(parts) }
}

const fn checked(kind: &'static str, prefix: &'static str) -> Detector {
    Detector { kind, prefix, shape: Shape::Checked }
}

use Class::{Alnum, Azure, Base32, Base64, Bech32, Digits, Hex, Separator, Upper, Url};
use Part::{Between, Run, Text};

/// A secret key of AWS behind its name.
const AWS_SECRET: &[Part] = &[Run(Separator, 1, 12), Between, Run(Base64, 40, 40)];

/// Two numbers and a random part.
const SLACK: &[Part] =
    &[Run(Digits, 9, 14), Text("-"), Run(Digits, 9, 14), Text("-"), Run(Alnum, 20, 40)];

/// Every kind. A prefix that begins with another one comes first.
pub(super) const DETECTORS: &[Detector] = &[
    of("aws-access-key", "AKIA", &[Run(Base32, 16, 16)]),
    of("aws-access-key", "ASIA", &[Run(Base32, 16, 16)]),
    of("aws-secret-key", "aws_secret_access_key", AWS_SECRET),
    of("aws-secret-key", "AWS_SECRET_ACCESS_KEY", AWS_SECRET),
    of("aws-secret-key", "SecretAccessKey", AWS_SECRET),
    of("google-client-secret", "GOCSPX-", &[Run(Url, 28, 28)]),
    of("google-access-token", "ya29.", &[Run(Url, 60, 1000)]),
    of("azure-storage-key", "AccountKey=", &[Between, Run(Base64, 86, 86), Text("==")]),
    // Three bytes, for two are found everywhere: these are the digits in use.
    Detector { kind: "azure-client-secret", prefix: "7Q~", shape: Shape::AzureClient },
    Detector { kind: "azure-client-secret", prefix: "8Q~", shape: Shape::AzureClient },
    Detector { kind: "azure-client-secret", prefix: "9Q~", shape: Shape::AzureClient },
    checked("github-token", "ghp_"),
    checked("github-token", "gho_"),
    checked("github-token", "ghu_"),
    checked("github-token", "ghs_"),
    checked("github-token", "ghr_"),
    of("github-token", "github_pat_", &[Run(Alnum, 22, 22), Text("_"), Run(Alnum, 59, 59)]),
    of("gitlab-token", "glpat-", &[Run(Url, 20, 300)]),
    of("gitlab-token", "gldt-", &[Run(Url, 20, 20)]),
    of("gitlab-token", "glrt-", &[Run(Url, 20, 20)]),
    of("gitlab-token", "glptt-", &[Run(Hex, 40, 40)]),
    of("slack-token", "xoxb-", SLACK),
    of("slack-token", "xoxp-", SLACK),
    of("slack-token", "xoxa-", SLACK),
    of(
        "slack-token",
        "xapp-",
        &[
            Run(Digits, 1, 2),
            Text("-"),
            Run(Upper, 8, 14),
            Text("-"),
            Run(Digits, 9, 14),
            Text("-"),
            Run(Hex, 64, 64),
        ],
    ),
    of(
        "slack-webhook",
        "hooks.slack.com/services/T",
        &[Run(Upper, 8, 12), Text("/B"), Run(Upper, 8, 12), Text("/"), Run(Alnum, 24, 24)],
    ),
    checked("npm-token", "npm_"),
    // The rest of the prefix is the macaroon's location, `pypi.org` and `test.pypi.org`.
    of("pypi-token", "pypi-AgEIcHlwaS5vcmc", &[Run(Url, 50, 1000)]),
    of("pypi-token", "pypi-AgENdGVzdC5weXBpLm9yZw", &[Run(Url, 50, 1000)]),
    of("rubygems-token", "rubygems_", &[Run(Hex, 48, 48)]),
    of("docker-hub-token", "dckr_pat_", &[Run(Url, 27, 27)]),
    of("stripe-key", "sk_live_", &[Run(Alnum, 24, 247)]),
    of("stripe-key", "rk_live_", &[Run(Alnum, 24, 247)]),
    of("sendgrid-key", "SG.", &[Run(Url, 22, 22), Text("."), Run(Url, 43, 43)]),
    of("openai-key", "sk-proj-", &[Run(Url, 40, 200)]),
    of("anthropic-key", "sk-ant-api03-", &[Run(Url, 95, 95)]),
    of("hugging-face-token", "hf_", &[Run(Alnum, 34, 34)]),
    of("vault-token", "hvs.", &[Run(Url, 90, 200)]),
    of("digitalocean-token", "dop_v1_", &[Run(Hex, 64, 64)]),
    of("grafana-token", "glsa_", &[Run(Alnum, 32, 32), Text("_"), Run(Hex, 8, 8)]),
    of("shopify-token", "shpat_", &[Run(Hex, 32, 32)]),
    of("age-key", "AGE-SECRET-KEY-1", &[Run(Bech32, 58, 58)]),
    of("sekisho-session", "skg1.", &[Run(Url, 100, 1900), Text("."), Run(Url, 86, 86)]),
    Detector { kind: "private-key", prefix: "PRIVATE KEY-----", shape: Shape::PrivateKey },
    // `-----BEGIN`.
    Detector { kind: "private-key", prefix: "LS0tLS1CRUdJTi", shape: Shape::EncodedKey },
];

/// Words of values that stand for another one.
const PLACEHOLDERS: [&str; 11] = [
    "example",
    "placeholder",
    "changeme",
    "redacted",
    "dummy",
    "your_",
    "your-",
    "xxxxx",
    "00000000",
    "12345678",
    "abcdefgh",
];

/// Published by its maker for everybody's tests: the account of the Azurite emulator.
const PUBLIC: [&str; 1] =
    ["Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="];

/// SHA-256 of private keys that their maker publishes and ships to everybody: those that GnuTLS 3.7 and 3.8
/// carry to test themselves with, in every Debian with `apt`. Of a key what is looked at counts, in base64
/// without the breaks. A key is known here, never a kind of file: one that somebody compiles into a program
/// is as public as one in a text.
///
/// Source: GnuTLS, `lib/crypto-selftests-pk.c`.
const PUBLISHED_KEYS: [&str; 12] = [
    "06b37a7e3254992b3ac83f4f08d269fb5c584874360315541ea12bb0b04e92ac",
    "2808649028d2fa88c4432c2961e94af8a8471e29a37f9caa56fc7633e20fd06f",
    "30db3ea6d728b88c03c56388f64efb5bfe5e8d0ed3640482108ac79645304e6f",
    "379693c2a98b9e4f26552ec42a64f249a6e5f49dc8a1e5f6a51a02f3aae4c5d3",
    "7c251fac596359c230c12e9b4e0e19863fffe89377f47c9f0073c6988daf2e53",
    "87e756a2a0abfed9d46c9ee7c796596c78de67bb5d37ffb42ffef3da282fffcb",
    "8f642f0351e1761dd3f7d8934a2da0a5eacd7f8a2c0440d8e2bf58ff2a6e847d",
    "9a5449e68775db802f5b822dabc19c3a3bc86bbabe89e67012cdff361aafba11",
    "bf552d2ff30b20f0b0ee2bcc357a5ab68dbe899ae09a0071b097bee2d2434332",
    "df965cd79ecfbd95da9bc1c3bcd8bbb1ea35b8b506c3542f0eb31c84c4a9136b",
    "e033bc87562a8915b620ab70eb5b968084c587980c12284c3e7adfc27391dc07",
    "f5e42bee7204054c83ce3bb55c8876254ed2a52ddb0cd4ad7b1e8f3b24728053",
];

/// Least entropy of a value, in bits a character. Random hex of 32 characters has 3.5 almost always;
/// words and patterns have less.
const MIN_ENTROPY: f64 = 3.0;

impl Detector {
    pub(super) fn is_checked(&self) -> bool {
        matches!(self.shape, Shape::Checked)
    }

    /// The secret whose prefix begins at `at`; `None` when it is none.
    pub(super) fn judge(&self, window: &[u8], at: usize) -> Option<Range<usize>> {
        let behind = at + self.prefix.len();
        match self.shape {
            Shape::Parts(parts) => {
                let value = follow(window, at, behind, parts)?;
                looks_random(window.get(value.start.max(behind)..value.end)?).then_some(value)
            }
            Shape::Checked => {
                let end = run(window, behind, Alnum, 36, 36)?;
                let (random, checksum) = window.get(behind..end)?.split_at(30);
                (base62(crc32(random)) == checksum && entropy(random) >= MIN_ENTROPY)
                    .then_some(at..end)
            }
            Shape::AzureClient => {
                let begin = at.checked_sub(3)?;
                let before = window.get(begin..at)?;
                let fits =
                    before.iter().all(|byte| Azure.has(*byte)) && is_boundary(window, begin, Azure);
                let end = run(window, behind, Azure, 31, 34).filter(|_| fits)?;
                looks_random(window.get(behind..end)?).then_some(begin..end)
            }
            Shape::PrivateKey => private_key(window, at, behind),
            Shape::EncodedKey => encoded_key(window, at),
        }
    }
}

fn follow(window: &[u8], at: usize, behind: usize, parts: &[Part]) -> Option<Range<usize>> {
    if !is_boundary(window, at, Alnum) {
        return None;
    }
    let (mut begin, mut end) = (at, behind);
    for part in parts {
        end = match part {
            Run(class, min, max) => run(window, end, *class, *min, *max)?,
            Text(text) => {
                window.get(end..)?.starts_with(text.as_bytes()).then_some(end + text.len())?
            }
            Between => {
                begin = end;
                end
            }
        };
    }
    // A dash or an underscore is part of most tokens: what goes on with one has another shape.
    let goes_on = window.get(end).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    (!goes_on).then_some(begin..end)
}

/// Where a run of `min` to `max` characters ends, that goes on no longer.
fn run(window: &[u8], from: usize, class: Class, min: usize, max: usize) -> Option<usize> {
    let rest = window.get(from..)?;
    let length = rest.iter().take(max + 1).take_while(|byte| class.has(**byte)).count();
    (min..=max).contains(&length).then_some(from + length)
}

fn is_boundary(window: &[u8], at: usize, class: Class) -> bool {
    at.checked_sub(1).and_then(|before| window.get(before)).is_none_or(|byte| !class.has(*byte))
}

fn looks_random(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let lower = text.to_ascii_lowercase();
    entropy(value) >= MIN_ENTROPY
        && !PLACEHOLDERS.iter().any(|word| lower.contains(word))
        && !PUBLIC.contains(&text)
}

/// Shannon's, in bits a character.
fn entropy(value: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in value {
        counts[usize::from(*byte)] += 1;
    }
    // At most some thousand characters: exact as f64.
    #[expect(clippy::cast_precision_loss, reason = "a token has at most 2048 characters")]
    let length = value.len() as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| {
            let share = f64::from(*count) / length;
            -share * share.log2()
        })
        .sum()
}

/// A key in PEM, by the line that ends its header; encrypted ones are no secret to whoever has them.
fn private_key(window: &[u8], at: usize, behind: usize) -> Option<Range<usize>> {
    const KINDS: [&str; 5] = ["", "RSA ", "EC ", "DSA ", "OPENSSH "];
    /// What follows has neither cipher nor passphrase.
    const OPENSSH_OPEN: &[u8] = b"b3BlbnNzaC1rZXktdjEAAAAABG5vbmU";
    let kind = KINDS.into_iter().find(|kind| {
        let begin = format!("-----BEGIN {kind}");
        window.get(..at).is_some_and(|before| before.ends_with(begin.as_bytes()))
    })?;
    let (mut body, mut end) = (Vec::new(), behind);
    while let Some(byte) = window.get(end) {
        match byte {
            b'\r' | b'\n' | b' ' | b'\t' => end += 1,
            // In JSON and shell strings.
            b'\\' if matches!(window.get(end + 1), Some(b'n' | b'r')) => end += 2,
            byte if Base64.has(*byte) && end - behind < 1024 => {
                body.push(*byte);
                end += 1;
            }
            _ => break,
        }
    }
    // The smallest, an Ed25519 key in PKCS #8, has 64 characters. DER begins with a sequence, `M`.
    let whole = body.len() >= 64 && entropy(&body) >= MIN_ENTROPY;
    let open =
        if kind == "OPENSSH " { body.starts_with(OPENSSH_OPEN) } else { body.starts_with(b"M") };
    let published = || PUBLISHED_KEYS.contains(&Digest::sha256(&body).hex());
    (whole && open && !published()).then_some(at - "-----BEGIN ".len() - kind.len()..end)
}

/// A key in PEM that is in base64 as a whole. What is looked at is as much as of one that is not.
fn encoded_key(window: &[u8], at: usize) -> Option<Range<usize>> {
    const LOOKED_AT: usize = 1600;
    const LINE_END: &[u8] = b"PRIVATE KEY-----";
    let rest = window.get(at..)?;
    let length = rest.iter().take(LOOKED_AT).take_while(|byte| Base64.has(**byte)).count();
    let decoded = BASE64_STANDARD.decode(rest.get(..length - length % 4)?).ok()?;
    let head = decoded.get(..64)?;
    let begin = head.windows(LINE_END.len()).position(|part| part == LINE_END)?;
    private_key(&decoded, begin, begin + LINE_END.len()).map(|_| at..at + length)
}

/// As in IEEE 802.3: reflected, polynomial `0xEDB88320`.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 };
    !bytes
        .iter()
        .fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

/// Six digits, the most significant first.
fn base62(mut number: u32) -> [u8; 6] {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[(number % 62) as usize];
        number /= 62;
    }
    digits
}

#[cfg(test)]
pub(super) mod making {
    //! Makes tokens for tests, so that none stands in the repository.

    /// A token of GitHub's form with these 30 characters.
    pub(in crate::secrets) fn checked(prefix: &str, random: &str) -> String {
        let checksum = super::base62(super::crc32(random.as_bytes()));
        format!("{prefix}{random}{}", String::from_utf8_lossy(&checksum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_githubs() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
        // The example of GitHub's announcement.
        assert_eq!(&base62(crc32(b"zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ")), b"0mLq17");
    }

    #[test]
    fn no_prefix_hides_another() {
        for (position, detector) in DETECTORS.iter().enumerate() {
            assert!(!detector.prefix.is_empty());
            for earlier in &DETECTORS[..position] {
                assert!(!detector.prefix.starts_with(earlier.prefix), "{}", detector.prefix);
            }
        }
    }
}
