//! What is found, what is left alone, and that nothing of it is shown. Values are made here, so that
//! this file holds none.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use proptest::prelude::*;

use super::detectors::making::checked;
use super::*;

/// Characters that look random, from a seed.
fn random(seed: u64, alphabet: &str, length: usize) -> String {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let alphabet: Vec<char> = alphabet.chars().collect();
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        alphabet[usize::try_from(state >> 33).unwrap() % alphabet.len()]
    };
    (0..length).map(|_| next()).collect()
}

const ALNUM: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const BASE32: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const HEX: &str = "0123456789abcdef";
const UPPER: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const DIGITS: &str = "0123456789";
const BECH32: &str = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L";

fn pem(kind: &str, start: &str) -> String {
    let body = format!("{start}{}", random(7, ALNUM, 300 - start.len()));
    let lines: Vec<String> =
        body.as_bytes().chunks(64).map(|line| String::from_utf8(line.to_vec()).unwrap()).collect();
    format!(
        "-----BEGIN {kind}PRIVATE KEY-----\n{}\n-----END {kind}PRIVATE KEY-----\n",
        lines.join("\n")
    )
}

/// One of each kind, with its name.
fn each(seed: u64) -> Vec<(&'static str, String)> {
    let r = |alphabet: &str, length| random(seed, alphabet, length);
    let a = |length| r(ALNUM, length);
    let mut all = vec![
        ("aws-access-key", format!("AKIA{}", r(BASE32, 16))),
        ("aws-access-key", format!("ASIA{}", r(BASE32, 16))),
        ("google-client-secret", format!("GOCSPX-{}", a(28))),
        ("google-access-token", format!("ya29.{}", a(120))),
        ("azure-client-secret", format!("{}8Q~{}", a(3), a(34))),
        ("github-token", format!("github_pat_{}_{}", a(22), random(seed + 1, ALNUM, 59))),
        ("gitlab-token", format!("glpat-{}", a(20))),
        ("gitlab-token", format!("gldt-{}", a(20))),
        ("gitlab-token", format!("glrt-{}", a(20))),
        ("gitlab-token", format!("glptt-{}", r(HEX, 40))),
        ("slack-token", format!("xapp-1-{}-{}-{}", r(UPPER, 11), r(DIGITS, 12), r(HEX, 64))),
        (
            "slack-webhook",
            format!("hooks.slack.com/services/T{}/B{}/{}", r(UPPER, 10), r(UPPER, 10), a(24)),
        ),
        ("pypi-token", format!("pypi-AgEIcHlwaS5vcmc{}", a(120))),
        ("pypi-token", format!("pypi-AgENdGVzdC5weXBpLm9yZw{}", a(120))),
        ("rubygems-token", format!("rubygems_{}", r(HEX, 48))),
        ("docker-hub-token", format!("dckr_pat_{}", a(27))),
        ("stripe-key", format!("sk_live_{}", a(24))),
        ("stripe-key", format!("rk_live_{}", a(24))),
        ("sendgrid-key", format!("SG.{}.{}", a(22), a(43))),
        ("openai-key", format!("sk-proj-{}", a(60))),
        ("anthropic-key", format!("sk-ant-api03-{}AA", r(BASE32, 93).replace('A', "B"))),
        ("hugging-face-token", format!("hf_{}", a(34))),
        ("vault-token", format!("hvs.{}", a(95))),
        ("digitalocean-token", format!("dop_v1_{}", r(HEX, 64))),
        ("grafana-token", format!("glsa_{}_{}", a(32), r(HEX, 8))),
        ("shopify-token", format!("shpat_{}", r(HEX, 32))),
        ("age-key", format!("AGE-SECRET-KEY-1{}", r(BECH32, 58))),
        ("sekisho-session", format!("skg1.{}.{}", a(400), a(86))),
        ("private-key", pem("", "MIIE")),
        ("private-key", pem("RSA ", "MIIE")),
        ("private-key", pem("EC ", "MHcC")),
        ("private-key", pem("OPENSSH ", "b3BlbnNzaC1rZXktdjEAAAAABG5vbmU")),
        ("private-key", pem("", "MIIE").replace('\n', "\\n")),
        // Without its last characters, which the padding belongs to.
        ("private-key", BASE64_STANDARD.encode(pem("EC ", "MHcC")).replace('=', "")),
    ];
    for prefix in ["ghp_", "gho_", "ghu_", "ghs_", "ghr_"] {
        all.push(("github-token", checked(prefix, &a(30))));
    }
    all.push(("npm-token", checked("npm_", &a(30))));
    for prefix in ["xoxb-", "xoxp-", "xoxa-"] {
        all.push(("slack-token", format!("{prefix}{}-{}-{}", r(DIGITS, 12), r(DIGITS, 12), a(24))));
    }
    all
}

/// The same, where the value stands behind its name.
fn named(seed: u64) -> Vec<(&'static str, String, String)> {
    let secret = random(seed, ALNUM, 40);
    let account = random(seed, ALNUM, 86) + "==";
    vec![
        ("aws-secret-key", format!("aws_secret_access_key = {secret}"), secret.clone()),
        ("aws-secret-key", format!("AWS_SECRET_ACCESS_KEY=\"{secret}\""), secret.clone()),
        ("aws-secret-key", format!("\"SecretAccessKey\": \"{secret}\""), secret),
        ("azure-storage-key", format!("AccountName=a;AccountKey={account};"), account),
    ]
}

fn kinds(text: &[u8]) -> Vec<String> {
    secrets_in("etc/app.conf", text, None).into_iter().map(|secret| secret.kind).collect()
}

#[test]
fn each_kind_is_found_with_its_place() {
    assert!(PREFIXES.is_some());
    for seed in 0..20 {
        for (kind, value) in each(seed) {
            for (before, after, line) in
                [("", "", 1), ("a\nkey=\"", "\"\n", 2), ("\n\nx: ", "\n", 3), ("\0", "\0", 1)]
            {
                let text = format!("{before}{value}{after}");
                let found = secrets_in("etc/app.conf", text.as_bytes(), None);
                let places: Vec<_> =
                    found.iter().map(|it| (it.kind.as_str(), it.line, it.offset)).collect();
                let want = (kind, line, before.len() as u64);
                assert_eq!(places, [want], "seed {seed}: {kind} in {before:?}");
            }
        }
        for (kind, text, value) in named(seed) {
            let found = secrets_in("etc/app.conf", text.as_bytes(), None);
            let at = text.find(&value).unwrap() as u64;
            assert_eq!((found[0].kind.as_str(), found[0].offset), (kind, at));
            assert_eq!(found.len(), 1);
        }
    }
    // Every kind that there is was among them.
    let all: Vec<&str> = each(0)
        .into_iter()
        .map(|(kind, _)| kind)
        .chain(named(0).into_iter().map(|(kind, ..)| kind))
        .collect();
    for detector in DETECTORS {
        assert!(all.contains(&detector.kind), "{} has no test", detector.kind);
    }
}

#[test]
fn a_changed_character_is_no_token_where_there_is_a_checksum() {
    for prefix in ["ghp_", "npm_"] {
        let good = checked(prefix, &random(3, ALNUM, 30));
        for at in prefix.len()..good.len() {
            let mut bytes = good.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(kinds(&bytes), [""; 0], "{prefix} at {at}");
        }
    }
}

#[test]
fn what_only_looks_like_one_is_left_alone() {
    let long = random(1, ALNUM, 60);
    for text in [
        // Documentation of the issuers.
        "AKIAIOSFODNN7EXAMPLE",
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;",
        // Placeholders.
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "glpat-xxxxxxxxxxxxxxxxxxxx",
        "glpat-12345678901234567890",
        "xoxb-123456789012-123456789012-abcdefghijklmnopqrstuvwx",
        "sk_live_aaaaaaaaaaaaaaaaaaaaaaaa",
        "hf_your_token_goes_here_aaaaaaaaaaaaaa",
        // Too short, too long, within a word.
        "AKIA234",
        &format!("AKIA{}", "B2C3D4E5F6G7H2I3J4"),
        &format!("XAKIA{}", random(5, BASE32, 16)),
        &format!("glrt-{long}"),
        &format!("hf_{}", random(5, ALNUM, 33)),
        &format!("sk_test_{}", random(5, ALNUM, 24)),
        // Public keys, certificates, encrypted keys, the words alone.
        &pem("", "MIIE").replace("PRIVATE", "PUBLIC"),
        &pem("", "MIIE").replace("PRIVATE KEY", "CERTIFICATE"),
        &pem("ENCRYPTED ", "MIIE"),
        &pem("OPENSSH ", "b3BlbnNzaC1rZXktdjEAAAAACmFlczI1Ni1jdHI"),
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIE",
        "-----BEGIN PRIVATE KEY-----\0-----END PRIVATE KEY-----\0",
        "-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----",
        // Names, and what people write.
        "npm_config_registry=https://packages.example.org npm_lifecycle_event_and_some_more_words_here",
        "export const hf_layers_of_the_network_in_total = 34",
        "SG.SomeClass.someMethodThatHasAVeryLongNameIndeedYesItDoes",
    ] {
        assert_eq!(kinds(text.as_bytes()), [""; 0], "{text:.60}");
    }
}

#[test]
fn values_across_windows_are_found_once() {
    let token = checked("ghp_", &random(11, ALNUM, 30));
    let key = pem("", "MIIE");
    for value in [&token, &key] {
        for shift in (0..80).step_by(3).chain((2000..2100).step_by(7)) {
            for edge in [WINDOW_BYTES, 2 * WINDOW_BYTES - REACH_BYTES - BACK_BYTES] {
                let before = "x\n".repeat((edge - shift) / 2);
                let text = format!("{before}{value}\n");
                let found = secrets_in("f", text.as_bytes(), None);
                assert_eq!(found.len(), 1, "{shift} before {edge}");
                assert_eq!(found[0].offset, before.len() as u64);
                assert_eq!(found[0].line, before.len() as u64 / 2 + 1);
            }
        }
    }
}

/// The library of this machine's Debian; a key of one's own in the same file is found.
#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn keys_that_gnutls_tests_itself_with_are_no_secrets_and_another_beside_them_is() {
    let found = ["x86_64", "aarch64"].into_iter().find_map(|machine| {
        std::fs::read(format!("/usr/lib/{machine}-linux-gnu/libgnutls.so.30")).ok()
    });
    let Some(mut library) = found else {
        eprintln!("skipped: needs Debian's libgnutls");
        return;
    };
    let published = memchr::memmem::find_iter(&library, b"PRIVATE KEY-----").count();
    assert!(published >= 10, "{published}");
    assert_eq!(kinds(&library), [""; 0]);
    let at = library.len() as u64;
    library.extend(pem("RSA ", "MIIE").into_bytes());
    let found = secrets_in("usr/lib/libgnutls.so.30", &library, None);
    assert_eq!(found.iter().map(|it| it.offset).collect::<Vec<_>>(), [at]);
    // A program is no excuse: what was compiled into it is there for everybody.
    let program = [b"\x7fELF".as_slice(), &[0; 60], pem("", "MIIE").as_bytes(), &[0; 60]].concat();
    assert_eq!(kinds(&program), ["private-key"]);
}

#[test]
fn a_fingerprint_names_a_value_to_the_plane_alone() {
    let (one, other) = (FingerprintKey::new(&[1; 32]), FingerprintKey::new(&[2; 32]));
    let token = checked("ghp_", &random(1, ALNUM, 30));
    let of = |text: &str, key| secrets_in("f", text.as_bytes(), key)[0].fingerprint.clone();
    let print = of(&token, Some(&one));
    assert_eq!(print.len(), 24);
    assert_eq!(of(&format!("x = {token}"), Some(&one)), print);
    assert_ne!(of(&token, Some(&other)), print);
    assert_ne!(of(&checked("ghp_", &random(2, ALNUM, 30)), Some(&one)), print);
    assert_eq!(of(&token, None), "", "without a key there is none, for it could be tried out");
    assert_eq!(format!("{one:?}"), "FingerprintKey");
    // Nothing that is written down has a part of the value in it.
    let secret = &secrets_in("f", token.as_bytes(), Some(&one))[0];
    let shown = format!("{secret:?} {secret} {}", serde_json::to_string(secret).unwrap());
    assert!(!shown.contains(&token[4..12]) && !shown.contains(&token[30..]), "{shown}");
}

#[test]
fn tests_and_documentation_are_told_apart() {
    for (path, want) in [
        ("usr/lib/python3.12/test/certdata/keycert.pem", true),
        ("app/node_modules/x/test/key.pem", true),
        ("usr/share/doc/x/examples/a", true),
        ("usr/local/go/src/crypto/tls/handshake_client_test.go", true),
        ("usr/local/lib/python3.12/site-packages/x/Tests/key", true),
        ("opt/venv/lib/python3.12/site-packages/x/key.example", true),
        // Somebody's own.
        ("app/config.example", false),
        ("app/Tests/key", false),
        ("home/demo/.ssh/id_rsa", false),
        ("srv/info/tls.key", false),
        ("data/usr/share/doc/key", false),
        ("etc/ssl/private/server.key", false),
        ("app/latest/key.pem", false),
        ("app/contest.pem", false),
        ("root/.ssh/id_ed25519", false),
    ] {
        assert_eq!(is_sample(path), want, "{path}");
    }
}

#[test]
fn a_token_with_a_good_checksum_is_no_sample_wherever_it_stands() {
    let text = format!("{}\n{}", checked("ghp_", &random(1, ALNUM, 30)), pem("", "MIIE"));
    let found = secrets_in("usr/share/doc/x/examples/a", text.as_bytes(), None);
    let found: Vec<_> = found.iter().map(|it| (it.kind.as_str(), it.sample)).collect();
    assert_eq!(found, [("github-token", false), ("private-key", true)]);
}

#[test]
fn a_config_and_a_manifest_are_searched_as_any_text() {
    let token = checked("ghp_", &random(1, ALNUM, 30));
    for text in [
        format!(r#"{{"config":{{"Env":["PATH=/bin","TOKEN={token}"]}}}}"#),
        format!(r#"{{"history":[{{"created_by":"RUN curl -H 'Authorization: {token}' x"}}]}}"#),
        format!(r#"{{"annotations":{{"build.args":"--token={token}"}}}}"#),
        format!(r#"{{"config":{{"Labels":{{"key":{}}}}}}}"#, serde_json::json!(pem("", "MIIE"))),
    ] {
        assert_eq!(secrets_in("(image config)", text.as_bytes(), None).len(), 1, "{text}");
    }
}

#[test]
fn a_program_says_what_it_was_built_of() {
    let look = |bytes: &[u8]| Finder::new(None).look("f", &mut &*bytes, &mut |_| {}).unwrap();
    let program = |mark: &[u8]| [b"\x7fELF".as_slice(), &[0; 100], mark, &[0; 9]].concat();
    assert_eq!(look(&program(b"\xff Go buildinf:")), Some(Language::Go));
    assert_eq!(look(&program(b"\0.dep-v0\0")), Some(Language::Rust));
    assert_eq!(look(&program(b"text Go buildinf: text")), None);
    assert_eq!(look(&program(b".dep-v0.txt")), None);
    assert_eq!(look(b"\xff Go buildinf:"), None, "no program");
    let far = [program(&[1; 200_000]), b"\xff Go buildinf:\0".to_vec()].concat();
    assert_eq!(look(&far), Some(Language::Go));
    assert_eq!(look(b"\x7f"), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let _ = secrets_in("f", &bytes, None);
    }

    #[test]
    fn prefixes_and_noise_are_read(
        parts in proptest::collection::vec((0..DETECTORS.len(), "[ -~]{0,80}"), 0..40)
    ) {
        let text: String =
            parts.iter().map(|(at, noise)| format!("{}{noise}", DETECTORS[*at].prefix)).collect();
        for secret in secrets_in("f", text.as_bytes(), None) {
            prop_assert!(secret.offset < text.len() as u64);
        }
    }
}
