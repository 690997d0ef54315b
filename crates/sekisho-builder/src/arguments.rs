//! Build arguments that mean something to the builder itself: `BUILDKIT_…`, in the words of BuildKit's
//! Dockerfile frontend (<https://docs.docker.com/reference/dockerfile/#buildkit-built-in-build-args>).
//! What others read stands with them: `BUILDKIT_SYNTAX`, `_DOCKERFILE_CHECK`, `_CACHE_MOUNT_NS`.

use anyhow::{anyhow, bail};

use crate::BuildOptions;
use crate::engine::Engine;
use crate::error::BuildError;

/// What a RUN calls this machine.
const HOSTNAME: &str = "BUILDKIT_SANDBOX_HOSTNAME";

/// An index also for one platform.
const MULTI_PLATFORM: &str = "BUILDKIT_MULTI_PLATFORM";

/// `.git` in a context that is a repository.
const KEEP_GIT_DIR: &str = "BUILDKIT_CONTEXT_KEEP_GIT_DIR";

/// Cache in the image's config, for builders that have nothing else.
const INLINE_CACHE: &str = "BUILDKIT_INLINE_CACHE";

/// Longest name that Linux takes.
const MAX_HOSTNAME_BYTES: usize = 64;

impl BuildOptions {
    /// A yes or no, in the words that Go's `strconv.ParseBool` takes; no when it is not given.
    fn flag(&self, name: &str) -> anyhow::Result<bool> {
        let Some(text) = self.build_args.get(name) else { return Ok(false) };
        match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            _ => bail!("the argument `{name}` is `{text}`: write `true` or `false`"),
        }
    }

    pub(crate) fn keeps_git_dir(&self) -> anyhow::Result<bool> {
        self.flag(KEEP_GIT_DIR)
    }

    /// Whether the image is an index also when it is for one platform.
    pub(crate) fn always_index(&self) -> anyhow::Result<bool> {
        self.flag(MULTI_PLATFORM)
    }

    /// What a RUN calls this machine, when that was asked for.
    pub(crate) fn hostname(&self) -> anyhow::Result<Option<&str>> {
        let Some(name) = self.build_args.get(HOSTNAME).filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
        if name.len() > MAX_HOSTNAME_BYTES || !name.bytes().all(good) {
            return Err(anyhow!(
                "the argument `{HOSTNAME}` is no host name: at most {MAX_HOSTNAME_BYTES} letters, \
                 digits, `-` and `.`"
            ));
        }
        Ok(Some(name))
    }
}

impl Engine {
    /// Refuses what does not parse before anything is built, and tells what has no effect.
    pub(crate) fn heed_arguments(&self) -> Result<(), BuildError> {
        self.options.hostname()?;
        self.options.always_index()?;
        self.options.keeps_git_dir()?;
        if self.options.flag(INLINE_CACHE)? {
            self.remark(format!(
                "the argument `{INLINE_CACHE}` has no effect: what was built is remembered in the cache \
                 folder, and no image carries a cache"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &str, value: &str) -> BuildOptions {
        let mut options = BuildOptions::new("context", "cache");
        options.build_args.insert(name.to_owned(), value.to_owned());
        options
    }

    #[test]
    fn flags_are_gos() {
        for (text, want) in [("1", true), ("True", true), ("f", false), ("", false), ("0", false)] {
            assert_eq!(with(MULTI_PLATFORM, text).always_index().unwrap(), want, "{text}");
        }
        let error = with(KEEP_GIT_DIR, "yes").keeps_git_dir().unwrap_err();
        let want = "the argument `BUILDKIT_CONTEXT_KEEP_GIT_DIR` is `yes`: write `true` or `false`";
        assert_eq!(error.to_string(), want);
        assert!(!BuildOptions::new("context", "cache").always_index().unwrap());
    }

    #[test]
    fn names_of_hosts_are_plain() {
        assert_eq!(with(HOSTNAME, "a-1.b").hostname().unwrap(), Some("a-1.b"));
        assert_eq!(with(HOSTNAME, "").hostname().unwrap(), None);
        for bad in ["a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(with(HOSTNAME, bad).hostname().is_err(), "{bad}");
        }
    }
}
