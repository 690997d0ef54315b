//! Docker's `config.json`: one entry is put in, all else stays.

use std::path::Path;

use anyhow::Context as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use crate::exit::hinted;

/// Largest file that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 4 * 1024 * 1024;

/// `000:` in base64: clients want a name beside an identity token, and send neither.
const NOBODY: &str = "MDAwOg==";

/// Puts a session in, for the file's owner alone. Written anew and renamed: no reader sees half of it.
pub(super) fn log_in(file: &Path, registry: &str, token: &SecretString) -> anyhow::Result<()> {
    let text = match fs_err::metadata(file) {
        Ok(metadata) => {
            let size = metadata.len();
            anyhow::ensure!(size <= MAX_CONFIG_BYTES, "`{}` has {size} bytes", file.display());
            fs_err::read_to_string(file)?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error.into()),
    };
    let Some(text) = with_login(&text, registry, token) else {
        return Err(hinted(
            format!("`{}` is no config of docker's", file.display()),
            "repair it, or name another folder with `--docker-config`",
        ));
    };
    // Through a link, as docker does: the file that it leads to is replaced, not the link.
    let target = fs_err::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    sekisho_store::write_atomic(&target, text.as_bytes(), true)
        .with_context(|| format!("writing `{}`", target.display()))
}

/// The text with the entry; `None` for a text that is no JSON object of docker's form.
fn with_login(text: &str, registry: &str, token: &SecretString) -> Option<String> {
    let mut config: Map<String, Value> =
        if text.trim().is_empty() { Map::new() } else { serde_json::from_str(text).ok()? };
    let entry = json!({"auth": NOBODY, "identitytoken": token.expose_secret()});
    object(&mut config, "auths")?.insert(registry.to_owned(), entry);
    let has_store = config.get("credsStore").is_some_and(|store| store != "");
    let has_helper = config.get("credHelpers").and_then(|all| all.get(registry)).is_some();
    if has_store || has_helper {
        // A store or helper would be asked instead of the file; an empty name says: the file.
        object(&mut config, "credHelpers")?.insert(registry.to_owned(), "".into());
    }
    let mut text = serde_json::to_string_pretty(&config).ok()?;
    text.push('\n');
    Some(text)
}

fn object<'a>(
    config: &'a mut Map<String, Value>,
    name: &str,
) -> Option<&'a mut Map<String, Value>> {
    config.entry(name).or_insert_with(|| json!({})).as_object_mut()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn token() -> SecretString {
        SecretString::from("session".to_owned())
    }

    fn login(text: &str) -> Option<Value> {
        let text = with_login(text, "gate.example:5000", &token())?;
        Some(serde_json::from_str(&text).unwrap())
    }

    #[test]
    fn other_entries_stay() {
        let entry = json!({"auth": "MDAwOg==", "identitytoken": "session"});
        assert_eq!(login("").unwrap(), json!({"auths": {"gate.example:5000": entry}}));
        let before = json!({
            "psFormat": "x", "auths": {"docker.io": {"auth": "eDp5"}, "gate.example:5000": {"auth": "b2xk"}},
            "proxies": {"default": {}},
        });
        let mut want = before.clone();
        want["auths"]["gate.example:5000"] = entry.clone();
        assert_eq!(login(&before.to_string()).unwrap(), want);
    }

    #[test]
    fn a_store_is_passed_by_for_this_registry_alone() {
        let before = json!({"credsStore": "desktop", "credHelpers": {"gcr.io": "gcloud"}});
        let after = login(&before.to_string()).unwrap();
        assert_eq!(after["credsStore"], "desktop");
        assert_eq!(after["credHelpers"], json!({"gcr.io": "gcloud", "gate.example:5000": ""}));
        let before = json!({"credHelpers": {"gate.example:5000": "x"}});
        assert_eq!(login(&before.to_string()).unwrap()["credHelpers"]["gate.example:5000"], "");
        assert_eq!(login("{}").unwrap().get("credHelpers"), None);
    }

    #[test]
    fn what_is_no_config_is_left_alone() {
        for text in ["[]", "{", "\"x\"", "{\"auths\": []}"] {
            assert_eq!(login(text), None, "{text}");
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.json");
        fs_err::write(&file, "{").unwrap();
        assert!(log_in(&file, "gate.example", &token()).is_err());
        assert_eq!(fs_err::read_to_string(&file).unwrap(), "{");
    }

    #[test]
    fn the_file_is_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real.json");
        fs_err::write(&real, "{}").unwrap();
        fs_err::set_permissions(&real, std::fs::Permissions::from_mode(0o644)).unwrap();
        let link = dir.path().join("config.json");
        fs_err::os::unix::fs::symlink(&real, &link).unwrap();
        for file in [dir.path().join("new/config.json"), link] {
            log_in(&file, "gate.example", &token()).unwrap();
            let mode = fs_err::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", file.display());
            assert!(fs_err::read_to_string(&file).unwrap().contains("identitytoken"));
        }
        assert!(fs_err::symlink_metadata(dir.path().join("config.json")).unwrap().is_symlink());
    }
}
