//! What is dubious in a Dockerfile: the findings of `--check`, also looked for before each build.

use std::collections::BTreeMap;
use std::sync::Arc;

use sekisho_dockerfile::lint::{self, Finding, Subject};
use sekisho_dockerfile::{Check, Dockerfile, Word, scope};
use sekisho_oci::{ImageConfig, Platform};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::context::text;
use crate::engine::platform_args;
use crate::progress::{Event, Progress};
use crate::reading::read;
use crate::remote::Remote;
use crate::store::Store;
use crate::{BuildError, BuildOptions, contexts};

/// Findings about a Dockerfile, and whether they are to fail a build.
#[derive(Debug)]
pub struct Checked {
    /// The file.
    pub file: Dockerfile,
    /// ARGs before the first FROM, with the values that the build would give them.
    pub globals: BTreeMap<String, String>,
    /// In order of their lines.
    pub findings: Vec<Finding>,
    /// `# check=error=true`.
    pub fails: bool,
}

/// Looks at a Dockerfile, for which a context of elsewhere is fetched. Blocks; `handle` serves the calls.
pub(crate) fn run(
    mut options: BuildOptions,
    progress: Arc<dyn Progress>,
    cancel: CancellationToken,
    handle: Handle,
) -> Result<Checked, BuildError> {
    let Some(input) = options.context.take() else { return checked(&options) };
    let store = Store::open(&options.cache_dir)?;
    store.hold_to(options.cache_limit)?;
    // What is fetched lies in it, and goes with it.
    let session = store.session()?;
    let remote = Remote::new(handle, cancel, &options, progress, &store)?;
    let (folder, _) = contexts::main_folder(&input, &remote, &session, &options)?;
    options.context_dir = folder;
    checked(&options)
}

fn checked(options: &BuildOptions) -> Result<Checked, BuildError> {
    let file = read(options)?;
    let (globals, findings, fails) = look(&file, options)?;
    Ok(Checked { file, globals, findings, fails })
}

type Looked = (BTreeMap<String, String>, Vec<Finding>, bool);

fn settings(file: &Dockerfile, options: &BuildOptions) -> anyhow::Result<Check> {
    lint::settings(file, &options.build_args)
        .map_err(|problem| anyhow::anyhow!("the argument `{}`: {problem}", lint::CHECK_ARG))
}

fn look(file: &Dockerfile, options: &BuildOptions) -> Result<Looked, BuildError> {
    let settings = settings(file, options)?;
    let platform = options.platforms().into_iter().next().unwrap_or_else(Platform::host);
    let arguments = platform_args(&platform, options.target.as_deref());
    let globals = scope::globals(file, &options.build_args, &arguments)?;
    let ignore = text::read_ignore(&options.context_dir, &options.dockerfile)?;
    let base_env = BTreeMap::new();
    let subject = Subject { file, globals: &globals, base_env: &base_env, ignore: Some(&ignore) };
    let findings = lint::lint(&subject, &settings);
    Ok((globals, findings, settings.error))
}

impl crate::engine::Engine {
    /// Tells that a base image is for another platform; fails when the file says that findings fail it.
    pub(crate) fn check_base_platform(
        &self,
        base: &Word,
        image: &str,
        expected: &Platform,
        config: &ImageConfig,
    ) -> Result<(), BuildError> {
        let settings = settings(&self.file, &self.options)?;
        // As BuildKit: variants do not count.
        let expected = Platform::new(expected.os.clone(), expected.architecture.clone());
        let actual = Platform::new(config.os.clone(), config.architecture.clone());
        let (expected, actual) = (expected.to_string(), actual.to_string());
        let finding = lint::base_platform(&settings, base.span, image, &expected, &actual);
        let Some(finding) = finding else { return Ok(()) };
        let told = finding.diagnostic(&self.file);
        if settings.error {
            return Err(BuildError::Dockerfile(vec![told]));
        }
        self.remark(told.to_string());
        Ok(())
    }

    /// Tells how many findings there are; fails when the file says that they fail it.
    pub(crate) fn lint(&self) -> Result<(), BuildError> {
        let (_, findings, fails) = look(&self.file, &self.options)?;
        if fails && !findings.is_empty() {
            let told = findings.iter().map(|finding| finding.diagnostic(&self.file));
            return Err(BuildError::Dockerfile(told.collect()));
        }
        if !findings.is_empty() {
            let rules: std::collections::BTreeSet<_> =
                findings.iter().map(|finding| finding.rule).collect();
            let rules: Vec<_> = rules.into_iter().collect();
            let count = findings.len();
            let text = format!(
                "{count} finding{} about the Dockerfile ({}): see `sekisho build --check`",
                if count == 1 { "" } else { "s" },
                rules.join(", ")
            );
            self.progress.event(Event::Note { text });
        }
        Ok(())
    }
}
