//! What a runner registers itself with, and what it is answered.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sekisho_github::wire::register::{RegisterRunner, RegisteredRunner, rsa_key_value};
use sekisho_hub::fuzzing;

use super::bodies::settles;
use super::{text, texts};
use crate::Target;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "runner-keys",
        reads: "the public key of a runner, in XML as .NET writes it",
        holds: "a key has 2048 to 8192 bits and an odd exponent; what is written is read again as the same",
        seeds: || {
            let broken = key(&[&[0, 0][..], &[0xc1; 1024]].concat(), &[0, 3]);
            texts(&[
                &key(&[0xc1; 256], &[1, 0, 1]),
                &broken.replace("><", ">\r\n  <"),
                &key(&[0xc1; 255], &[1]),
            ])
        },
        words: &[
            "<RSAKeyValue>",
            "</RSAKeyValue>",
            "<Modulus>",
            "</Modulus>",
            "<Exponent>",
            "</Exponent>",
            "AQAB",
            "AAAA",
            "==",
            "<!--",
            "<![CDATA[",
            "&#65;",
            "\n",
        ],
        cost: 1,
        run: runner_key,
    },
    Target {
        name: "runner-registrations",
        reads: "what a runner registers itself with, and what it is answered",
        holds: "name and labels are plain and keep their limits; the key is the one that was sent; what is written is read again as the same, names in any case",
        seeds: registrations,
        words: &[
            "null",
            "\"true\"",
            "\"7\"",
            "-1",
            "[]",
            "{}",
            ",",
            "\"labels\":[",
            "{\"name\":\"a\",\"type\":\"System\"},",
            "\"Type\":",
            "\"ephemeral\":",
            "\"replace\":\"True\",\"runner_id\":",
            "\"public_key\":",
            "\\u0000",
            "\\n",
            "/",
            "\u{feff}",
        ],
        cost: 1,
        run: |input| {
            settles::<RegisterRunner>(input);
            settles::<RegisteredRunner>(input);
            fuzzing::registration(input);
        },
    },
];

fn key(modulus: &[u8], exponent: &[u8]) -> String {
    let [modulus, exponent] = [modulus, exponent].map(|bytes| BASE64_STANDARD.encode(bytes));
    let numbers = format!("<Modulus>{modulus}</Modulus><Exponent>{exponent}</Exponent>");
    format!("<RSAKeyValue>{numbers}</RSAKeyValue>")
}

fn runner_key(input: &[u8]) {
    let text = text(input);
    let Ok((modulus, exponent)) = rsa_key_value(&text) else { return };
    let fits = match modulus.len() {
        256 => modulus[0] >= 0x80,
        bytes => (257..=1024).contains(&bytes) && modulus[0] != 0,
    };
    assert!(fits, "{modulus:?}");
    assert!((1..=8).contains(&exponent.len()) && exponent[0] != 0, "{exponent:?}");
    assert!(exponent != [1] && exponent.last().is_some_and(|last| last % 2 == 1), "{exponent:?}");
    assert_eq!(rsa_key_value(&key(&modulus, &exponent)), Ok((modulus, exponent)));
}

fn registrations() -> Vec<Vec<u8>> {
    let key = key(&[0xc1; 256], &[1, 0, 1]);
    let asked = r#"{"url":"http://127.0.0.1:1/acme/app","group_id":1,"name":"a","version":"3.0.0",
"updates_disabled":false,"ephemeral":true,"labels":[{"ID":0,"Name":"self-hosted","Type":"system"},
{"Name":"gpu","Type":"USER"}],"public_key":"KEY"}"#;
    let replacing = r#"{"url":"u","group_id":"2","name":"a","labels":null,"runner_id":7,
"replace":"True","public_key":"KEY"}"#;
    let answered = r#"{"id":7,"name":"a","authorization":{"authorization_url":"http://a/_oauth/token",
"server_url":"http://a/_broker/","client_id":"x","legacy_authorization_url":null}}"#;
    texts(&[&asked.replace("KEY", &key), &replacing.replace("KEY", &key), answered])
}
