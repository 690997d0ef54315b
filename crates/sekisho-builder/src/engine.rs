//! Carries out the stages that a target needs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sekisho_dockerfile::graph::{self, Origin};
use sekisho_dockerfile::scope::{self, Scope};
use sekisho_dockerfile::{Dockerfile, MAX_DOCKERFILE_BYTES, Span, Stage};
use sekisho_oci::{History, ImageConfig, Manifest, Platform, RunConfig, parse_manifest};
use sekisho_sandbox::{Control, Isolation};
use sekisho_types::ImageReference;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::decide::{DEFAULT_PATH, State};
use crate::image::{self, Documents, Layer, Parts};
use crate::layers::Layers;
use crate::options::{BuildOptions, BuildResult, StepResult};
use crate::progress::{Event, Progress};
use crate::remote::{CallError, Remote};
use crate::stages::Plan;
use crate::store::Store;
use crate::{BuildError, output, push};

/// Everything a build works with.
pub(crate) struct Engine {
    pub(crate) options: BuildOptions,
    pub(crate) progress: Arc<dyn Progress>,
    pub(crate) control: Control,
    pub(crate) cancel: CancellationToken,
    pub(crate) layers: Layers,
    pub(crate) isolation: Isolation,
    pub(crate) file: Dockerfile,
    /// Listed when the first COPY needs it.
    pub(crate) context: Option<Context>,
    pub(crate) number: usize,
    /// The stage is one of [`BuildOptions::no_cache_filter`].
    pub(crate) fresh: bool,
    steps: Vec<StepResult>,
    /// Remarks that were made, so that each is made once.
    remarks: Vec<String>,
}

/// A stage at some instruction, or at its end.
#[derive(Clone)]
pub(crate) struct Progressed {
    pub(crate) state: State,
    pub(crate) chain: Vec<Layer>,
    pub(crate) history: Vec<History>,
    pub(crate) platform: Platform,
}

/// What a step came to.
pub(crate) struct Done {
    pub(crate) layer: Option<Layer>,
    pub(crate) cached: bool,
}

/// Reads the Dockerfile and builds. Blocks; `handle` serves the calls to registries.
pub(crate) fn run(
    options: BuildOptions,
    progress: Arc<dyn Progress>,
    control: Control,
    cancel: CancellationToken,
    handle: Handle,
) -> Result<BuildResult, BuildError> {
    let file = read(&options)?;
    for warning in &file.warnings {
        progress.event(Event::Note { text: warning.to_string() });
    }
    let store = Store::open(&options.cache_dir)?;
    let session = store.session()?;
    let events = Arc::clone(&progress);
    let remote = Remote::new(handle, cancel.clone(), &options.credentials, events);
    let mut engine = Engine {
        isolation: Isolation::choose(),
        layers: Layers::new(store, session, remote),
        options,
        progress,
        control,
        cancel,
        file,
        context: None,
        number: 0,
        fresh: false,
        steps: Vec::new(),
        remarks: Vec::new(),
    };
    engine.build()
}

fn read(options: &BuildOptions) -> Result<Dockerfile, BuildError> {
    let context = &options.context_dir;
    match std::fs::metadata(context) {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => {
            let source = std::io::ErrorKind::NotADirectory.into();
            return Err(BuildError::Context { path: context.clone(), source });
        }
        Err(source) => return Err(BuildError::Context { path: context.clone(), source }),
    }
    let path = context.join(&options.dockerfile);
    let failed = |source| BuildError::Context { path: path.clone(), source };
    let size = match std::fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(BuildError::NoDockerfile { path });
        }
        Err(source) => return Err(failed(source)),
    };
    if size > MAX_DOCKERFILE_BYTES as u64 {
        return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
    }
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    let name = options.dockerfile.display().to_string();
    sekisho_dockerfile::parse(&name, &text).map_err(BuildError::Dockerfile)
}

impl Engine {
    fn build(&mut self) -> Result<BuildResult, BuildError> {
        let platform = platform_args(&self.options.platform);
        let globals = scope::globals(&self.file, &self.options.build_args, &platform)?;
        let lookup = |name: &str| globals.get(name).cloned();
        let graph = graph::order(&self.file, self.options.target.as_deref(), &lookup)?;
        let stages: Vec<Stage> = self.file.stages.clone();
        let steps = graph.order.iter().map(|index| stages[*index].instructions.len() + 1).sum();
        self.progress.event(Event::Planned { steps });
        let plan = Plan { stages, nodes: graph.nodes, globals };
        let mut finished: BTreeMap<usize, Progressed> = BTreeMap::new();
        for index in &graph.order {
            self.stage(&plan, *index, &mut finished)?;
        }
        let target = finished.remove(&graph.target).context("the target was not built")?;
        self.finish(target)
    }

    /// Errors out when the build was cancelled.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        if self.cancel.is_cancelled() { Err(BuildError::Cancelled) } else { Ok(()) }
    }

    pub(crate) fn remark(&mut self, text: String) {
        if !self.remarks.contains(&text) {
            self.progress.event(Event::Note { text: text.clone() });
            self.remarks.push(text);
        }
    }

    pub(crate) fn begin(&mut self, stage: &Stage, text: &str, line: u32) -> Instant {
        self.number += 1;
        let name = stage.name.clone().unwrap_or_else(|| stage.index.to_string());
        self.progress.event(Event::StepStarted {
            number: self.number,
            stage: name,
            text: text.to_owned(),
            line,
        });
        now()
    }

    pub(crate) fn end(&mut self, begun: Instant, text: &str, line: u32, done: &Done) {
        let duration = begun.elapsed();
        let layer = done.layer.as_ref().map(Layer::info);
        let (number, cached) = (self.number, done.cached);
        let event = Event::StepFinished { number, cached, duration, layer: layer.clone() };
        self.progress.event(event);
        let duration_ms = millis(duration);
        self.steps.push(StepResult {
            number,
            text: text.to_owned(),
            line,
            cached,
            duration_ms,
            layer,
        });
    }

    pub(crate) fn from(
        &mut self,
        stage: &Stage,
        node: &graph::Node,
        finished: &BTreeMap<usize, Progressed>,
        globals: &BTreeMap<String, String>,
    ) -> Result<Progressed, BuildError> {
        self.check()?;
        let line = stage.span.line;
        let begun = self.begin(stage, &stage.text, line);
        let platform = match &node.platform {
            None => self.options.platform.clone(),
            Some(text) => text.parse().map_err(|error: sekisho_oci::PlatformError| {
                self.file.diagnostic(stage.span, error.to_string())
            })?,
        };
        let mut cached = true;
        let scope = |env: &[String]| Scope::new(globals, &self.options.build_args, env);
        let now = match &node.base {
            Origin::Stage(index) => {
                let mut base = finished.get(index).context("a stage was not built")?.clone();
                base.state.own_cmd = false;
                base
            }
            Origin::Scratch => {
                let env = vec![format!("PATH={DEFAULT_PATH}")];
                let config = RunConfig {
                    env: env.clone(),
                    working_dir: "/".to_owned(),
                    ..RunConfig::default()
                };
                let state = State { config, author: None, scope: scope(&env), own_cmd: false };
                Progressed { state, chain: Vec::new(), history: Vec::new(), platform }
            }
            Origin::Image(text) => {
                let (config, chain, known) = self.image(text, stage.span, &platform)?;
                cached = known;
                let scope = Scope::new(globals, &self.options.build_args, &config.config.env);
                let state =
                    State { config: config.config, author: config.author, scope, own_cmd: false };
                Progressed { state, chain, history: config.history, platform }
            }
        };
        self.end(begun, &stage.text, line, &Done { layer: None, cached });
        Ok(now)
    }

    /// Config and layers of an image, and whether its manifest was here already.
    pub(crate) fn image(
        &mut self,
        text: &str,
        span: Span,
        platform: &Platform,
    ) -> Result<(ImageConfig, Vec<Layer>, bool), BuildError> {
        let reference: ImageReference = text.parse().map_err(|error| {
            let error: sekisho_types::ReferenceError = error;
            BuildError::from(self.file.diagnostic(span, error.to_string()))
        })?;
        let failed = |source: anyhow::Error| BuildError::Base {
            file: self.file.file.clone(),
            line: span.line,
            reference: text.to_owned(),
            source,
        };
        let resolved = match self.layers.remote.resolve(&reference, platform, &self.layers.store) {
            Ok(resolved) => resolved,
            Err(CallError::Cancelled) => return Err(BuildError::Cancelled),
            Err(CallError::Registry(error)) => return Err(failed(error.into())),
        };
        let known = self.layers.store.has_blob(&resolved.digest, resolved.manifest.len() as u64);
        let manifest = match parse_manifest(&resolved.manifest, &resolved.media_type) {
            Ok(Manifest::Image(manifest)) => manifest,
            Ok(_) => return Err(failed(anyhow::anyhow!("the registry sent no image manifest"))),
            Err(error) => return Err(failed(error.into())),
        };
        let pinned = ImageReference { tag: None, digest: Some(resolved.digest), ..reference };
        let config = Layer {
            diff_id: manifest.config.digest.clone(),
            descriptor: manifest.config.clone(),
            origin: Some(pinned.clone()),
        };
        let path = self.layers.blob(&config)?;
        let bytes = fs_err::read(path).context("cannot read a config")?;
        let config = ImageConfig::parse(&bytes).map_err(|error| failed(error.into()))?;
        let ids = &config.rootfs.diff_ids;
        if ids.len() != manifest.layers.len() {
            return Err(failed(anyhow::anyhow!(
                "its manifest lists {} layers and its config {}",
                manifest.layers.len(),
                ids.len()
            )));
        }
        let chain = ids.iter().zip(manifest.layers).map(|(diff_id, descriptor)| Layer {
            diff_id: diff_id.clone(),
            descriptor,
            origin: Some(pinned.clone()),
        });
        let chain = chain.collect();
        // Last, so that a manifest in the store means that all of this was read once.
        self.layers.store.put_blob(&self.layers.session, &resolved.manifest)?;
        Ok((config, chain, known))
    }

    fn finish(&mut self, mut target: Progressed) -> Result<BuildResult, BuildError> {
        self.check()?;
        target.state.config.labels.extend(self.options.labels.clone());
        let documents = image::documents(Parts {
            platform: &target.platform,
            created: self.options.created,
            author: target.state.author,
            config: target.state.config,
            history: target.history,
            layers: &target.chain,
        });
        let store = &self.layers.store;
        let config_digest = store.put_blob(&self.layers.session, &documents.config)?;
        let manifest_digest = store.put_blob(&self.layers.session, &documents.manifest)?;
        let Documents { parsed, .. } = &documents;
        let layers: u64 = parsed.layers.iter().map(|layer| layer.size).sum();
        let size_bytes = layers + parsed.config.size;
        let event = Event::Built { manifest_digest: manifest_digest.clone(), size_bytes };
        self.progress.event(event);
        let destinations = self.options.destinations.clone();
        for destination in &destinations {
            push::push(self, destination, &target.chain, &documents)?;
        }
        if let Some(output) = self.options.output.clone() {
            output::write(self, &output, &destinations, &target.chain, &documents)?;
        } else if destinations.is_empty() {
            // The image is to stay here, so it must all be here.
            for layer in &target.chain {
                self.layers.blob(layer)?;
            }
        }
        Ok(BuildResult {
            manifest_digest,
            config_digest,
            layers: target.chain.iter().map(Layer::info).collect(),
            steps: std::mem::take(&mut self.steps),
            pushed: destinations,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a step took is shown, and decides nothing")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The arguments that say what is built on what.
fn platform_args(target: &Platform) -> BTreeMap<String, String> {
    let build = Platform::host();
    let mut args = BTreeMap::new();
    for (prefix, platform) in [("TARGET", target), ("BUILD", &build)] {
        let variant = platform.variant.clone().unwrap_or_default();
        args.insert(format!("{prefix}PLATFORM"), platform.to_string());
        args.insert(format!("{prefix}OS"), platform.os.clone());
        args.insert(format!("{prefix}ARCH"), platform.architecture.clone());
        args.insert(format!("{prefix}VARIANT"), variant);
    }
    args
}
