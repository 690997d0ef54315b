//! RUN, COPY and ADD: what is run, and what goes where.

use sekisho_dockerfile::expand::expand;
use sekisho_dockerfile::git::GitRef;
use sekisho_dockerfile::ignore::Ignore;
use sekisho_dockerfile::scope::PROXY_ARGS;
use sekisho_dockerfile::{
    Add, Command, Copy, Diagnostic, Heredoc, Mount, MountKind, Network, Run, Script, Security,
    Source, Word,
};

use sekisho_types::Digest;

use super::{Action, CopySource, CopyStep, DEFAULT_PATH, Decided, Decider, RunStep};
use crate::chmod::Chmod;
use crate::{fetch, files};

/// Where secrets are, unless the Dockerfile says otherwise.
const SECRETS: &str = "/run/secrets";

/// Where the sockets of ssh agents are, and the beginning of their names.
const AGENTS: &str = "/run/buildkit/ssh_agent.";

/// Where here-documents with `#!` are while they run.
const SCRIPTS: &str = "/dev/pipes";

impl Decider<'_> {
    pub(super) fn run(&self, run: &Run) -> Result<Decided, Diagnostic> {
        if run.security == Some(Security::Insecure) {
            return self.for_buildkit("`RUN --security=insecure`");
        }
        if !run.devices.is_empty() {
            return self.for_buildkit("`RUN --device`");
        }
        let (mut script, mut told_args) = (None, None);
        let (args, command) = match (&run.command, run.command.script()) {
            (Command::Exec(args), _) if args.is_empty() => {
                return Err(self.error(self.span, "RUN has nothing to run"));
            }
            (Command::Exec(args), _) => (args.clone(), args.join(" ")),
            (Command::Shell { line, .. }, Some(Script::File { name, content })) => {
                let path = format!("{SCRIPTS}/{name}");
                script = Some((path.clone(), content));
                // BuildKit tells of the shell, which is not there when the script is run.
                told_args = Some([self.shell(), vec![path.clone()]].concat());
                (vec![path], line.clone())
            }
            (Command::Shell { line, .. }, Some(Script::Shell(text))) => {
                let mut args = self.shell();
                args.push(text);
                (args, line.clone())
            }
            (Command::Shell { line, .. }, None) => (self.shell(), line.clone()),
        };
        let mounts = self.mounts(&run.mounts)?;
        let scope = &self.state.scope;
        let mut env = scope.run_env();
        let images: Vec<String> = scope.env();
        let is_env = |name: &str| {
            images.iter().any(|pair| pair.split_once('=').is_some_and(|(key, _)| key == name))
        };
        // As BuildKit: every ARG so far with what the command sees of it, set or not.
        let arguments = scope.declared();
        let arguments: Vec<_> =
            arguments.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        // A proxy is no input, unless an ARG makes it one.
        let free = env.iter().map(|(name, _)| name.clone());
        let free = free.filter(|name| {
            PROXY_ARGS.contains(&name.as_str()) && !is_env(name) && !scope.is_declared(name)
        });
        let free = free.collect();
        if !env.iter().any(|(name, _)| name == "PATH") {
            env.push(("PATH".to_owned(), DEFAULT_PATH.to_owned()));
        }
        let mut told = "RUN ".to_owned();
        if !arguments.is_empty() {
            told.push_str(&format!("|{} {} ", arguments.len(), arguments.join(" ")));
        }
        told.push_str(&told_args.as_ref().unwrap_or(&args).join(" "));
        let no_network = run.network == Some(Network::None);
        let step = RunStep { args, env, free, no_network, mounts, script, command };
        Ok(Decided { action: Action::Run(step), created_by: Some(told) })
    }

    /// The mounts with their variables expanded, and with the targets that they have by default.
    fn mounts(&self, written: &[Mount]) -> Result<Vec<Mount>, Diagnostic> {
        let mut mounts = Vec::new();
        let mut agents = 0;
        for mount in written {
            let lookup = |name: &str| self.state.scope.get(name);
            let mut mount = mount
                .expanded(self.file.escape, &lookup)
                .map_err(|error| self.error(mount.span, error))?;
            let given = mount.target.as_ref().filter(|target| !target.is_empty()).cloned();
            let target = match &mut mount.kind {
                MountKind::Secret { id, env, .. } => {
                    let last =
                        |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
                    let name = id.clone().or_else(|| given.as_ref().map(last));
                    let name = name.or_else(|| env.clone()).unwrap_or_default();
                    let default = || env.is_none().then(|| format!("{SECRETS}/{name}"));
                    let target = given.or_else(default);
                    *id = Some(name);
                    target
                }
                MountKind::Ssh { .. } => {
                    agents += 1;
                    given.or_else(|| Some(format!("{AGENTS}{}", agents - 1)))
                }
                _ => given,
            };
            mount.target = target.map(|target| files::absolute(&self.workdir_now(), &target));
            let needs = !matches!(mount.kind, MountKind::Secret { .. });
            if mount.target.as_deref() == Some("/") || needs && mount.target.is_none() {
                let message = "the target of a mount must be a path below `/`";
                return Err(self.error(mount.span, message));
            }
            mounts.push(mount);
        }
        Ok(mounts)
    }

    pub(super) fn copy(&self, copy: &Copy) -> Result<Decided, Diagnostic> {
        let mut step =
            self.files(&copy.sources, &copy.destination, copy.chown.as_ref(), copy.chmod.as_ref())?;
        for (source, written) in step.sources.iter().zip(&copy.sources) {
            let (CopySource::Path(path), Source::Path(word)) = (source, written) else { continue };
            let web = path.starts_with("http://") || path.starts_with("https://");
            if web || matches!(GitRef::parse(path), Ok(Some(_)) | Err(_)) {
                let message = "COPY takes no URL and no git repository";
                return Err(self.error(word.span, message).with_hint("write ADD instead"));
            }
        }
        step.link = copy.link;
        step.parents = copy.parents;
        step.exclude = self.patterns(&copy.exclude)?;
        step.from_elsewhere = copy.from.is_some();
        Ok(self.copied("COPY", step))
    }

    pub(super) fn add(&self, add: &Add) -> Result<Decided, Diagnostic> {
        let mut step =
            self.files(&add.sources, &add.destination, add.chown.as_ref(), add.chmod.as_ref())?;
        for (source, written) in step.sources.iter_mut().zip(&add.sources) {
            let (CopySource::Path(path), Source::Path(word)) = (&*source, written) else {
                continue;
            };
            if let Some(remote) = self.remote(add, path, word)? {
                *source = remote;
            }
        }
        let remote = |source: &CopySource| {
            !matches!(source, CopySource::Path(_) | CopySource::Inline { .. })
        };
        if let (Some(word), false) = (&add.checksum, step.sources.iter().all(remote)) {
            let message = "`--checksum` is only for a URL or a git repository";
            return Err(self.error(word.span, message));
        }
        if let (Some(word), true) = (&add.checksum, step.sources.len() > 1) {
            return Err(self.error(word.span, "`--checksum` is for one source"));
        }
        step.link = add.link;
        step.exclude = self.patterns(&add.exclude)?;
        step.unpack = add.unpack.unwrap_or(true);
        step.unpack_remote = add.unpack == Some(true);
        Ok(self.copied("ADD", step))
    }

    /// What a source of ADD is when it is not a path.
    fn remote(&self, add: &Add, path: &str, word: &Word) -> Result<Option<CopySource>, Diagnostic> {
        let bad = |problem: String| {
            self.error(word.span, format!("cannot add this repository: {problem}"))
        };
        if let Some(mut git) = GitRef::parse(path).map_err(bad)? {
            if crate::git::user_apart(&git.remote).1.is_some() {
                let why = "a name or password in its URL would stand in the image's history";
                let hint = "give a token with `--secret id=GIT_AUTH_TOKEN,env=NAME`";
                return Err(bad(why.to_owned()).with_hint(hint));
            }
            if let Some(word) = &add.checksum {
                let sum = self.expand(word)?;
                let other = git.checksum.as_ref().is_some_and(|known| *known != sum);
                let digits = sum.len() >= 7 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
                if other || !digits {
                    let message = format!("`--checksum={sum}` is not the digits of the commit");
                    return Err(self.error(word.span, message));
                }
                git.checksum = Some(sum);
            }
            let both = git.keep_git_dir.is_some() && add.keep_git_dir;
            if both && git.keep_git_dir == Some(false) {
                let message = "`--keep-git-dir` and the query of the URL say different things";
                return Err(self.error(word.span, message));
            }
            let keep_git_dir = git.keep_git_dir.unwrap_or(add.keep_git_dir);
            let written = path.to_owned();
            return Ok(Some(CopySource::Git { written, git, keep_git_dir }));
        }
        if !path.starts_with("http://") && !path.starts_with("https://") {
            return Ok(None);
        }
        fetch::parse(path).map_err(|problem| {
            self.error(word.span, format!("cannot fetch from this URL: {problem}"))
        })?;
        let checksum = match &add.checksum {
            None => None,
            Some(word) => {
                let text = self.expand(word)?;
                let digest = text.parse::<Digest>();
                let digest = digest.ok().filter(|digest| digest.algorithm().as_str() == "sha256");
                let message = format!("`--checksum={text}` is not `sha256:` and 64 digits");
                Some(digest.ok_or_else(|| self.error(word.span, message))?)
            }
        };
        Ok(Some(CopySource::Remote { url: path.to_owned(), checksum }))
    }

    fn patterns(&self, words: &[Word]) -> Result<Vec<String>, Diagnostic> {
        let mut patterns = Vec::new();
        for word in words {
            let pattern = self.expand(word)?;
            Ignore::from_patterns(std::slice::from_ref(&pattern))
                .map_err(|error| self.error(word.span, error.to_string()))?;
            patterns.push(pattern);
        }
        Ok(patterns)
    }

    /// As BuildKit tells it: some flags, paths as written, here-documents after them.
    fn copied(&self, name: &str, step: CopyStep) -> Decided {
        let mut told = name.to_owned();
        if step.parents {
            told.push_str(" --parents");
        }
        if let Some(chown) = &step.chown {
            told.push_str(&format!(" --chown={chown}"));
        }
        if let Some((chmod, _)) = &step.chmod {
            told.push_str(&format!(" --chmod={chmod}"));
        }
        let inline = |source: &&CopySource| matches!(source, CopySource::Inline { .. });
        for source in step.sources.iter().filter(|source| !inline(source)) {
            told.push_str(&format!(" {}", source.name()));
        }
        for source in step.sources.iter().filter(inline) {
            told.push_str(&format!(" <<{}", source.name()));
        }
        told.push_str(&format!(" {}", step.written));
        Decided { action: Action::Copy(step), created_by: Some(told) }
    }

    fn files(
        &self,
        sources: &[Source],
        destination: &Word,
        chown: Option<&Word>,
        chmod: Option<&Word>,
    ) -> Result<CopyStep, Diagnostic> {
        let written = self.expand(destination)?;
        if written.is_empty() {
            return Err(self.error(destination.span, "the destination is empty after expansion"));
        }
        let mut step = CopyStep {
            sources: Vec::new(),
            destination: files::absolute(&self.workdir_now(), &written),
            is_folder: written.ends_with('/') || written == "." || written.ends_with("/."),
            written,
            from_elsewhere: false,
            chown: chown.map(|word| self.expand(word)).transpose()?,
            chmod: None,
            parents: false,
            exclude: Vec::new(),
            link: false,
            unpack: false,
            unpack_remote: false,
        };
        if let Some(word) = chmod {
            let text = self.expand(word)?;
            let message =
                format!("`--chmod={text}` is neither octal digits nor like `u=rwX,go=rX`");
            let chmod = Chmod::parse(&text).ok_or_else(|| self.error(word.span, message))?;
            step.chmod = Some((text, chmod));
        }
        for source in sources {
            step.sources.push(match source {
                Source::Path(word) => {
                    let path = self.expand(word)?;
                    if path.is_empty() {
                        return Err(self.error(word.span, "a source is empty after expansion"));
                    }
                    CopySource::Path(path)
                }
                Source::Heredoc(heredoc) => self.inline(heredoc)?,
            });
        }
        if step.sources.len() > 1 && !step.is_folder {
            let message = "with more than one source the destination must end with `/`";
            return Err(self.error(destination.span, message));
        }
        Ok(step)
    }

    fn inline(&self, heredoc: &Heredoc) -> Result<CopySource, Diagnostic> {
        let content = if heredoc.expand {
            let quoted = keep_quotes(&heredoc.content);
            expand(&quoted, HEREDOC_ESCAPE, &|name| self.state.scope.get(name))
                .map_err(|error| self.bad(heredoc.span, &error))?
        } else {
            heredoc.content.clone()
        };
        Ok(CopySource::Inline { name: heredoc.name.clone(), content })
    }
}

/// Of here-documents, whatever `# escape=` says.
const HEREDOC_ESCAPE: char = '\\';

/// In a here-document quotes stay; an escape goes, as in BuildKit, and what it stands before stays as it is.
fn keep_quotes(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if matches!(character, '"' | '\'') {
            kept.push(HEREDOC_ESCAPE);
        }
        kept.push(character);
        if character == HEREDOC_ESCAPE {
            kept.extend(rest.next());
        }
    }
    kept
}
