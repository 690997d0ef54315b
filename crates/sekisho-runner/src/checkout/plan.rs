//! What a checkout does: inputs to git commands. Pure.

use std::path::{Component, Path, PathBuf};

use url::Url;

/// Inputs that are known and have no effect on what we do.
const WITHOUT_EFFECT: [&str; 6] = [
    "show-progress",
    "set-safe-directory",
    "ssh-known-hosts",
    "ssh-strict",
    "ssh-user",
    "sparse-checkout-cone-mode",
];
/// Inputs that change what is fetched, in ways that are not built.
const NOT_SUPPORTED: [&str; 3] = ["ssh-key", "sparse-checkout", "filter"];
/// Longest ref.
const MAX_REF_LEN: usize = 1024;

/// Facts of the job.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) workspace: PathBuf,
    pub(crate) server_url: String,
    pub(crate) repository: String,
    pub(crate) git_ref: String,
    pub(crate) sha: String,
    /// Whether there is a token.
    pub(crate) has_token: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckoutPlan {
    /// Clone URL, without credentials.
    pub(crate) url: String,
    /// Scheme, host and port: where the token goes, and nowhere else.
    pub(crate) origin: String,
    /// Where the repository goes; in the workspace.
    pub(crate) folder: PathBuf,
    /// 0 for all of history.
    pub(crate) depth: u32,
    pub(crate) tags: bool,
    pub(crate) clean: bool,
    pub(crate) persist_credentials: bool,
    pub(crate) target: Target,
    /// Inputs that are ignored, to warn about.
    pub(crate) unknown: Vec<String>,
}

/// What is checked out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// An exact commit, and the ref it came with.
    Commit { sha: String, git_ref: Option<String> },
    /// A whole ref, `refs/…`.
    Ref(String),
    /// A branch or a tag, by its short name.
    Name(String),
    /// Whatever the repository's HEAD is.
    Default,
}

/// Why the inputs cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    #[error(
        "Input `{name}` of actions/checkout is not supported by this runner. Remove it, or fetch \
         what is missing with git in a `run` step"
    )]
    NotSupported { name: String },
    #[error("Input `{name}` of actions/checkout is wrong: `{value}`")]
    Wrong { name: &'static str, value: String },
    #[error("The repository's server `{url}` is not an http or https URL")]
    Server { url: String },
}

fn wrong(name: &'static str, value: &str) -> PlanError {
    PlanError::Wrong { name, value: value.chars().take(200).collect() }
}

/// Reads the inputs.
pub(crate) fn plan(inputs: &[(String, String)], facts: &Facts) -> Result<CheckoutPlan, PlanError> {
    let mut unknown = Vec::new();
    for (name, value) in inputs {
        let name = name.to_ascii_lowercase();
        let off = ["", "false", "0"].contains(&value.trim().to_ascii_lowercase().as_str());
        match name.as_str() {
            "submodules" | "lfs" if off => {}
            "submodules" | "lfs" => return Err(PlanError::NotSupported { name }),
            other if NOT_SUPPORTED.contains(&other) => {
                if !value.trim().is_empty() {
                    return Err(PlanError::NotSupported { name });
                }
            }
            "repository"
            | "ref"
            | "token"
            | "path"
            | "clean"
            | "fetch-depth"
            | "fetch-tags"
            | "persist-credentials"
            | "github-server-url" => {}
            other if WITHOUT_EFFECT.contains(&other) => {}
            _ => unknown.push(name),
        }
    }
    let input = |name: &str| {
        let found = inputs.iter().rev().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
    };
    let flag = |name: &'static str, default: bool| match input(name) {
        None => Ok(default),
        Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(text) => Err(wrong(name, text)),
    };
    let repository = input("repository").unwrap_or(&facts.repository);
    if !is_repository(repository) {
        return Err(wrong("repository", repository));
    }
    let depth = input("fetch-depth")
        .map_or(Ok(1), |text| text.parse::<u32>().map_err(|_| wrong("fetch-depth", text)))?;
    let server = input("github-server-url").unwrap_or(&facts.server_url);
    let (url, origin) = urls(server, repository)?;
    Ok(CheckoutPlan {
        url,
        origin,
        folder: folder(&facts.workspace, input("path").unwrap_or("."))?,
        depth,
        tags: flag("fetch-tags", false)?,
        clean: flag("clean", true)?,
        persist_credentials: flag("persist-credentials", true)? && facts.has_token,
        target: target(input("ref"), repository.eq_ignore_ascii_case(&facts.repository), facts)?,
        unknown,
    })
}

fn is_repository(text: &str) -> bool {
    let word = |part: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        !part.is_empty()
            && !part.starts_with('-')
            && part.chars().all(plain)
            && !matches!(part, "." | "..")
    };
    text.split_once('/').is_some_and(|(owner, name)| word(owner) && word(name))
}

fn urls(server: &str, repository: &str) -> Result<(String, String), PlanError> {
    let bad = || PlanError::Server { url: server.chars().take(200).collect() };
    let url = Url::parse(server).map_err(|_| bad())?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    // `file` serves tests and mirrors on disk; no token is ever sent there.
    if !matches!(url.scheme(), "http" | "https" | "file") || !plain {
        return Err(bad());
    }
    let base = server.trim_end_matches('/');
    let origin = url.origin().ascii_serialization();
    Ok((format!("{base}/{repository}"), origin))
}

fn folder(workspace: &Path, path: &str) -> Result<PathBuf, PlanError> {
    let relative = Path::new(path).strip_prefix(workspace).unwrap_or(Path::new(path));
    let inside = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
    if !relative.components().all(inside) {
        return Err(wrong("path", path));
    }
    // Without the `.`: a folder has one spelling.
    let parts = relative.components().filter(|c| matches!(c, Component::Normal(_)));
    Ok(parts.fold(workspace.to_owned(), |folder, part| folder.join(part)))
}

fn target(text: Option<&str>, is_own: bool, facts: &Facts) -> Result<Target, PlanError> {
    let Some(text) = text else {
        if !is_own {
            return Ok(Target::Default);
        }
        if !is_sha(&facts.sha) {
            return Err(wrong("ref", &facts.sha));
        }
        let git_ref = Some(facts.git_ref.clone()).filter(|name| is_ref(name));
        return Ok(Target::Commit { sha: facts.sha.clone(), git_ref });
    };
    if is_sha(text) {
        return Ok(Target::Commit { sha: text.to_ascii_lowercase(), git_ref: None });
    }
    if !is_ref(text) {
        return Err(wrong("ref", text));
    }
    // The job's own ref may have moved since: what the job was started for is fetched.
    if is_own && text == facts.git_ref && is_sha(&facts.sha) {
        return Ok(Target::Commit { sha: facts.sha.clone(), git_ref: Some(text.to_owned()) });
    }
    if text.starts_with("refs/") {
        return Ok(Target::Ref(text.to_owned()));
    }
    Ok(Target::Name(text.to_owned()))
}

fn is_sha(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// The rules of git for names of refs, as far as they keep a name from being anything else.
fn is_ref(text: &str) -> bool {
    let bad = |c: char| c.is_control() || " ~^:?*[\\".contains(c);
    !text.is_empty()
        && text.len() <= MAX_REF_LEN
        && !text.starts_with(['-', '/'])
        && !text.ends_with(['/', '.'])
        && !text.contains("..")
        && !text.contains("//")
        && !text.contains("@{")
        && !text.chars().any(bad)
}

impl CheckoutPlan {
    /// Arguments of `git fetch`.
    pub(crate) fn fetch(&self) -> Vec<String> {
        let mut args: Vec<String> =
            ["-c", "protocol.version=2", "fetch", "--no-progress", "--force"]
                .map(str::to_owned)
                .into();
        args.push(if self.tags { "--tags" } else { "--no-tags" }.to_owned());
        args.extend(["--prune", "--no-recurse-submodules"].map(str::to_owned));
        if self.depth > 0 {
            args.push(format!("--depth={}", self.depth));
        }
        args.push("origin".to_owned());
        if self.depth == 0 {
            args.push("+refs/heads/*:refs/remotes/origin/*".to_owned());
            args.push("+refs/tags/*:refs/tags/*".to_owned());
        }
        match &self.target {
            Target::Commit { sha, git_ref } => {
                // With all of history the ref is fetched already, to where it stands now.
                let local = git_ref.as_deref().filter(|_| self.depth > 0).and_then(local_ref);
                args.push(local.map_or_else(|| sha.clone(), |local| format!("+{sha}:{local}")));
            }
            Target::Ref(name) => {
                let fetched = name.starts_with("refs/heads/") || name.starts_with("refs/tags/");
                if self.depth > 0 || !fetched {
                    args.push(format!("+{name}:{}", kept_as(name)));
                }
            }
            Target::Name(name) if self.depth > 0 => {
                args.push(format!("+refs/heads/{name}*:refs/remotes/origin/{name}*"));
                args.push(format!("+refs/tags/{name}*:refs/tags/{name}*"));
            }
            Target::Name(_) => {}
            Target::Default => args.push("+HEAD:refs/remotes/origin/HEAD".to_owned()),
        }
        args
    }

    /// Arguments of `git checkout`; `found` is the whole name of a [`Target::Name`].
    pub(crate) fn checkout(&self, found: Option<&str>) -> Vec<String> {
        let mut args: Vec<String> =
            ["-c", "advice.detachedHead=false", "checkout", "--force"].map(str::to_owned).into();
        let (branch, at) = match &self.target {
            Target::Commit { sha, git_ref } => (git_ref.as_deref().and_then(branch), sha.clone()),
            Target::Ref(name) | Target::Name(name) => {
                let whole = found.unwrap_or(name);
                (branch(whole), kept_as(whole))
            }
            Target::Default => (None, "refs/remotes/origin/HEAD".to_owned()),
        };
        match branch {
            Some(branch) => args.extend(["--no-track".to_owned(), "-B".to_owned(), branch, at]),
            None => args.extend(["--detach".to_owned(), at]),
        }
        args
    }
}

/// Where a remote ref is kept.
fn local_ref(name: &str) -> Option<String> {
    if let Some(branch) = name.strip_prefix("refs/heads/") {
        return Some(format!("refs/remotes/origin/{branch}"));
    }
    if let Some(pull) = name.strip_prefix("refs/pull/") {
        return Some(format!("refs/remotes/pull/{pull}"));
    }
    name.starts_with("refs/tags/").then(|| name.to_owned())
}

/// The same, for any ref.
fn kept_as(name: &str) -> String {
    let other = || format!("refs/remotes/{}", name.strip_prefix("refs/").unwrap_or(name));
    local_ref(name).unwrap_or_else(other)
}

fn branch(name: &str) -> Option<String> {
    name.strip_prefix("refs/heads/").map(str::to_owned)
}

#[cfg(test)]
mod tests;
