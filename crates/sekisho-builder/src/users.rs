//! Names of users and groups, as `/etc/passwd` and `/etc/group` of an image know them.

use sekisho_sandbox::User;

/// Why a `user[:group]` means nobody.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UserError {
    #[error("there is no user `{0}` in the image's /etc/passwd")]
    NoUser(String),
    #[error("there is no group `{0}` in the image's /etc/group")]
    NoGroup(String),
}

/// Somebody, and where they live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) user: User,
    pub(crate) home: String,
}

/// Whether names must be looked up.
pub(crate) fn is_numeric(text: &str) -> bool {
    !text.is_empty() && text.split(':').all(|part| part.parse::<u32>().is_ok())
}

/// Reads `[user][:[group]]`, as in USER and `--chown`. No user is root.
///
/// Like Docker: without a group it is the user's own, 0 for a number that is not listed; with one,
/// there are no supplementary groups.
pub(crate) fn find(text: &str, passwd: &str, group: &str) -> Result<Person, UserError> {
    let (name, group_name) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (text, None),
    };
    let name = if name.is_empty() { "0" } else { name };
    let number = name.parse::<u32>().ok();
    let line = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| {
        let listed = fields.get(2).and_then(|uid| uid.parse::<u32>().ok());
        fields.first() == Some(&name) || (number.is_some() && listed == number)
    });
    let field = |at: usize| line.as_ref().and_then(|fields| fields.get(at).copied());
    let uid = match (number, field(2).and_then(|uid| uid.parse().ok())) {
        (Some(uid), _) | (None, Some(uid)) => uid,
        (None, None) => return Err(UserError::NoUser(name.to_owned())),
    };
    let own = field(3).and_then(|gid| gid.parse().ok()).unwrap_or(0);
    let gid = match group_name {
        None => own,
        Some(text) => find_group(text, group)?,
    };
    let groups = match (group_name, field(0)) {
        (None, Some(name)) => supplementary(name, group),
        _ => Vec::new(),
    };
    let home = field(5).filter(|home| !home.is_empty());
    let home = home.unwrap_or(if uid == 0 { "/root" } else { "/" }).to_owned();
    Ok(Person { user: User { uid, gid, groups }, home })
}

fn find_group(text: &str, group: &str) -> Result<u32, UserError> {
    if let Ok(gid) = text.parse() {
        return Ok(gid);
    }
    group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&text))
        .and_then(|fields| fields.get(2)?.parse().ok())
        .ok_or_else(|| UserError::NoGroup(text.to_owned()))
}

fn supplementary(name: &str, group: &str) -> Vec<u32> {
    group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .filter(|fields| {
            fields.get(3).is_some_and(|members| members.split(',').any(|member| member == name))
        })
        .filter_map(|fields| fields.get(2)?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:,,,:/home/app:/bin/sh\n";
    const GROUP: &str = "root:x:0:\napp:x:1001:\nweb:x:33:www,app\n";

    #[track_caller]
    fn check(text: &str, uid: u32, gid: u32, groups: &[u32], home: &str) {
        let want =
            Person { user: User { uid, gid, groups: groups.to_vec() }, home: home.to_owned() };
        assert_eq!(find(text, PASSWD, GROUP), Ok(want), "{text}");
    }

    #[test]
    fn names_and_numbers() {
        check("", 0, 0, &[], "/root");
        check("root", 0, 0, &[], "/root");
        check("app", 1000, 1001, &[33], "/home/app");
        check("1000", 1000, 1001, &[33], "/home/app");
        check("app:web", 1000, 33, &[], "/home/app");
        check("app:5", 1000, 5, &[], "/home/app");
        check("app:", 1000, 1001, &[33], "/home/app");
        check(":web", 0, 33, &[], "/root");
        check("77", 77, 0, &[], "/");
        check("77:88", 77, 88, &[], "/");
        assert_eq!(find("nobody", PASSWD, GROUP), Err(UserError::NoUser("nobody".into())));
        assert_eq!(find("app:x", PASSWD, GROUP), Err(UserError::NoGroup("x".into())));
        assert!(is_numeric("1:2") && is_numeric("5") && !is_numeric("app") && !is_numeric("1:web"));
    }
}
