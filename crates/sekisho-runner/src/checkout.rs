//! `actions/checkout`, natively: git, and nothing else.
//!
//! The token goes to git in its environment (`GIT_CONFIG_*`), for the repository's own server
//! only, never in an argument. With `persist-credentials` (the default) later steps may use git
//! as well: the token is then in a file of mode 0600 in the job's temporary folder that the
//! repository's configuration includes, and the post step takes both away.

mod plan;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use sekisho_sandbox::remove_tree;
use sekisho_workflow::token;
use uuid::Uuid;

use crate::console::Commands;
use crate::exec::{Ended, Invocation};
use crate::job::step::{WorkEnd, Workplace};
use crate::job::{Job, PostWork};
use crate::shell;
use crate::stop::Interrupt;
use plan::{CheckoutPlan, Facts, Target};

/// Git with all it needs.
struct Git {
    program: PathBuf,
    folder: PathBuf,
    env: Vec<(OsString, OsString)>,
}

/// What the post step takes away again.
#[derive(Clone, Debug)]
pub(crate) struct PostCheckout {
    folder: PathBuf,
    credentials: PathBuf,
    env: Vec<(OsString, OsString)>,
    program: PathBuf,
}

impl Job {
    /// Fetches a commit into the workspace.
    pub(crate) async fn checkout(
        &mut self,
        place: &mut Workplace<'_>,
        commands: &mut Commands,
    ) -> anyhow::Result<WorkEnd> {
        let functions = self.functions(place.scope);
        let mut inputs = token::eval_map(&place.spec.inputs, place.contexts, &functions)
            .context("`with` of the step cannot be evaluated")?;
        let given = inputs.iter().position(|(name, _)| name.eq_ignore_ascii_case("token"));
        let token = given.map(|at| inputs.remove(at).1).filter(|token| !token.trim().is_empty());
        let token = token.unwrap_or_else(|| self.state.github("token"));
        let token = Some(SecretString::from(token)).filter(|t| !t.expose_secret().is_empty());
        let plan = plan::plan(&inputs, &self.facts(token.is_some()))?;
        for name in &plan.unknown {
            self.warn_step(commands, &format!("Unexpected input '{name}' of actions/checkout."));
        }
        let header = token.as_ref().filter(|_| plan.origin.starts_with("http")).map(header);
        if let Some(header) = &header {
            let basic = header.expose_secret().rsplit(' ').next().unwrap_or_default();
            self.log.masker_mut().add(basic).context("masking the token")?;
        }
        let view = self.view(place.spec, place.scope, Some(place.files), place.env);
        let git = git(self.state.environment(&view), &plan, header.as_ref())?;
        self.log.write(&format!("Syncing repository: {}", plan.url));
        prepare_folder(&plan)?;
        if let Some(end) = self.init(&git, &plan, place.interrupt, commands).await? {
            return Ok(end);
        }
        self.log.write("##[group]Fetching the repository");
        let fetched = self.git(&git, &plan.fetch(), place.interrupt, commands).await?;
        self.log.write("##[endgroup]");
        if !fetched.is_success() {
            // Git says nothing at all when no ref matches.
            if let (Target::Name(name), Ended::Exited(status)) = (&plan.target, fetched)
                && status.code() == Some(1)
            {
                anyhow::bail!("A branch or tag with the name '{name}' could not be found");
            }
            return self.conclude(fetched, commands);
        }
        let found = self.find_name(&git, &plan, place.interrupt).await?;
        self.log.write("##[group]Checking out the ref");
        let out =
            self.git(&git, &plan.checkout(found.as_deref()), place.interrupt, commands).await?;
        self.log.write("##[endgroup]");
        if !out.is_success() {
            return self.conclude(out, commands);
        }
        if let (true, Some(header)) = (plan.persist_credentials, &header) {
            self.persist(&git, &plan, header, place, commands).await?;
        }
        let commit = self.ask(&git, &["rev-parse", "HEAD"], place.interrupt).await?;
        if let Some(commit) = commit {
            self.log.write(&format!("HEAD is now at {commit}"));
            place.outputs.push(("commit".to_owned(), commit));
        }
        let git_ref = match &plan.target {
            Target::Commit { git_ref, sha } => git_ref.clone().unwrap_or_else(|| sha.clone()),
            Target::Ref(name) | Target::Name(name) => name.clone(),
            Target::Default => String::new(),
        };
        place.outputs.push(("ref".to_owned(), git_ref));
        Ok(WorkEnd::Success)
    }

    fn facts(&self, has_token: bool) -> Facts {
        Facts {
            workspace: self.state.dirs().workspace.clone(),
            server_url: self.state.github("server_url"),
            repository: self.state.github("repository"),
            git_ref: self.state.github("ref"),
            sha: self.state.github("sha"),
            has_token,
        }
    }

    /// Makes the repository, or cleans the one that is there. `Some` ends the step.
    async fn init(
        &mut self,
        git: &Git,
        plan: &CheckoutPlan,
        interrupt: &Interrupt,
        commands: &mut Commands,
    ) -> anyhow::Result<Option<WorkEnd>> {
        let fresh: [&[&str]; 2] = [&["init", "--quiet"], &["remote", "add", "origin", &plan.url]];
        let again: [&[&str]; 3] = [
            &["remote", "set-url", "origin", &plan.url],
            &["clean", "-ffdx"],
            &["reset", "--hard", "--quiet"],
        ];
        let is_fresh = !plan.folder.join(".git").exists();
        let all: &[&[&str]] = if is_fresh {
            &fresh
        } else if plan.clean {
            &again
        } else {
            &again[..1]
        };
        for args in all {
            let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
            let ended = self.git(git, &args, interrupt, commands).await?;
            // A repository without a commit cannot be reset; fetching comes next anyway.
            if !ended.is_success() && args[0] != "reset" {
                return self.conclude(ended, commands).map(Some);
            }
        }
        Ok(None)
    }

    /// Shows the command and runs it.
    async fn git(
        &mut self,
        git: &Git,
        args: &[String],
        interrupt: &Interrupt,
        commands: &mut Commands,
    ) -> anyhow::Result<Ended> {
        self.log.write(&format!("[command]{} {}", git.program.display(), args.join(" ")));
        let invocation = Invocation {
            program: git.program.clone(),
            args: args.iter().map(OsString::from).collect(),
            folder: git.folder.clone(),
            env: git.env.clone(),
        };
        self.run_program(&invocation, interrupt, commands).await
    }

    /// The first line of a quick command's output; `None` when it fails.
    async fn ask(
        &self,
        git: &Git,
        args: &[&str],
        interrupt: &Interrupt,
    ) -> anyhow::Result<Option<String>> {
        let mut command = tokio::process::Command::new(&git.program);
        command
            .args(args)
            .current_dir(&git.folder)
            .env_clear()
            .envs(git.env.iter().map(|(name, value)| (name, value)))
            .stdin(std::process::Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        tokio::select! {
            output = command.output() => {
                let output = output.context("asking git")?;
                let text = String::from_utf8_lossy(&output.stdout);
                let line = text.lines().next().unwrap_or_default().trim().to_owned();
                Ok(Some(line).filter(|line| output.status.success() && !line.is_empty()))
            }
            _ = interrupt.wait() => Ok(None),
        }
    }

    /// Whether a short name is a branch or a tag; a branch comes first.
    async fn find_name(
        &self,
        git: &Git,
        plan: &CheckoutPlan,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Option<String>> {
        let Target::Name(name) = &plan.target else { return Ok(None) };
        let local = [
            (format!("refs/remotes/origin/{name}"), format!("refs/heads/{name}")),
            (format!("refs/tags/{name}"), format!("refs/tags/{name}")),
        ];
        for (local, whole) in local {
            let args = ["rev-parse", "--verify", "--quiet", &format!("{local}^{{commit}}")];
            if self.ask(git, &args, interrupt).await?.is_some() {
                return Ok(Some(whole));
            }
        }
        anyhow::bail!("A branch or tag with the name '{name}' could not be found")
    }

    async fn persist(
        &mut self,
        git: &Git,
        plan: &CheckoutPlan,
        header: &SecretString,
        place: &Workplace<'_>,
        commands: &mut Commands,
    ) -> anyhow::Result<()> {
        use std::io::Write as _;
        let temp = &self.state.dirs().temp;
        let credentials = temp.join(format!("git-credentials-{}.config", Uuid::new_v4()));
        let mut file = std::fs::OpenOptions::new();
        let file = file.write(true).create_new(true).mode(0o600).open(&credentials);
        let mut file = file.context("writing git's credentials")?;
        writeln!(file, "[http \"{}/\"]\n\textraheader = {}", plan.origin, header.expose_secret())
            .context("writing git's credentials")?;
        let path = credentials.to_string_lossy().into_owned();
        let args = ["config", "--local", "--add", "include.path", &path].map(str::to_owned);
        let ended = self.git(git, &args, place.interrupt, commands).await?;
        anyhow::ensure!(ended.is_success(), "git could not be configured");
        let name = self.display_name(place.spec, place.scope);
        let hidden =
            |(name, _): &(OsString, OsString)| !name.to_string_lossy().starts_with("GIT_CONFIG_");
        let env = git.env.iter().filter(|entry| hidden(entry)).cloned().collect();
        let (folder, program) = (plan.folder.clone(), git.program.clone());
        let work = PostCheckout { folder, credentials, env, program };
        self.add_post(format!("Post {name}"), PostWork::Checkout(work));
        Ok(())
    }

    /// Takes the credentials away again; says whether they are gone.
    pub(crate) async fn post_checkout(
        &mut self,
        post: &PostCheckout,
        commands: &mut Commands,
        interrupt: &Interrupt,
    ) -> bool {
        self.log.write("Post job cleanup.");
        if let Err(error) = fs_err::remove_file(&post.credentials)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            self.fail_step(commands, &format!("The credentials could not be removed: {error}"));
            return false;
        }
        if !post.folder.join(".git").exists() {
            return true;
        }
        let path = post.credentials.to_string_lossy();
        let path = format!("^{}$", regex::escape(&path));
        let args = ["config", "--local", "--unset-all", "include.path", &path].map(str::to_owned);
        let git = Git {
            program: post.program.clone(),
            folder: post.folder.clone(),
            env: post.env.clone(),
        };
        // What is left without it is an include of a file that is not there: git ignores it.
        let ended = self.git(&git, &args, interrupt, commands).await;
        ended.is_ok()
    }
}

/// `AUTHORIZATION: basic …`
fn header(token: &SecretString) -> SecretString {
    let basic = STANDARD.encode(format!("x-access-token:{}", token.expose_secret()));
    format!("AUTHORIZATION: basic {basic}").into()
}

/// Git and its environment: the step's, without prompts, with the token.
fn git(
    mut env: BTreeMap<OsString, OsString>,
    plan: &CheckoutPlan,
    header: Option<&SecretString>,
) -> anyhow::Result<Git> {
    let path = env.get(&OsString::from("PATH")).cloned().unwrap_or_default();
    let program = shell::find("git", &path.to_string_lossy(), &plan.folder);
    let program = program.context("actions/checkout needs `git`, which is not on the PATH")?;
    let mut config =
        vec![("safe.directory".to_owned(), plan.folder.to_string_lossy().into_owned())];
    config.push(("gc.auto".to_owned(), "0".to_owned()));
    if let Some(header) = header {
        let key = format!("http.{}/.extraheader", plan.origin);
        config.push((key, header.expose_secret().to_owned()));
    }
    // Variables of a step could point git at another repository.
    env.retain(|name, _| !name.to_string_lossy().starts_with("GIT_"));
    env.insert("GIT_TERMINAL_PROMPT".into(), "0".into());
    env.insert("GIT_CONFIG_COUNT".into(), config.len().to_string().into());
    for (index, (key, value)) in config.into_iter().enumerate() {
        env.insert(format!("GIT_CONFIG_KEY_{index}").into(), key.into());
        env.insert(format!("GIT_CONFIG_VALUE_{index}").into(), value.into());
    }
    let env = env.into_iter().collect();
    Ok(Git { program, folder: plan.folder.clone(), env })
}

/// Makes the folder; what is there and is no repository goes, as `clean` says.
fn prepare_folder(plan: &CheckoutPlan) -> anyhow::Result<()> {
    let folder: &Path = &plan.folder;
    if folder.exists() && !folder.join(".git").exists() && plan.clean {
        for entry in fs_err::read_dir(folder).context("emptying the workspace")? {
            let path = entry.context("emptying the workspace")?.path();
            if path.is_dir() && !path.is_symlink() {
                remove_tree(&path).context("emptying the workspace")?;
            } else {
                fs_err::remove_file(&path).context("emptying the workspace")?;
            }
        }
    }
    fs_err::create_dir_all(folder).context("making the folder for the repository")?;
    fs_err::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
        .context("making the folder for the repository")
}
