//! Users with a password, for a gate on one machine.

use std::io::Read as _;
use std::path::Path;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use secrecy::SecretString;
use sekisho_gate::{User, load_users, new_user, users_text};
use serde::Serialize;

use crate::exit::Exit;
use crate::plane::LOCAL_OWNER;
use crate::printer::Printer;
use crate::settings::DataDir;

/// Longest standard input that is read, in bytes.
const MAX_INPUT_BYTES: u64 = 4096;

#[derive(Args, Debug)]
pub(super) struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// Give a user a password, read from standard input
    #[command(after_help = "The plane reads its users when it starts.\n\nExample:\n  \
                            sekisho gate user add ann < password-file && \
                            docker login --username ann 127.0.0.1:7350")]
    Add {
        /// Letters, digits, `.`, `_` and `-`
        name: String,
        /// What the user may push to, with all below it [default: local/NAME]
        #[arg(long, value_name = "OWNER/NAME")]
        repository: Option<String>,
    },
    /// List users, without their passwords
    List,
    /// Take a user away
    Remove {
        /// As `list` has it
        name: String,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    schema_version: u32,
    users: Vec<Shown<'a>>,
}

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    repository: &'a str,
}

pub(super) fn run(args: &UserArgs, data: &DataDir, printer: Printer) -> anyhow::Result<Exit> {
    data.create()?;
    let file = data.gate().join("users.toml");
    let mut users = read(&file)?;
    match &args.command {
        UserCommand::Add { name, repository } => {
            let default = || format!("{LOCAL_OWNER}/{name}");
            let repository = repository.clone().unwrap_or_else(default);
            let user = new_user(name, &password()?, &repository).map_err(anyhow::Error::msg)?;
            users.retain(|known| known.name != *name);
            users.push(user);
            write(&file, &users)?;
            printer.note(&format!("{name} pushes to {repository}, once the plane is started anew"));
        }
        UserCommand::Remove { name } => {
            let before = users.len();
            users.retain(|known| known.name != *name);
            if users.len() == before {
                printer.note(&format!("there is no user `{name}`"));
                return Ok(Exit::Nothing);
            }
            write(&file, &users)?;
        }
        UserCommand::List => return list(&users, printer),
    }
    Ok(Exit::Done)
}

fn list(users: &[User], printer: Printer) -> anyhow::Result<Exit> {
    if printer.is_json() {
        let users =
            users.iter().map(|user| Shown { name: &user.name, repository: &user.repository });
        let users = users.collect();
        printer.answer_json(&Listed { schema_version: 1, users })?;
        return Ok(Exit::Done);
    }
    if users.is_empty() {
        printer.note("there are no users");
        return Ok(Exit::Nothing);
    }
    for User { name, repository, .. } in users {
        printer.answer(&format!("{name}  {repository}"))?;
    }
    Ok(Exit::Done)
}

fn password() -> anyhow::Result<SecretString> {
    let mut text = String::new();
    let mut input = std::io::stdin().lock().take(MAX_INPUT_BYTES);
    input.read_to_string(&mut text).context("reading the password from standard input")?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned().into())
}

/// None where there is no file.
pub(crate) fn read(file: &Path) -> anyhow::Result<Vec<User>> {
    match fs_err::read_to_string(file) {
        Ok(text) => {
            load_users(&text).map_err(|error| anyhow::anyhow!("{}:{error}", file.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).context("reading the gate's users"),
    }
}

fn write(file: &Path, users: &[User]) -> anyhow::Result<()> {
    let text = users_text(users).map_err(anyhow::Error::msg)?;
    fs_err::create_dir_all(file.parent().context("the file is in no folder")?)?;
    sekisho_store::write_atomic(file, text.as_bytes(), true).context("writing the gate's users")
}
