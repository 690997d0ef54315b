//! Which commit a remote means by a name, read from what `git ls-remote` says.

/// Where git looks for a name, in its order (`ref_rev_parse_rules` in git's `refs.c`).
const RULES: [(&str, &str); 6] = [
    ("", ""),
    ("refs/", ""),
    ("refs/tags/", ""),
    ("refs/heads/", ""),
    ("refs/remotes/", ""),
    ("refs/remotes/", "/HEAD"),
];

/// The commit that a name means; of a tag with a message, the one it is about.
///
/// Only whole lines count: what git says is cut when it is long.
pub(super) fn commit<'a>(said: &'a str, wanted: &str) -> Option<&'a str> {
    let (whole, _) = said.rsplit_once('\n')?;
    let find = |name: &str| {
        let mut lines = whole.lines().filter_map(|line| line.split_once('\t'));
        lines.find(|(_, found)| *found == name).map(|(commit, _)| commit)
    };
    RULES.iter().find_map(|(before, after)| {
        let name = format!("{before}{wanted}{after}");
        let plain = find(&name)?;
        Some(find(&format!("{name}^{{}}")).unwrap_or(plain))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_what_git_takes_it_for() {
        let said = "a1\tHEAD\na2\trefs/heads/main\na3\trefs/heads/old/main\na4\trefs/tags/v1\n\
                    a5\trefs/tags/v1^{}\na6\trefs/heads/v1\na7\trefs/pull/7/head\na8\trefs/heads/cut";
        for (wanted, want) in [
            ("HEAD", Some("a1")),
            ("main", Some("a2")),
            ("old/main", Some("a3")),
            ("refs/heads/old/main", Some("a3")),
            ("v1", Some("a5")),
            ("heads/v1", Some("a6")),
            ("refs/pull/7/head", Some("a7")),
            ("pull/7/head", Some("a7")),
            ("mai", None),
            // Perhaps not the end of that name.
            ("cut", None),
            ("", None),
        ] {
            assert_eq!(commit(said, wanted), want, "{wanted}");
        }
        assert_eq!(commit("", "HEAD"), None);
    }
}
