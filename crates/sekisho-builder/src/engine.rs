//! What every step of a build shares, and what one step knows of itself.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use sekisho_dockerfile::scope;
use sekisho_dockerfile::{Dockerfile, Instruction, Spanned};
use sekisho_oci::{History, Platform};
use sekisho_sandbox::{Control, Isolation};
use sekisho_types::Digest;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use crate::BuildError;
use crate::adding::Fetched;
use crate::ages::{Ages, Maker};
use crate::context::Context;
use crate::contexts::{self, Named};
use crate::decide::State;
use crate::drive::Drive;
use crate::engines;
use crate::finish;
use crate::golden::Base;
use crate::image::Layer;
use crate::layers::Layers;
use crate::options::BuildOptions;
use crate::pack::Press;
use crate::progress::{Event, Progress};
use crate::provenance::Materials;
use crate::reading;
use crate::remote::Remote;
use crate::result::{BuildResult, StepResult};
use crate::results::Done;
use crate::slots::Slots;
use crate::store::Store;
use crate::turns::Turns;

/// What the steps of a build share.
pub(crate) struct Shared {
    pub(crate) options: BuildOptions,
    pub(crate) progress: Arc<dyn Progress>,
    pub(crate) control: Control,
    pub(crate) cancel: CancellationToken,
    /// Ends what goes on after a step failed: layers that were made are kept.
    pub(crate) stop: CancellationToken,
    pub(crate) layers: Layers,
    pub(crate) isolation: Isolation,
    /// The build context, once a step needed it.
    pub(crate) context: Mutex<Option<Arc<Context>>>,
    /// Named contexts that were needed.
    pub(crate) named: Mutex<BTreeMap<String, Named>>,
    /// Golden bases that were used; locked while one is made, for two stages may want the same.
    pub(crate) bases: Mutex<Vec<Base>>,
    /// Files of other machines, by URL: one that changes meanwhile is one and the same throughout the build.
    pub(crate) fetched: Slots<String, Option<Fetched>>,
    /// Digests of what COPYs will take, by number of the step, as far as they were looked at early.
    pub(crate) looked: Mutex<BTreeMap<usize, Digest>>,
    /// Files that are looked at, by how they lie.
    pub(crate) looking: Slots<Digest, ()>,
    /// What came from elsewhere.
    pub(crate) materials: Mutex<Materials>,
    /// Steps that are being carried out.
    pub(crate) turns: Arc<Turns>,
    steps: Mutex<Vec<(usize, StepResult)>>,
    /// Remarks that were made, so that each is made once.
    remarks: Mutex<Vec<String>>,
}

/// What one step works with. Clones share everything but what is the step's own.
#[derive(Clone)]
pub(crate) struct Engine {
    shared: Arc<Shared>,
    /// The Dockerfile that the step stands in: an ONBUILD's is another one.
    pub(crate) file: Arc<Dockerfile>,
    /// Which of the platforms that were asked for is built, from 0.
    pub(crate) target: Option<usize>,
    /// From 1.
    pub(crate) number: usize,
    /// The stage is one of [`BuildOptions::no_cache_filter`].
    pub(crate) fresh: bool,
    /// The stage's layers are the image's own, and may be sent before it is done.
    pub(crate) ships: bool,
}

impl Deref for Engine {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// A stage at some instruction, or at its end.
#[derive(Clone)]
pub(crate) struct Progressed {
    pub(crate) state: State,
    pub(crate) chain: Vec<Layer>,
    /// Layers of the chain that a COPY or ADD made.
    pub(crate) copied: Vec<Digest>,
    pub(crate) ages: Ages,
    pub(crate) history: Vec<History>,
    pub(crate) platform: Platform,
}

impl Progressed {
    /// A stage with nothing in it.
    pub(crate) fn empty(platform: &Platform) -> Self {
        let state = State {
            config: sekisho_oci::RunConfig::default(),
            author: None,
            scope: scope::Scope::default(),
            own_cmd: false,
        };
        let (chain, copied, history) = (Vec::new(), Vec::new(), Vec::new());
        let (ages, platform) = (Ages::default(), platform.clone());
        Self { state, chain, copied, ages, history, platform }
    }

    /// Puts what a step made on top.
    pub(crate) fn add(&mut self, layer: Option<Layer>, by: Maker) {
        let Some(mut layer) = layer else { return };
        layer.age = self.ages.next(by);
        if by == Maker::Copy {
            self.copied.push(layer.diff_id.clone());
        }
        self.chain.push(layer);
    }
}

/// Where a step stands, for those who watch.
pub(crate) struct Place<'a> {
    /// Steps are listed in this order.
    pub(crate) rank: usize,
    /// The stage's name or number.
    pub(crate) stage: &'a str,
    /// The instruction.
    pub(crate) text: &'a str,
    /// From 1.
    pub(crate) line: u32,
}

/// Reads the Dockerfile and builds. Blocks; `handle` serves the calls to registries.
pub(crate) fn run(
    options: BuildOptions,
    progress: Arc<dyn Progress>,
    control: Control,
    cancel: CancellationToken,
    handle: Handle,
) -> Result<BuildResult, BuildError> {
    let mut options = options;
    let store = Store::open(&options.cache_dir)?;
    store.hold_to(options.cache_limit)?;
    let session = store.session()?;
    let events = Arc::clone(&progress);
    // A step that fails ends those beside it, and not what the caller cancels with.
    let (stop, cancel) = (cancel.clone(), cancel.child_token());
    let remote = Remote::new(handle, cancel.clone(), &options, events, &store)?;
    let mut materials = Materials::default();
    if let Some(input) = &options.context {
        let (folder, material) = contexts::main_folder(input, &remote, &session, &options)?;
        options.context_dir = folder;
        materials.for_all.extend(material);
    }
    let (file, client) = reading::choose(&options)?;
    if client.is_some() && options.provenance.is_some() {
        let why = "only the native engine states where an image is from: for another one's own statement, ask \
                   it with `--engine-arg`";
        return Err(anyhow::anyhow!(why).into());
    }
    let isolation = options.launcher.choose(session.dir());
    let shared = Shared {
        isolation: isolation.context("cannot make a folder in the cache")?,
        layers: Layers::new(store, session, remote),
        options,
        progress,
        control,
        cancel,
        stop,
        context: Mutex::default(),
        named: Mutex::default(),
        bases: Mutex::default(),
        fetched: Slots::default(),
        looked: Mutex::default(),
        looking: Slots::default(),
        materials: Mutex::new(materials),
        turns: Arc::default(),
        steps: Mutex::default(),
        remarks: Mutex::default(),
    };
    let (shared, file) = (Arc::new(shared), Arc::new(file));
    let engine = Engine { shared, file, target: None, number: 0, fresh: false, ships: false };
    match client {
        None => engine.build(),
        Some(client) => finish::finish_images(&engine, vec![engines::build(&engine, client)?]),
    }
}

impl Engine {
    fn build(&self) -> Result<BuildResult, BuildError> {
        self.lint()?;
        self.heed_arguments()?;
        let built = Drive::new(self)?.run()?;
        self.keep_hashed()?;
        finish::finish(self, &built)
    }

    /// The same engine for one of the platforms.
    pub(crate) fn for_target(&self, target: usize) -> Self {
        Self { target: Some(target), ..self.clone() }
    }

    /// The same engine for one step.
    pub(crate) fn for_step(
        &self,
        file: &Arc<Dockerfile>,
        number: usize,
        fresh: bool,
        ships: bool,
    ) -> Self {
        Self { file: Arc::clone(file), number, fresh, ships, ..self.clone() }
    }

    /// For a new layer.
    pub(crate) fn press(&self) -> Press {
        let (how, cancel) = (self.options.compression, self.stop.clone());
        Press { path: self.layers.session.path("layer"), how, cancel }
    }

    /// What the instruction of a line makes was not there: what will be wanted then, and takes its time, is begun.
    /// A sandbox is for the RUNs from there on; one before that has to run tells it itself.
    pub(crate) fn missed(&self, line: u32) {
        self.layers.remote.begin();
        let mut instructions = self.file.stages.iter().flat_map(|stage| &stage.instructions);
        let is_wanted = |one: &Spanned<Instruction>| {
            one.span.line >= line && matches!(one.node, Instruction::Run(_))
        };
        if instructions.any(is_wanted) {
            self.options.launcher.prepare(self.isolation);
        }
    }

    /// Errors out when the build was cancelled.
    pub(crate) fn check(&self) -> Result<(), BuildError> {
        if self.cancel.is_cancelled() { Err(BuildError::Cancelled) } else { Ok(()) }
    }

    pub(crate) fn remark(&self, text: String) {
        let mut remarks = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
        if !remarks.contains(&text) {
            self.progress.event(Event::Note { text: text.clone() });
            remarks.push(text);
        }
    }

    pub(crate) fn begin(&self, place: &Place<'_>) -> Instant {
        self.progress.event(Event::StepStarted {
            number: self.number,
            stage: place.stage.to_owned(),
            text: place.text.to_owned(),
            line: place.line,
        });
        now()
    }

    /// The step is over, and its layer compressed.
    ///
    /// # Errors
    /// The layer is not.
    pub(crate) fn end(
        &self,
        begun: Instant,
        place: &Place<'_>,
        done: &Done,
    ) -> Result<(), BuildError> {
        let duration = begun.elapsed();
        let layer = done.layer.as_ref().map(Layer::info).transpose()?;
        let (number, cached) = (self.number, done.cached);
        let used = done.used;
        let event = Event::StepFinished { number, cached, duration, layer: layer.clone(), used };
        self.progress.event(event);
        let step = StepResult {
            number,
            stage: place.stage.to_owned(),
            text: place.text.to_owned(),
            line: place.line,
            cached,
            duration_ms: millis(duration),
            layer,
            used,
            sandbox_us: done.sandbox.map(micros),
        };
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.push((place.rank, step));
        Ok(())
    }

    /// The steps so far, in the order of the Dockerfile, however they ran.
    pub(crate) fn steps(&self) -> Vec<StepResult> {
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner).clone();
        steps.sort_by_key(|(rank, _)| *rank);
        steps.into_iter().map(|(_, step)| step).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a step took is shown, and decides nothing")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The arguments that say what is built on what.
pub(crate) fn platform_args(target: &Platform, stage: Option<&str>) -> BTreeMap<String, String> {
    let build = Platform::host();
    let mut args = BTreeMap::new();
    for (prefix, platform) in [("TARGET", target), ("BUILD", &build)] {
        let variant = platform.variant.clone().unwrap_or_default();
        args.insert(format!("{prefix}PLATFORM"), platform.to_string());
        args.insert(format!("{prefix}OS"), platform.os.clone());
        args.insert(format!("{prefix}ARCH"), platform.architecture.clone());
        args.insert(format!("{prefix}VARIANT"), variant);
    }
    args.insert("TARGETSTAGE".to_owned(), stage.unwrap_or("default").to_owned());
    args
}
