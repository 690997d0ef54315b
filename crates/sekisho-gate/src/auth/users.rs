//! Users with a password, for one machine: where nobody has an issuer of tokens to ask.
//!
//! ```toml
//! [[user]]
//! name = "ann"
//! password = "$argon2id$v=19$…"    # `sekisho gate user add ann` writes it
//! repository = "local/ann"         # pushes to this name and below it
//! ```
//!
//! They are heard over loopback alone, and a gate that others can reach does not open with them. The
//! password is shown to `/token`, which gives a session for it; nothing else takes it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use argon2::password_hash::{PasswordHash, PasswordHasher as _, SaltString};
use argon2::{Argon2, PasswordVerifier as _};
use jiff::Timestamp;
use ring::rand::SecureRandom as _;
use secrecy::{ExposeSecret as _, SecretString};
use sekisho_policy::Identity;
use sekisho_types::RepositoryName;
use serde::{Deserialize, Serialize};

use crate::config::from_toml;

/// What an identity of theirs has as its issuer; no issuer's URL is this.
pub(crate) const ISSUER: &str = "sekisho:users";

/// What rules see as the event.
const EVENT: &str = "local_user";

/// Most users.
const MAX_USERS: usize = 1000;

/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// Longest password, in bytes; shortest one.
const MAX_PASSWORD_BYTES: usize = 1024;
const MIN_PASSWORD_BYTES: usize = 8;

/// Wrong passwords in a row before a user has to wait.
const FREE_TRIES: u32 = 5;

/// Longest wait, in seconds.
const MAX_WAIT_SECONDS: i64 = 300;

/// Bytes of salt: RFC 9106, section 3.1.
const SALT_BYTES: usize = 16;

/// Somebody with a password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Without a colon, for Basic authentication ends there.
    pub name: String,
    /// A hash by Argon2id, in the form of the PHC.
    pub password: String,
    /// What it may push to, with all below it: `owner/name`.
    pub repository: String,
}

/// `gate/users.toml`.
#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    user: Vec<User>,
}

/// Reads a file of users.
///
/// # Errors
/// A text with line and column: no TOML, an unknown field, a name that stands there twice or is none,
/// a password that is no hash by Argon2.
pub fn load_users(text: &str) -> Result<Vec<User>, String> {
    let raw: RawFile = from_toml(text)?;
    if raw.user.len() > MAX_USERS {
        return Err(format!("more than {MAX_USERS} users"));
    }
    for (position, user) in raw.user.iter().enumerate() {
        let name = &user.name;
        check_name(name)?;
        if raw.user[..position].iter().any(|earlier| earlier.name == *name) {
            return Err(format!("`{name}` stands there twice"));
        }
        if PasswordHash::new(&user.password).map(|hash| hash.algorithm.as_str() != "argon2id")
            != Ok(false)
        {
            return Err(format!("the password of `{name}` is no hash by Argon2id"));
        }
        let is_name = user.repository.to_ascii_lowercase().parse::<RepositoryName>().is_ok();
        if !is_name || !user.repository.contains('/') {
            return Err(format!("`{}` is no `owner/name`", user.repository));
        }
    }
    Ok(raw.user)
}

fn check_name(name: &str) -> Result<(), String> {
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_good) {
        true => Ok(()),
        false => Err(format!("`{name}` is no name: letters, digits, `.`, `_`, `-`")),
    }
}

/// The text of a file of users.
///
/// # Errors
/// They cannot be written as TOML.
pub fn users_text(users: &[User]) -> Result<String, String> {
    let mut text = String::new();
    for User { name, password, repository } in users {
        // None of the three can hold a quote or backslash: see `load_users`.
        text.push_str(&format!(
            "[[user]]\nname = \"{name}\"\npassword = \"{password}\"\nrepository = \"{repository}\"\n\n"
        ));
    }
    load_users(&text).map(|_| text)
}

/// A user with a new password.
///
/// # Errors
/// The password is too short or too long, or the kernel has no randomness.
pub fn new_user(name: &str, password: &SecretString, repository: &str) -> Result<User, String> {
    check_name(name)?;
    let password = password.expose_secret();
    if !(MIN_PASSWORD_BYTES..=MAX_PASSWORD_BYTES).contains(&password.len()) {
        return Err(format!("a password has {MIN_PASSWORD_BYTES} to {MAX_PASSWORD_BYTES} bytes"));
    }
    let mut salt = [0; SALT_BYTES];
    let random = ring::rand::SystemRandom::new();
    random.fill(&mut salt).map_err(|_| "the kernel gives no random bytes".to_owned())?;
    let failed = |error: argon2::password_hash::Error| format!("hashing the password: {error}");
    let salt = SaltString::encode_b64(&salt).map_err(failed)?;
    // The library's parameters are OWASP's: 19 MiB, two passes, one lane.
    let hash = Argon2::default().hash_password(password.as_bytes(), &salt).map_err(failed)?;
    Ok(User {
        name: name.to_owned(),
        password: hash.to_string(),
        repository: repository.to_owned(),
    })
}

/// What a password leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is the user's.
    Yes(Box<Identity>),
    /// It is not.
    No,
    /// Too many wrong ones: not looked at for so many seconds.
    Wait(i64),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tries {
    wrong: u32,
    /// Seconds since 1970.
    until: i64,
}

impl Tries {
    /// How long the next try has to wait.
    fn wait(self, now: i64) -> i64 {
        (self.until - now).max(0)
    }

    /// After one more that was wrong: the wait doubles.
    fn wrong(self, now: i64) -> Self {
        let wrong = self.wrong.saturating_add(1);
        let doublings = wrong.saturating_sub(FREE_TRIES).min(10);
        let wait = if wrong < FREE_TRIES { 0 } else { MAX_WAIT_SECONDS.min(1 << doublings) };
        Self { wrong, until: now + wait }
    }
}

/// All users of a gate.
pub(crate) struct Users {
    users: HashMap<String, User>,
    tries: Mutex<HashMap<String, Tries>>,
    /// One password at a time: each takes 19 MiB and a moment of a processor.
    at_work: Mutex<()>,
}

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

impl Users {
    pub(crate) fn new(users: Vec<User>) -> Self {
        let users = users.into_iter().map(|user| (user.name.clone(), user)).collect();
        Self { users, tries: Mutex::default(), at_work: Mutex::default() }
    }

    pub(crate) fn knows(&self, name: &str) -> bool {
        self.users.contains_key(name)
    }

    fn tries(&self) -> MutexGuard<'_, HashMap<String, Tries>> {
        self.tries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the password is that of the user. Blocks for as long as the hash takes.
    pub(crate) fn verify(&self, name: &str, password: &str, now: Timestamp) -> Answer {
        let Some(user) = self.users.get(name) else { return Answer::No };
        let now = now.as_second();
        let _alone = self.at_work.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.tries().get(name).copied().unwrap_or_default().wait(now);
        if wait > 0 {
            return Answer::Wait(wait);
        }
        let is_right = password.len() <= MAX_PASSWORD_BYTES
            && PasswordHash::new(&user.password).is_ok_and(|hash| {
                Argon2::default().verify_password(password.as_bytes(), &hash).is_ok()
            });
        let mut tries = self.tries();
        if !is_right {
            let known = tries.entry(name.to_owned()).or_default();
            *known = known.wrong(now);
            tracing::warn!(user = name, wrong = known.wrong, "wrong password");
            return Answer::No;
        }
        tries.remove(name);
        Answer::Yes(Box::new(identity(user)))
    }
}

/// Who the user is to the rules.
fn identity(user: &User) -> Identity {
    let owner = user.repository.split('/').next().unwrap_or_default();
    Identity {
        issuer: ISSUER.to_owned(),
        repository: user.repository.clone(),
        repository_id: user.name.clone(),
        repository_owner: owner.to_owned(),
        repository_owner_id: user.name.clone(),
        event_name: EVENT.to_owned(),
        actor: user.name.clone(),
        run_id: user.name.clone(),
        run_attempt: "1".to_owned(),
        ..Identity::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_file_of_users_is_written_and_read() {
        let ann = new_user("ann", &"correct horse".to_owned().into(), "local/ann").unwrap();
        assert!(ann.password.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", ann.password);
        let text = users_text(std::slice::from_ref(&ann)).unwrap();
        assert!(!text.contains("horse"));
        assert_eq!(load_users(&text).unwrap(), std::slice::from_ref(&ann));
        let again = new_user("ann", &"correct horse".to_owned().into(), "local/ann").unwrap();
        assert_ne!(again.password, ann.password, "salted");
        for (from, to, want) in [
            ("name =", "nam =", "2:1: unknown field `nam`"),
            ("\"ann\"", "\"a:b\"", "`a:b` is no name"),
            ("$argon2id", "$argon2i", "the password of `ann` is no hash by Argon2id"),
            ("local/ann", "../ann", "`../ann` is no `owner/name`"),
            ("local/ann", "ann", "`ann` is no `owner/name`"),
        ] {
            let error = load_users(&text.replace(from, to)).unwrap_err();
            assert!(error.starts_with(want), "{error}");
        }
        assert!(load_users(&format!("{text}{text}")).unwrap_err().ends_with("stands there twice"));
        let short = new_user("ann", &"1234567".to_owned().into(), "local/ann").unwrap_err();
        assert_eq!(short, "a password has 8 to 1024 bytes");
    }

    #[test]
    fn a_password_is_the_users_own() {
        let user = |name: &str, password: &str| {
            new_user(name, &password.to_owned().into(), &format!("local/{name}")).unwrap()
        };
        let users =
            Users::new(vec![user("ann", "password of ann"), user("bob", "password of bob")]);
        let Answer::Yes(identity) = users.verify("ann", "password of ann", at(0)) else {
            panic!("refused")
        };
        assert_eq!((identity.repository.as_str(), identity.actor.as_str()), ("local/ann", "ann"));
        for (name, password) in
            [("ann", "password of bob"), ("ann", ""), ("eve", "password of ann")]
        {
            assert_eq!(users.verify(name, password, at(0)), Answer::No, "{name}: {password}");
        }
    }

    #[test]
    fn guessing_gets_slower_and_slower() {
        let mut tries = Tries::default();
        let waits: Vec<i64> = (0..16)
            .map(|_| {
                tries = tries.wrong(0);
                tries.wait(0)
            })
            .collect();
        assert_eq!(waits, [0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
        assert_eq!(tries.wait(299), 1);
        assert_eq!(tries.wait(301), 0);
    }
}
