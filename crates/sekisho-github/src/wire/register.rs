//! Registration of a runner with a token: `POST /actions/runners/register`.
//!
//! Source: protocol reference 1.10, "Runner-admin (V2) registration".

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::lenient::scalar;

/// The least and the most bits of a modulus.
const MODULUS_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// The most bytes of an exponent.
const MAX_EXPONENT_BYTES: usize = 8;
/// The longest key, in characters.
const MAX_KEY: usize = 4 * 1024;

/// Body of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterRunner {
    /// The repository, organization or enterprise, as people see it.
    pub url: String,
    /// A runner group.
    #[serde(deserialize_with = "scalar::int_or_text")]
    pub group_id: u64,
    /// Unique among the runners.
    pub name: String,
    /// The runner's own.
    #[serde(default, deserialize_with = "scalar::null_is_default")]
    pub version: String,
    /// Whether it does not replace itself by a newer one.
    #[serde(default, deserialize_with = "scalar::bool_or_text")]
    pub updates_disabled: bool,
    /// Whether it is for one job.
    #[serde(default, deserialize_with = "scalar::bool_or_text")]
    pub ephemeral: bool,
    /// All of them: none are added.
    #[serde(default, deserialize_with = "scalar::null_is_default")]
    pub labels: Vec<RunnerLabel>,
    /// See [`rsa_key_value`].
    pub public_key: String,
    /// Which one is replaced.
    #[serde(
        default,
        deserialize_with = "scalar::some_int_or_text",
        skip_serializing_if = "Option::is_none"
    )]
    pub runner_id: Option<i64>,
    /// Whether one is replaced.
    #[serde(default, deserialize_with = "scalar::bool_or_text")]
    pub replace: bool,
}

/// A label that a runner brings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerLabel {
    /// In any letter case.
    pub name: String,
    /// Whose it is.
    #[serde(default, rename = "type")]
    pub kind: LabelKind,
}

/// Whose a label is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LabelKind {
    /// The runner's: `self-hosted`, its system, its architecture.
    System,
    /// The person's who registers it.
    #[default]
    User,
}

/// Answer of the request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredRunner {
    /// Its number.
    pub id: u64,
    /// As asked for.
    pub name: String,
    /// How it comes to its tokens and its messages.
    pub authorization: RunnerAuthorization,
}

/// How a registered runner comes to its tokens and its messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunnerAuthorization {
    /// Where an assertion under its key is changed for a token.
    pub authorization_url: String,
    /// The broker, with a slash at the end.
    pub server_url: String,
    /// Issuer of its assertions.
    pub client_id: String,
    /// Where the older service has tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy_authorization_url: Option<String>,
}

/// Why a public key is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not `<RSAKeyValue>…</RSAKeyValue>` with modulus and exponent in base64.
    #[error("it is no RSAKeyValue")]
    Form,
    /// The modulus is too short or too long, or the exponent is no odd number above 2.
    #[error("it is no RSA key of 2048 to 8192 bits")]
    Size,
}

/// Reads a key as .NET writes it, `<RSAKeyValue><Modulus>…</Modulus><Exponent>…</Exponent></RSAKeyValue>`:
/// modulus and exponent, big-endian, without zeros in front.
///
/// # Errors
/// See [`KeyError`].
pub fn rsa_key_value(xml: &str) -> Result<(Vec<u8>, Vec<u8>), KeyError> {
    if xml.len() > MAX_KEY {
        return Err(KeyError::Form);
    }
    let (before, rest) = xml.trim().split_once("<RSAKeyValue>").ok_or(KeyError::Form)?;
    let inner = rest.strip_suffix("</RSAKeyValue>").ok_or(KeyError::Form)?;
    if !before.is_empty() || inner.contains("RSAKeyValue") {
        return Err(KeyError::Form);
    }
    let number = |name| -> Result<Vec<u8>, KeyError> {
        let text: String = element(inner, name).ok_or(KeyError::Form)?.split_whitespace().collect();
        let bytes = STANDARD.decode(text).map_err(|_| KeyError::Form)?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Ok(bytes.into_iter().skip(zeros).collect())
    };
    let (modulus, exponent) = (number("Modulus")?, number("Exponent")?);
    let odd = exponent.last().is_some_and(|byte| byte % 2 == 1);
    let small = exponent.len() > MAX_EXPONENT_BYTES || !odd || exponent == [1];
    if !MODULUS_BITS.contains(&bits(&modulus)) || small {
        return Err(KeyError::Size);
    }
    Ok((modulus, exponent))
}

/// Of a number without zeros in front.
fn bits(number: &[u8]) -> usize {
    number.len() * 8 - number.first().map_or(0, |byte| byte.leading_zeros() as usize)
}

/// What is between the tags of an element's first occurrence.
fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, after) = xml.split_once(&format!("<{name}>"))?;
    Some(after.split_once(&format!("</{name}>"))?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(modulus: &[u8], exponent: &[u8]) -> String {
        let (n, e) = (STANDARD.encode(modulus), STANDARD.encode(exponent));
        format!("<RSAKeyValue><Modulus>{n}</Modulus><Exponent>{e}</Exponent></RSAKeyValue>")
    }

    #[test]
    fn keys_are_read() {
        let modulus = vec![0xc1; 256];
        let want = Ok((modulus.clone(), vec![1, 0, 1]));
        assert_eq!(rsa_key_value(&key(&modulus, &[1, 0, 1])), want);
        // Zeros in front, and lines: as others write it.
        let zeros = [&[0, 0][..], &modulus].concat();
        let broken = key(&zeros, &[0, 1, 0, 1]).replace("><", ">\r\n  <");
        assert_eq!(rsa_key_value(&broken), want);
        for (modulus, exponent) in [
            (vec![1; 128], vec![1, 0, 1]),
            ([&[0x7f][..], &[0xc1; 255]].concat(), vec![1, 0, 1]),
            (vec![1; 1025], vec![3]),
            (vec![0; 256], vec![3]),
            (modulus.clone(), vec![]),
            (modulus.clone(), vec![1]),
            (modulus.clone(), vec![4]),
            (modulus.clone(), vec![1; 9]),
        ] {
            let (n, e) = (modulus.len(), exponent.len());
            assert_eq!(rsa_key_value(&key(&modulus, &exponent)), Err(KeyError::Size), "{n} {e}");
        }
        let good = key(&modulus, &[3]);
        for bad in
            ["", "<RSAKeyValue>", &good[1..], &good.replace("Modulus>", "Modulu>"), &good.repeat(9)]
        {
            assert_eq!(rsa_key_value(bad), Err(KeyError::Form), "{bad}");
        }
        assert_eq!(rsa_key_value(&good.replace("wcHB", "w!HB")), Err(KeyError::Form));
    }

    #[test]
    fn a_request_of_either_runner_is_read() {
        let text = r#"{"url":"http://127.0.0.1:1/o/r","group_id":1,"name":"a","version":"3.0.0",
            "updates_disabled":false,"ephemeral":true,"public_key":"k",
            "labels":[{"ID":0,"Name":"self-hosted","Type":"system"},{"Name":"gpu","Type":"USER"}]}"#;
        let read: RegisterRunner = crate::lenient::from_str(text).unwrap();
        assert!(read.ephemeral && !read.replace);
        let kinds: Vec<LabelKind> = read.labels.iter().map(|label| label.kind).collect();
        assert_eq!(kinds, [LabelKind::System, LabelKind::User]);
        let text = r#"{"url":"u","group_id":"2","name":"a","public_key":"k","labels":null,
            "runner_id":7,"replace":"True"}"#;
        let read: RegisterRunner = crate::lenient::from_str(text).unwrap();
        assert_eq!((read.group_id, read.runner_id, read.replace), (2, Some(7), true));
        assert_eq!(read.labels, []);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_key_or_none(text in "(<RSAKeyValue>)?(<Modulus>)?[A-Za-z0-9+/=<>]{0,60}(</Modulus>)?") {
            let _ = rsa_key_value(&text);
        }
    }
}
