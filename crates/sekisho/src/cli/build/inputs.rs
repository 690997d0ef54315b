//! What `sekisho build` is given besides the context: secrets, ssh agents.

use std::collections::BTreeMap;
use std::io::{Read, Seek as _};
use std::net::IpAddr;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sekisho_builder::{BuildOptions, ContextInput, Keyring, Secret};
use tempfile::TempDir;

use crate::exit::hinted;
use crate::settings;

/// `--secret id=ID[,src=FILE|,env=NAME]`: where a secret is, never the secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecretSpec {
    id: String,
    source: Source,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    File(PathBuf),
    Env(String),
    /// The variable of the id's name, or else the file.
    Either(String),
}

/// `--ssh ID[=SOCKET]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SshSpec {
    id: String,
    socket: Option<PathBuf>,
}

/// Reads one `--secret`.
pub(super) fn secret(text: &str) -> Result<SecretSpec, String> {
    let (mut id, mut file, mut env, mut kind) = (None, None, None, None);
    for field in text.split(',') {
        let (key, value) =
            field.split_once('=').ok_or("write it as id=ID,src=FILE or id=ID,env=NAME")?;
        let slot = match key.trim() {
            "id" => &mut id,
            "src" | "source" => &mut file,
            "env" => &mut env,
            "type" => &mut kind,
            other => {
                return Err(format!(
                    "unknown field `{other}`: known are `id`, `src`, `env`, `type`"
                ));
            }
        };
        *slot = Some(value.to_owned());
    }
    let id = id.filter(|id| !id.is_empty()).ok_or("`id` is missing")?;
    let source = match (kind.as_deref(), file, env) {
        (_, Some(_), Some(_)) => return Err("it is either `src` or `env`".to_owned()),
        (None, None, None) => Source::Either(id.clone()),
        (None | Some("env"), None, Some(name)) => Source::Env(name),
        (Some("env"), file, None) => Source::Env(file.unwrap_or_else(|| id.clone())),
        (None | Some("file"), Some(file), None) => Source::File(file.into()),
        (Some("file"), None, None) => Source::File(id.clone().into()),
        (Some(kind), ..) => {
            return Err(format!("`type={kind}` does not fit: it is `file` or `env`"));
        }
    };
    Ok(SecretSpec { id, source })
}

/// Reads one `--ssh`.
pub(super) fn ssh(text: &str) -> Result<SshSpec, String> {
    let (id, socket) = match text.split_once('=') {
        Some((id, socket)) => (id, Some(PathBuf::from(socket))),
        None => (text, None),
    };
    match id.is_empty() {
        true => Err("write it as ID or ID=SOCKET".to_owned()),
        false => Ok(SshSpec { id: id.to_owned(), socket }),
    }
}

/// Reads one `--add-host`.
pub(super) fn host(text: &str) -> Result<(String, IpAddr), String> {
    let form = || "write it as NAME:ADDRESS".to_owned();
    let (name, address) = text.split_once([':', '=']).ok_or_else(form)?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let address = address.parse().map_err(|_| form())?;
    match name.is_empty() || name.contains(char::is_whitespace) {
        true => Err(form()),
        false => Ok((name.to_owned(), address)),
    }
}

/// Reads one `--registry-http`.
pub(super) fn registry(text: &str) -> Result<String, String> {
    match text.is_empty() || text.contains('/') {
        true => Err("write it as HOST[:PORT], without a scheme".to_owned()),
        false => Ok(text.to_owned()),
    }
}

/// Reads `NAME=VALUE`.
pub(super) fn name_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

/// Reads `--memory`: so many MiB, or with a unit as docker has it.
pub(super) fn mebibytes(text: &str) -> Result<u64, String> {
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let number: u64 =
        number.parse().map_err(|_| "write it as a number of MiB, or as `512m`, `2g`")?;
    let mebibytes = match unit.to_ascii_lowercase().as_str() {
        "" | "m" | "mb" => Some(number),
        "k" | "kb" => Some(number >> 10),
        "g" | "gb" => number.checked_mul(1 << 10),
        "b" => Some(number >> 20),
        _ => return Err("the unit is `k`, `m` or `g`, and MiB without one".to_owned()),
    };
    let allowed = 16..=1 << 30;
    mebibytes
        .filter(|size| allowed.contains(size))
        .ok_or_else(|| format!("it is from {} to {} MiB", allowed.start(), allowed.end()))
}

/// Reads `NAME[=VALUE]`.
pub(super) fn maybe_value(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    match name.is_empty() {
        true => Err("write it as NAME=VALUE, or as NAME".to_owned()),
        false => Ok((name.to_owned(), value)),
    }
}

/// As docker does it: an argument without a value has that of the variable of its name, and is not given
/// when there is none.
#[expect(clippy::disallowed_methods, reason = "`--build-arg NAME` names a variable of ours")]
pub(super) fn arguments(given: &[(String, Option<String>)]) -> BTreeMap<String, String> {
    let value = |(name, value): &(String, Option<String>)| {
        let value = value.clone().or_else(|| std::env::var(name).ok())?;
        Some((name.clone(), value))
    };
    given.iter().filter_map(value).collect()
}

/// Where a Dockerfile that was named is: as docker takes it, from the present folder; or else in the context.
/// Relative to the context where it lies there, for messages show it.
pub(super) fn dockerfile(named: &Path, context: &Path) -> anyhow::Result<PathBuf> {
    if !named.is_file() {
        return Ok(named.to_owned());
    }
    let real = |path: &Path| {
        fs_err::canonicalize(path).with_context(|| format!("looking for `{}`", named.display()))
    };
    let folder = named.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = real(folder.unwrap_or(Path::new(".")))?;
    // A link is what it is called, for that is what a `.dockerignore` beside it is called after.
    let path = folder.join(named.file_name().unwrap_or_default());
    let within = path.strip_prefix(real(context)?).map(Path::to_owned);
    Ok(within.unwrap_or(path))
}

/// Most of a Dockerfile that is read from stdin, in bytes; more than the builder takes.
const MAX_TEXT_BYTES: u64 = 8 << 20;

/// Says where the context and the Dockerfile are. What was read from stdin is in the folder that is
/// returned.
pub(super) async fn context(
    text: &str,
    options: &mut BuildOptions,
) -> anyhow::Result<Option<TempDir>> {
    let from_stdin = options.dockerfile.as_os_str() == "-";
    let git = sekisho_builder::is_git(text);
    if text == "-" && from_stdin {
        let hint = "name a folder as the context, or a file as the Dockerfile";
        return Err(hinted("stdin cannot be both context and Dockerfile".to_owned(), hint));
    }
    if from_stdin {
        options.dockerfile_text = Some(beside(|| read_text(std::io::stdin().lock())).await?);
    }
    if text == "-" {
        return stdin(options).await.map(Some);
    }
    if git || text.starts_with("http://") || text.starts_with("https://") {
        options.context = Some(ContextInput::Remote(text.to_owned()));
        return Ok(None);
    }
    let folder = PathBuf::from(text);
    if !folder.is_dir() {
        let message = format!("the build context `{text}` is no folder");
        return Err(hinted(message, "name the folder whose files the Dockerfile uses"));
    }
    options.context_dir = folder;
    Ok(None)
}

/// Reads on a thread of its own: stdin may never come to its end, and who interrupts that waits for nothing.
async fn beside<T: Send + 'static>(
    read: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let (send, receive) = tokio::sync::oneshot::channel();
    let reader = std::thread::Builder::new().name("stdin".to_owned());
    // Nobody wants it any more when the receiver is gone.
    reader.spawn(move || drop(send.send(read()))).context("starting a thread")?;
    receive.await.context("reading stdin")?
}

fn read_text(from: impl Read) -> anyhow::Result<String> {
    let mut text = String::new();
    match from.take(MAX_TEXT_BYTES).read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            let hint = "a context is a tar archive, plain or compressed, and a Dockerfile is UTF-8";
            Err(hinted("what stdin brings is neither an archive nor a text".to_owned(), hint))
        }
        Err(error) => Err(error).context("reading the Dockerfile"),
    }
}

/// An archive on stdin is the context, anything else a Dockerfile with nothing around it.
async fn stdin(options: &mut BuildOptions) -> anyhow::Result<TempDir> {
    let folder = tempfile::tempdir().context("making a temporary folder")?;
    let path = folder.path().join("stdin");
    let mut file = fs_err::File::options().read(true).write(true).create(true).open(&path)?;
    let mut into = file.try_clone()?;
    beside(move || {
        sekisho_builder::receive(std::io::stdin().lock(), into.file_mut()).map_err(|error| {
            let hint = "leave out what the image does not need, or name another folder for it with `TMPDIR`";
            hinted(format!("reading the build context from stdin: {error}"), hint)
        })
    })
    .await?;
    if file.metadata()?.len() == 0 {
        let hint = "send a tar archive of the context, or a Dockerfile";
        return Err(hinted("stdin is empty".to_owned(), hint));
    }
    file.rewind()?;
    if sekisho_builder::is_archive(file.file_mut())? {
        options.context = Some(ContextInput::Archive(path));
    } else {
        options.dockerfile_text = Some(read_text(file)?);
        fs_err::remove_file(&path)?;
        options.context_dir = folder.path().to_owned();
    }
    Ok(folder)
}

/// What Docker's `config.json` says of registries. Who has none is nobody anywhere.
pub(super) fn keyring() -> anyhow::Result<Keyring> {
    let Ok(folder) = settings::docker_config_dir() else { return Ok(Keyring::anonymous()) };
    let path = folder.join("config.json");
    match settings::optional(&path)? {
        Some(bytes) => Keyring::from_docker_config(&bytes)
            .with_context(|| format!("reading `{}`", path.display())),
        None => Ok(Keyring::anonymous()),
    }
}

/// Looks up what the options name.
#[expect(clippy::disallowed_methods, reason = "`--secret env=` names a variable of ours")]
pub(super) fn secrets(specs: &[SecretSpec]) -> anyhow::Result<BTreeMap<String, Secret>> {
    let variable = |name: &str| std::env::var(name).ok().map(|value| Secret::Value(value.into()));
    let mut secrets = BTreeMap::new();
    for SecretSpec { id, source } in specs {
        let secret = match source {
            Source::File(path) => Secret::File(path.clone()),
            Source::Env(name) => variable(name).ok_or_else(|| {
                let message = format!("the secret `{id}`: the variable `{name}` is not set");
                hinted(message, "set it, or name a file with `src=`")
            })?,
            Source::Either(name) => {
                variable(name).unwrap_or_else(|| Secret::File(PathBuf::from(name)))
            }
        };
        if let Secret::File(path) = &secret
            && !path.is_file()
        {
            let message = format!("the secret `{id}`: `{}` is no file", path.display());
            return Err(hinted(message, "name it with `src=FILE`, or a variable with `env=NAME`"));
        }
        secrets.insert(id.clone(), secret);
    }
    Ok(secrets)
}

/// Finds the sockets that the options name.
pub(super) fn sockets(specs: &[SshSpec]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut sockets = BTreeMap::new();
    for SshSpec { id, socket } in specs {
        let socket = socket.clone().or_else(|| std::env::var_os("SSH_AUTH_SOCK").map(Into::into));
        let Some(socket) = socket else {
            let message = format!("the ssh agent `{id}`: `SSH_AUTH_SOCK` is not set");
            return Err(hinted(message, "start `ssh-agent`, or name a socket with `ID=SOCKET`"));
        };
        if !std::fs::metadata(&socket).is_ok_and(|found| found.file_type().is_socket()) {
            let message = format!("the ssh agent `{id}`: `{}` is no socket", socket.display());
            return Err(hinted(message, "keys are given to an agent with `ssh-add`"));
        }
        sockets.insert(id.clone(), socket);
    }
    Ok(sockets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses() {
        assert_eq!(host("a:10.0.0.1"), Ok(("a".to_owned(), "10.0.0.1".parse().unwrap())));
        assert_eq!(host("a=[::1]"), Ok(("a".to_owned(), "::1".parse().unwrap())));
        for text in ["a", ":1.2.3.4", "a:b", "a b:1.2.3.4"] {
            assert!(host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn memory_has_a_unit_or_is_mebibytes() {
        for (text, want) in [
            ("512", Ok(512)),
            ("512m", Ok(512)),
            ("2G", Ok(2048)),
            ("1048576KB", Ok(1024)),
            ("33554432b", Ok(32)),
            ("15", Err("it is from 16 to 1073741824 MiB")),
            ("99999999999999999g", Err("it is from 16 to 1073741824 MiB")),
            ("2x", Err("the unit is `k`, `m` or `g`, and MiB without one")),
            ("m", Err("write it as a number of MiB, or as `512m`, `2g`")),
        ] {
            assert_eq!(mebibytes(text), want.map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn secrets_are_named_in_every_way() {
        let spec = |id: &str, source| Ok(SecretSpec { id: id.to_owned(), source });
        for (text, want) in [
            ("id=a,src=f", spec("a", Source::File("f".into()))),
            ("type=file,id=a,source=/f", spec("a", Source::File("/f".into()))),
            ("id=a,env=E", spec("a", Source::Env("E".into()))),
            ("id=a,type=env", spec("a", Source::Env("a".into()))),
            ("id=a", spec("a", Source::Either("a".into()))),
            ("src=f", Err("`id` is missing".to_owned())),
            ("id=a,src=f,env=E", Err("it is either `src` or `env`".to_owned())),
            ("a", Err("write it as id=ID,src=FILE or id=ID,env=NAME".to_owned())),
        ] {
            assert_eq!(secret(text), want, "{text}");
        }
        assert_eq!(ssh("x=/s").unwrap().socket, Some("/s".into()));
        assert_eq!(ssh("default").unwrap().socket, None);
        assert!(ssh("=/s").is_err());
    }
}
