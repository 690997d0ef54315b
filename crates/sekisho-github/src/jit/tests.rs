use std::sync::OnceLock;

use proptest::prelude::*;
use rsa::traits::PublicKeyParts as _;
use serde_json::{Value, json};

use super::*;

fn key() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap())
}

fn config() -> JitConfig {
    JitConfig {
        runner: RunnerSettings {
            agent_id: 23,
            agent_name: "r-7f".into(),
            pool_id: 1,
            pool_name: "Default".into(),
            disable_update: true,
            ephemeral: true,
            server_url: String::new(),
            git_hub_url: String::new(),
            work_folder: "_work".into(),
            use_v2_flow: true,
            server_url_v2: "http://127.0.0.1:1/_broker/".into(),
            skip_session_recover: None,
            monitor_socket_address: None,
            use_runner_admin_flow: None,
            is_hosted_server: None,
        },
        credentials: Credentials {
            scheme: "OAuth".into(),
            data: CredentialData {
                client_id: "0b9d".into(),
                authorization_url: "http://127.0.0.1:1/_oauth/token".into(),
                require_fips_cryptography: true,
                oauth_endpoint_url: None,
                authorization_url_v2: None,
                enable_auth_migration_by_default: None,
            },
        },
        key: RsaParameters::from_key(key()).unwrap(),
    }
}

/// The blob's files as JSON values, changed by `edit`, as a blob again.
fn edited(edit: impl FnOnce(&mut serde_json::Map<String, Value>)) -> SecretString {
    let blob = config().encode();
    let outer: BTreeMap<String, String> =
        serde_json::from_slice(&STANDARD.decode(blob.expose_secret()).unwrap()).unwrap();
    let mut files: serde_json::Map<String, Value> = outer
        .into_iter()
        .map(|(k, v)| (k, serde_json::from_slice(&STANDARD.decode(v).unwrap()).unwrap()))
        .collect();
    edit(&mut files);
    let outer: BTreeMap<String, String> =
        files.into_iter().map(|(k, v)| (k, STANDARD.encode(v.to_string()))).collect();
    STANDARD.encode(serde_json::to_vec(&outer).unwrap()).into()
}

#[track_caller]
fn check_error(blob: &SecretString, want: &str) {
    let got = JitConfig::decode(blob).unwrap_err().to_string();
    assert!(got.contains(want), "got: {got}\nwant: {want}");
}

#[test]
fn a_blob_is_read_back_and_its_key_is_the_same() {
    let blob = config().encode();
    let read = JitConfig::decode(&blob).unwrap();
    assert_eq!(read.runner, config().runner);
    assert_eq!(read.credentials, config().credentials);
    assert_eq!(&read.private_key().unwrap(), key());
}

#[test]
fn scalars_are_written_as_strings() {
    let json = serde_json::to_value(config().runner).unwrap();
    assert_eq!(json["AgentId"], json!("23"));
    assert_eq!(json["UseV2Flow"], json!("True"));
    assert_eq!(json["ServerUrlV2"], json!("http://127.0.0.1:1/_broker/"));
    let key = serde_json::to_value(config().key).unwrap();
    assert_eq!(key["exponent"], json!("AQAB"));
    assert_eq!(STANDARD.decode(key["modulus"].as_str().unwrap()).unwrap().len(), 256);
    assert!(key.get("inverseQ").is_some());
}

#[test]
fn scalars_of_either_type_and_names_of_any_case_are_read() {
    let blob = edited(|files| {
        files[".runner"]["AgentId"] = json!(23);
        files[".runner"]["Ephemeral"] = json!(true);
        let data = &mut files[".credentials"]["Data"];
        let client = data.as_object_mut().unwrap().remove("ClientId").unwrap();
        data["clientid"] = client;
    });
    assert_eq!(JitConfig::decode(&blob).unwrap().runner, config().runner);
}

#[test]
fn unknown_files_and_fields_are_refused() {
    check_error(
        &edited(|files| {
            files.insert("../../bin/sh".into(), json!({}));
        }),
        "unknown file `../../bin/sh`",
    );
    check_error(
        &edited(|files| files[".runner"]["Surprise"] = json!("x")),
        "file `.runner` of the JIT configuration is not valid: unknown field `Surprise`",
    );
    check_error(
        &edited(|files| files[".credentials"]["Data"]["Surprise"] = json!("x")),
        "unknown field `Surprise`",
    );
    check_error(
        &edited(|files| {
            files.remove(".credentials");
        }),
        "lacks the file `.credentials`",
    );
}

#[test]
fn bad_values_are_refused() {
    for folder in ["", "../x", "/tmp", "a/../b"] {
        let blob = edited(|files| files[".runner"]["WorkFolder"] = json!(folder));
        check_error(&blob, "`WorkFolder`");
    }
    check_error(&edited(|f| f[".runner"]["ServerUrlV2"] = json!("file:///x")), "`ServerUrlV2`");
    check_error(&edited(|f| f[".runner"]["UseV2Flow"] = json!("False")), "`UseV2Flow`");
    check_error(&edited(|f| f[".credentials"]["Scheme"] = json!("Basic")), "`Scheme`");
    check_error(&edited(|f| f[".runner"]["AgentId"] = json!("x")), "wrong type");
    check_error(&"!!".into(), "not base64");
    check_error(&STANDARD.encode("[]").into(), "not a JSON object");
    check_error(&"A".repeat(MAX_BLOB_LEN + 4).into(), "longer than");
}

#[test]
fn a_key_whose_parts_do_not_fit_is_refused() {
    let blob = edited(|files| {
        let p = files[".credentials_rsaparams"]["p"].clone();
        files[".credentials_rsaparams"]["q"] = p;
    });
    let error = JitConfig::decode(&blob).unwrap().private_key().unwrap_err();
    assert!(error.to_string().contains("do not belong together"), "{error}");
    let blob = edited(|files| files[".credentials_rsaparams"]["modulus"] = json!("AQAB"));
    let error = JitConfig::decode(&blob).unwrap().private_key().unwrap_err();
    assert!(error.to_string().contains("size"), "{error}");
}

#[test]
fn debug_shows_no_key() {
    let text = format!("{:?}", config());
    let secret = serde_json::to_value(config().key).unwrap();
    for part in ["d", "p", "q", "dp", "dq", "inverseQ"] {
        assert!(!text.contains(secret[part].as_str().unwrap()), "{part}");
    }
}

#[test]
fn a_file_that_is_there_twice_is_refused() {
    let blob = config().encode();
    let json = String::from_utf8(STANDARD.decode(blob.expose_secret()).unwrap()).unwrap();
    let twice = json.replacen('{', r#"{".runner":"e30=","#, 1);
    check_error(&STANDARD.encode(twice).into(), "a file twice");
}

/// What a hostile or broken blob may do to one of the files.
#[derive(Clone, Debug)]
enum Damage {
    Truncate(usize),
    Replace(usize, Value),
    Remove(usize),
    Extra(String, Value),
    /// A value in the place of a name.
    Swap(usize),
    Case(usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let value = || {
        prop_oneof![
            Just(Value::Null),
            Just(json!(true)),
            Just(json!(-1)),
            Just(json!(1e300)),
            Just(json!([])),
            Just(json!({"a": {"b": ["c"]}})),
            ".{0,12}".prop_map(Value::String),
        ]
    };
    prop_oneof![
        (0..400_usize).prop_map(Damage::Truncate),
        (0..20_usize, value()).prop_map(|(at, value)| Damage::Replace(at, value)),
        (0..20_usize).prop_map(Damage::Remove),
        (".{0,20}", value()).prop_map(|(name, value)| Damage::Extra(name, value)),
        (0..20_usize).prop_map(Damage::Swap),
        (0..20_usize).prop_map(Damage::Case),
    ]
}

/// The damaged text of a file.
fn damaged(file: &Value, damage: &Damage) -> String {
    let mut map = file.as_object().unwrap().clone();
    let name = |map: &serde_json::Map<String, Value>, at: usize| {
        map.keys().nth(at % map.len()).unwrap().clone()
    };
    match damage {
        Damage::Truncate(at) => {
            let text = file.to_string();
            return text.chars().take(*at % text.len()).collect();
        }
        Damage::Replace(at, value) => {
            let name = name(&map, *at);
            map.insert(name, value.clone());
        }
        Damage::Remove(at) => {
            let name = name(&map, *at);
            map.remove(&name);
        }
        Damage::Extra(name, value) => {
            map.insert(name.clone(), value.clone());
        }
        Damage::Swap(at) => {
            let name = name(&map, *at);
            let value = map.remove(&name).unwrap();
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            map.insert(text, json!(name));
        }
        Damage::Case(at) => {
            let name = name(&map, *at);
            let value = map.remove(&name).unwrap();
            map.insert(name.to_ascii_uppercase(), value);
        }
    }
    Value::Object(map).to_string()
}

/// Every text that must not be shown.
fn secrets() -> Vec<String> {
    let key = serde_json::to_value(config().key).unwrap();
    let parts = ["d", "p", "q", "dp", "dq", "inverseQ"];
    parts.iter().map(|part| key[part].as_str().unwrap().chars().take(16).collect()).collect()
}

proptest! {
    #[test]
    fn foreign_text_never_panics(text in ".{0,200}") {
        let _ = JitConfig::decode(&text.clone().into());
        let _ = JitConfig::decode(&STANDARD.encode(text).into());
    }

    #[test]
    fn a_damaged_blob_is_refused_or_harmless_and_shows_no_secret(
        which in 0..3_usize,
        damage in damage(),
        cut in proptest::option::of(0..9000_usize),
    ) {
        let names = [RUNNER, CREDENTIALS, RSA_PARAMS];
        let mut blob = String::new();
        edited(|files| {
            let outer: BTreeMap<&str, String> = names.iter().enumerate().map(|(at, name)| {
                let file = &files[*name];
                let text = if at == which { damaged(file, &damage) } else { file.to_string() };
                (*name, STANDARD.encode(text))
            }).collect();
            blob = STANDARD.encode(serde_json::to_vec(&outer).unwrap());
        });
        if let Some(cut) = cut {
            blob.truncate(cut % blob.len());
        }
        let shown = match JitConfig::decode(&blob.clone().into()) {
            Err(error) => format!("{error} {error:?}"),
            Ok(read) => {
                prop_assert!(is_http(&read.runner.server_url_v2) || is_http(&read.runner.server_url));
                let inside = Path::new(&read.runner.work_folder).components();
                prop_assert!(inside.into_iter().all(|c| matches!(c, Component::Normal(_))));
                match read.private_key() {
                    Err(error) => format!("{error} {error:?} {read:?}"),
                    Ok(key) => {
                        prop_assert!(KEY_BITS.contains(&key.n().bits()));
                        format!("{read:?}")
                    }
                }
            }
        };
        for secret in secrets() {
            prop_assert!(!shown.contains(&secret), "{}", shown);
        }
        prop_assert!(!shown.contains(&blob) || blob.len() < 40, "{}", shown);
    }
}
