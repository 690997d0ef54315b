//! One step on a thread of its own: a FROM, or an instruction; and what a base left for its children.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use sekisho_dockerfile::graph;
use sekisho_dockerfile::scope::Scope;
use sekisho_dockerfile::{Dockerfile, Instruction, MountKind, Span, Spanned, Stage, parse};
use sekisho_oci::{ImageConfig, Manifest, Platform, RunConfig, parse_manifest};
use sekisho_types::ImageReference;

use crate::BuildError;
use crate::ages::{Age, Ages};
use crate::beside;
use crate::decide::{Action, CopySource, DEFAULT_PATH, State};
use crate::drive::{At, Drive, Planned};
use crate::engine::{Engine, Place, Progressed};
use crate::image::Layer;
use crate::origin::Origin;
use crate::remote::{CallError, Upload};
use crate::results::Done;

/// An instruction of an ONBUILD: its file, itself, and what its `--from`s mean.
type Trigger = (Arc<Dockerfile>, Spanned<Instruction>, Vec<(graph::Origin, Span)>);

/// An ONBUILD that would be more than it says.
const NOT_ONE: &str = "the base's ONBUILDs are not one instruction each";

impl Drive<'_> {
    /// The ONBUILDs of the base, which are instructions of this build in another file.
    pub(crate) fn triggers(
        &mut self,
        at: At,
        triggers: &[String],
    ) -> Result<Vec<Trigger>, BuildError> {
        if triggers.is_empty() {
            return Ok(Vec::new());
        }
        let (own, stage) = (&self.engine.file, self.stage(at)?);
        let name = format!("ONBUILD of {}", stage.base.raw);
        let contexts = self.engine.options.context_names();
        let mut all = Vec::new();
        for trigger in triggers {
            let text = format!("FROM scratch\n{trigger}\n");
            let file = parse(&name, &text).map_err(BuildError::Dockerfile)?;
            let (1, Some(stage_of_it)) = (file.stages.len(), file.stages.first()) else {
                return Err(own.diagnostic(stage.base.span, NOT_ONE).into());
            };
            let [instruction] = stage_of_it.instructions.as_slice() else {
                return Err(own.diagnostic(stage.base.span, NOT_ONE).into());
            };
            let instruction = instruction.clone();
            let mut froms = Vec::new();
            for (from, span) in froms_of(&instruction.node) {
                let origin = graph::from_outside(own, &from, stage.base.span, &contexts)?;
                if let graph::Origin::Stage(needed) = origin {
                    self.need(at, needed)?;
                }
                froms.push((origin, span));
            }
            all.push((Arc::new(file), instruction, froms));
        }
        Ok(all)
    }
}

impl Engine {
    /// What people call a stage: its name or number, after its platform where there are several.
    fn name_of(&self, stage: &Stage) -> String {
        let name = stage.name.clone().unwrap_or_else(|| stage.index.to_string());
        let platforms = &self.options.platforms;
        let platform = self.target.and_then(|nth| platforms.get(nth));
        match platform.filter(|_| platforms.len() > 1) {
            Some(platform) => format!("{platform} {name}"),
            None => name,
        }
    }

    /// Carries out a FROM; `base` is the finished stage that it names.
    pub(crate) fn from(
        &self,
        stage: &Stage,
        node: &graph::Node,
        base: Option<Progressed>,
        globals: &BTreeMap<String, String>,
        target: &Platform,
        rank: usize,
    ) -> Result<Progressed, BuildError> {
        self.check()?;
        let name = self.name_of(stage);
        let place = Place { rank, stage: &name, text: &stage.text, line: stage.span.line };
        let begun = self.begin(&place);
        let platform = match &node.platform {
            None => target.clone(),
            Some(text) => text.parse().map_err(|error: sekisho_oci::PlatformError| {
                self.file.diagnostic(stage.span, error.to_string())
            })?,
        };
        let scope = |env: &[String]| Scope::new(globals, &self.options.build_args, env);
        let of_image = |config: ImageConfig, chain: Vec<Layer>| {
            let scope = scope(&config.config.env);
            let (author, history) = (config.author, config.history);
            let state = State { config: config.config, author, scope, own_cmd: false };
            let (copied, ages, platform) = (Vec::new(), Ages::of_base(&chain), platform.clone());
            Progressed { state, chain, copied, ages, history, platform }
        };
        let mut cached = true;
        let now = match &node.base {
            graph::Origin::Stage(_) => {
                let mut base = base.context("a stage was not built")?;
                base.state.own_cmd = false;
                base
            }
            graph::Origin::Scratch => of_image(scratch(&platform), Vec::new()),
            graph::Origin::Image(text) => {
                let (config, chain, known) = self.image(text, stage.span, &platform)?;
                self.check_base_platform(&stage.base, text, &platform, &config)?;
                cached = known;
                of_image(config, chain)
            }
            graph::Origin::Context(name) => {
                let (config, chain) = self.context_as_base(name, stage.span, &platform)?;
                of_image(config.unwrap_or_else(|| scratch(&platform)), chain)
            }
        };
        self.end(begun, &place, &Done::known(None, cached))?;
        if !cached {
            self.missed(stage.span.line);
        }
        self.send_ahead(&now.chain);
        Ok(now)
    }

    /// Config and layers of an image, and whether its manifest was here already.
    pub(crate) fn image(
        &self,
        text: &str,
        span: Span,
        platform: &Platform,
    ) -> Result<(ImageConfig, Vec<Layer>, bool), BuildError> {
        let reference: ImageReference = text.parse().map_err(|error| {
            let error: sekisho_types::ReferenceError = error;
            BuildError::from(self.file.diagnostic(span, error.to_string()))
        })?;
        if reference.registry == crate::GOLDEN_REGISTRY {
            return self.golden(&reference, span, platform);
        }
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
        self.took_image(&reference, &resolved.digest, platform);
        let pinned = ImageReference { tag: None, digest: Some(resolved.digest), ..reference };
        let config = Layer {
            diff_id: manifest.config.digest.clone(),
            descriptor: Some(manifest.config.clone()),
            origin: Some(pinned.clone()),
            age: Age::default(),
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
            descriptor: Some(descriptor),
            origin: Some(pinned.clone()),
            age: Age::default(),
        });
        let chain = chain.collect();
        // Last, so that a manifest in the store means that all of this was read once.
        self.layers.store.put_blob(&self.layers.session, &resolved.manifest)?;
        Ok((config, chain, known))
    }

    /// An instruction that the config says it all about.
    ///
    /// # Errors
    /// None: see [`Engine::end`].
    pub(crate) fn metadata(
        &self,
        stage: &Stage,
        planned: &Planned,
        rank: usize,
    ) -> Result<(), BuildError> {
        let name = self.name_of(stage);
        let Spanned { text, span, .. } = &planned.instruction;
        let place = Place { rank, stage: &name, text, line: span.line };
        let begun = self.begin(&place);
        self.end(begun, &place, &Done::known(None, true))
    }

    /// Waits until the layer of an instruction is compressed, and tells that it is done.
    pub(crate) fn end_step(
        &self,
        stage: &Stage,
        planned: &Planned,
        (begun, done): (Instant, Done),
        rank: usize,
    ) -> Result<(), BuildError> {
        let done = self.complete(done)?;
        let name = self.name_of(stage);
        let Spanned { text, span, .. } = &planned.instruction;
        self.end(begun, &Place { rank, stage: &name, text, line: span.line }, &done)?;
        self.send_ahead(done.layer.as_slice());
        Ok(())
    }

    /// Sends layers of the image to where it will be pushed, while later steps run. What goes wrong here is
    /// tried again, and told, when the image is pushed.
    pub(crate) fn send_ahead(&self, chain: &[Layer]) {
        if !self.ships {
            return;
        }
        // What is in another compression than the one that was asked for is not what is pushed.
        let chain = chain.iter().filter(|layer| layer.is_as_wanted(self.options.compression));
        let chain: Vec<&Layer> = chain.collect();
        let store = &self.layers.store;
        for destination in &self.options.destinations {
            for layer in &chain {
                let Ok(packed) = layer.packed() else { continue };
                if store.has_blob(&packed.digest, packed.size) {
                    let path = store.blob_path(&packed.digest);
                    let (descriptor, origin) = (packed.clone(), layer.origin.clone());
                    self.layers.remote.send_ahead(destination, Upload { descriptor, path, origin });
                }
            }
        }
    }

    /// Says that a RUN will want these layers; gives those that are new here.
    pub(crate) fn expect(&self, chain: &[Layer]) -> Vec<Layer> {
        self.layers.expect(chain, self.isolation)
    }

    /// Brings new layers and unpacks them, several at once. What goes wrong is told by who needs them.
    pub(crate) fn fetch_ahead(&self, new: &[Layer]) {
        beside::each(new, self.options.jobs, |layer| {
            self.check().and_then(|()| self.layers.tree(layer, self.isolation))
        });
        self.send_ahead(new);
    }

    /// Carries out an instruction; its layer may still be compressed when this returns.
    pub(crate) fn step(
        &self,
        stage: &Stage,
        planned: &Planned,
        stages: &BTreeMap<usize, Vec<Layer>>,
        now: &Progressed,
        rank: usize,
    ) -> Result<(Instant, Done), BuildError> {
        self.check()?;
        let instruction = &planned.instruction;
        let name = self.name_of(stage);
        let line = instruction.span.line;
        let place = Place { rank, stage: &name, text: &instruction.text, line };
        let begun = self.begin(&place);
        let mut froms = planned.froms.iter();
        let done = match &planned.decided.action {
            Action::Metadata => Done::known(None, true),
            Action::Run(step) => {
                let mut origins = Vec::new();
                for mount in &step.mounts {
                    let from = if takes(&mount.kind).is_some() { froms.next() } else { None };
                    let origin = from.map(|from| self.origin(from, now, stages));
                    origins.push(origin.transpose()?);
                }
                self.run_step(step, &origins, instruction.span, now)?
            }
            Action::Workdir(path) => self.workdir_step(path, instruction.span, now)?,
            Action::Copy(step) => {
                let local = |source: &CopySource| matches!(source, CopySource::Path(_));
                let origin = match froms.next() {
                    Some(from) => self.origin(from, now, stages)?,
                    None if step.sources.iter().any(local) => self.main_context()?,
                    None => Origin::Layers(Vec::new()),
                };
                self.copy_step(step, instruction, &origin, now)?
            }
        };
        Ok((begun, done))
    }

    /// The files that a `--from` means.
    fn origin(
        &self,
        (origin, span): &(graph::Origin, Span),
        now: &Progressed,
        stages: &BTreeMap<usize, Vec<Layer>>,
    ) -> Result<Origin, BuildError> {
        Ok(match origin {
            graph::Origin::Scratch => Origin::Layers(Vec::new()),
            graph::Origin::Stage(index) => {
                Origin::Layers(stages.get(index).context("a stage was not built")?.clone())
            }
            graph::Origin::Context(name) => self.context_as_files(name, *span, &now.platform)?,
            graph::Origin::Image(text) => match self.image(text, *span, &now.platform) {
                Ok((_, chain, _)) => Origin::Layers(chain),
                Err(BuildError::Base { source, .. }) => {
                    return Err(self.no_such_origin(text, *span, &source));
                }
                Err(error) => return Err(error),
            },
        })
    }

    /// A name that is no stage and no context was taken for an image, and there is none.
    fn no_such_origin(&self, text: &str, span: Span, source: &anyhow::Error) -> BuildError {
        let message = format!(
            "`{text}` is no stage and no build context, and cannot be had as an image: {source:#}"
        );
        let stages = self.file.stages.iter().filter_map(|stage| stage.name.as_deref());
        let stages: Vec<&str> = stages.collect();
        let hint = match stages.is_empty() {
            true => "no stage of this file has a name; name one with `FROM … AS name`".to_owned(),
            false => format!("stages are `{}`", stages.join("`, `")),
        };
        self.file.diagnostic(span, message).with_hint(hint).into()
    }
}

/// What `FROM scratch` starts with.
fn scratch(platform: &Platform) -> ImageConfig {
    let config = RunConfig {
        env: vec![format!("PATH={DEFAULT_PATH}")],
        working_dir: "/".to_owned(),
        ..RunConfig::default()
    };
    ImageConfig { config, ..ImageConfig::new(platform) }
}

/// The `from=` of a mount.
fn takes(kind: &MountKind) -> Option<&String> {
    match kind {
        MountKind::Bind { from: Some(from), .. } | MountKind::Cache { from: Some(from), .. } => {
            Some(from)
        }
        _ => None,
    }
}

/// The `--from`s of an instruction, each with where it stands.
fn froms_of(instruction: &Instruction) -> Vec<(String, Span)> {
    match instruction {
        Instruction::Copy(copy) => {
            copy.from.iter().map(|from| (from.raw.clone(), from.span)).collect()
        }
        Instruction::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| Some((takes(&mount.kind)?.clone(), mount.span)))
            .collect(),
        _ => Vec::new(),
    }
}
