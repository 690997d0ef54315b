//! Drives the steps of all stages that a target needs, as many at once as there are cores.
//!
//! ```text
//!  FROM ──▶ decide about every instruction of the stage (pure) ──▶ steps that make layers ──▶ end
//! ```
//!
//! A step waits for the layers below it; a COPY that stands alone (`--link`) does not. A stage waits
//! for the ends of those it is based on or copies from. Each platform has stages of its own, and all are built side
//! by side; what is the same in several is carried out once, see `turns`. One thread, this one, knows where all
//! stages are; the others only carry out what they are given.
//!
//! What takes long and waits for nothing is begun early: the list of the context and the digests of what is
//! copied from it, and the trees of a base that is new here, which the first RUN will want.

mod jobs;
mod plan;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};

use anyhow::Context as _;
use sekisho_dockerfile::graph::{self, Graph};
use sekisho_dockerfile::{Dockerfile, Instruction, Source, Span, Spanned, Stage, scope};
use sekisho_oci::Platform;

use crate::BuildError;
use crate::ages::Maker;
use crate::decide::{Action, CopySource, Decided, State};
use crate::engine::{Engine, Progressed, platform_args};
use crate::image::Layer;
use crate::progress::Event;
use crate::schedule::{Schedule, StepId};

/// Most instructions of one stage, ONBUILDs included: ranks of stages are so far apart.
const STAGE_RANKS: usize = 1 << 20;

/// An instruction that was decided about.
pub(crate) struct Planned {
    pub(crate) file: Arc<Dockerfile>,
    pub(crate) instruction: Spanned<Instruction>,
    pub(crate) decided: Decided,
    /// The stage's metadata when the instruction is carried out.
    pub(crate) state: State,
    /// What its `--from`s mean, and where they stand.
    pub(crate) froms: Vec<(graph::Origin, Span)>,
    pub(crate) number: usize,
}

impl Planned {
    fn makes_layer(&self) -> bool {
        self.decided.action != Action::Metadata
    }

    fn maker(&self) -> Maker {
        match self.decided.action {
            Action::Copy(_) => Maker::Copy,
            Action::Run(_) => Maker::Run,
            _ => Maker::Other,
        }
    }

    /// Whether it takes files of the build context alone, which can be looked at before its turn.
    fn can_look(&self) -> bool {
        let local = |source: &CopySource| matches!(source, CopySource::Path(_));
        match &self.decided.action {
            Action::Copy(step) => self.froms.is_empty() && step.sources.iter().all(local),
            _ => false,
        }
    }

    fn stands_alone(&self) -> bool {
        matches!(&self.decided.action, Action::Copy(step) if step.stands_alone())
    }
}

/// A stage for one of the platforms that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    target: usize,
    stage: usize,
}

/// What is built for one platform.
struct Target {
    engine: Engine,
    platform: Platform,
    globals: BTreeMap<String, String>,
    graph: Graph,
}

/// A stage that is being built.
struct Open {
    end: StepId,
    /// Position among the stages that are needed, those of the first platform first.
    position: usize,
    /// Number of its FROM.
    number: usize,
    fresh: bool,
    /// Once its FROM is done.
    base: Option<Progressed>,
    planned: Vec<Arc<Planned>>,
    /// By instruction; `None` is not done yet.
    layers: Vec<Option<Option<Layer>>>,
    finished: Option<Progressed>,
}

/// As far as can be seen before anything is expanded: what names a URL does not.
fn takes_from_the_context(instruction: &Instruction) -> bool {
    let local = |source: &Source| matches!(source, Source::Path(word) if !word.raw.contains("://"));
    match instruction {
        Instruction::Copy(copy) => copy.from.is_none() && copy.sources.iter().any(local),
        Instruction::Add(add) => add.sources.iter().any(local),
        _ => false,
    }
}

/// What a thread is given.
#[derive(Clone, Copy)]
enum Work {
    /// Lists the build context.
    Context,
    From(At),
    /// Looks at what a COPY is to take.
    Look(At, usize),
    Step(At, usize),
    End(At),
}

/// What a thread brings back.
enum Outcome {
    Base(Box<Progressed>),
    Layer(Box<Option<Layer>>),
    /// It was only begun early.
    Nothing,
}

/// A step to be carried out on a thread of its own; what it leaves to be done beside the next ones.
type Job<'e> = Box<dyn FnOnce() -> Result<(Outcome, Option<Rest<'e>>), BuildError> + Send + 'e>;
type Rest<'e> = Box<dyn FnOnce() -> Result<(), BuildError> + Send + 'e>;

/// What a thread tells.
enum Told {
    /// The step is done; there is a rest.
    Step(StepId, Work, Result<Outcome, BuildError>, bool),
    Rest(Work, Result<(), BuildError>),
}

fn guarded<T>(act: impl FnOnce() -> Result<T, BuildError>) -> Result<T, BuildError> {
    let panicked = |_| Err(anyhow::anyhow!("a step panicked").into());
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(panicked)
}

/// Both halves of a step, as they come; the second one by `beside`.
fn carry_out<'s>(
    id: StepId,
    work: Work,
    job: Job<'s>,
    tell: &mpsc::Sender<Told>,
    beside: impl FnOnce(Box<dyn FnOnce() + Send + 's>),
) {
    let (result, rest) = match guarded(job) {
        Ok((outcome, rest)) => (Ok(outcome), rest),
        Err(error) => (Err(error), None),
    };
    // Nobody listens only after a panic over there.
    let _ = tell.send(Told::Step(id, work, result, rest.is_some()));
    if let Some(rest) = rest {
        let tell = tell.clone();
        beside(Box::new(move || {
            let _ = tell.send(Told::Rest(work, guarded(rest)));
        }));
    }
}

/// A build, for all its platforms.
pub(crate) struct Drive<'e> {
    pub(crate) engine: &'e Engine,
    targets: Vec<Target>,
    stages: BTreeMap<At, Open>,
    schedule: Schedule<Work>,
    /// Steps that the file shows.
    planned: usize,
    /// The number of the last step.
    numbered: usize,
}

impl<'e> Drive<'e> {
    /// Plans what the targets need.
    pub(crate) fn new(engine: &'e Engine) -> Result<Self, BuildError> {
        let (targets, stages) = (Vec::new(), BTreeMap::new());
        let schedule = Schedule::new(engine.options.jobs);
        let mut drive = Self { engine, targets, stages, schedule, planned: 0, numbered: 0 };
        for platform in engine.options.platforms() {
            drive.plan_for(platform)?;
        }
        if drive.stages.keys().any(|at| drive.wants(*at, takes_from_the_context)) {
            drive.schedule.add(Work::Context, 0, &[]);
        }
        drive.planned = drive.numbered;
        Ok(drive)
    }

    fn plan_for(&mut self, platform: Platform) -> Result<(), BuildError> {
        let (engine, target) = (self.engine, self.targets.len());
        let (file, options) = (&engine.file, &engine.options);
        let arguments = platform_args(&platform, options.target.as_deref());
        let globals = scope::globals(file, &options.build_args, &arguments)?;
        let lookup = |name: &str| globals.get(name).cloned();
        let graph =
            graph::order(file, options.target.as_deref(), &lookup, &options.context_names())?;
        let order = graph.order.clone();
        let engine = engine.for_target(target);
        self.targets.push(Target { engine, platform, globals, graph });
        for stage in order {
            self.open(At { target, stage })?;
        }
        Ok(())
    }

    fn target(&self, at: At) -> Result<&Target, BuildError> {
        Ok(self.targets.get(at.target).context("there is no such platform")?)
    }

    pub(crate) fn stage(&self, at: At) -> Result<&'e Stage, BuildError> {
        let engine: &'e Engine = self.engine;
        Ok(engine.file.stages.get(at.stage).context("there is no such stage")?)
    }

    fn node(&self, at: At) -> Result<&graph::Node, BuildError> {
        let graph = &self.target(at)?.graph;
        Ok(graph.nodes.get(at.stage).context("there is no such stage")?)
    }

    /// Whether a stage has such an instruction.
    fn wants(&self, at: At, such: fn(&Instruction) -> bool) -> bool {
        let stage = self.engine.file.stages.get(at.stage);
        stage.is_some_and(|stage| stage.instructions.iter().any(|one| such(&one.node)))
    }

    fn opened(&mut self, at: At) -> Result<&mut Open, BuildError> {
        Ok(self.stages.get_mut(&at).context("a stage was not planned")?)
    }

    /// The engine for a step of a stage.
    fn for_step(
        &self,
        at: At,
        file: &Arc<Dockerfile>,
        number: usize,
    ) -> Result<Engine, BuildError> {
        let fresh = self.stages.get(&at).context("a stage was not planned")?.fresh;
        let target = self.target(at)?;
        let ships = ships(&target.graph, at.stage);
        Ok(target.engine.for_step(file, number, fresh, ships))
    }

    /// Plans a stage, whose needs are planned already.
    fn open(&mut self, at: At) -> Result<(), BuildError> {
        let (stage, position) = (self.stage(at)?, self.stages.len());
        let base = match self.node(at)?.base {
            graph::Origin::Stage(stage) => self.stages.get(&At { stage, ..at }),
            _ => None,
        };
        let needs: Vec<StepId> = base.map(|open| open.end).into_iter().collect();
        let filter = &self.engine.options.no_cache_filter;
        let names = [stage.name.clone(), Some(at.stage.to_string())];
        let named = |name: &String| filter.iter().any(|one| one.eq_ignore_ascii_case(name));
        let fresh = names.iter().flatten().any(named);
        let rank = position * STAGE_RANKS;
        self.schedule.add(Work::From(at), rank, &needs);
        let end = self.schedule.promise(rank + STAGE_RANKS - 1);
        let number = self.numbered + 1;
        self.numbered += 1 + stage.instructions.len();
        let open = Open {
            end,
            position,
            number,
            fresh,
            base: None,
            planned: Vec::new(),
            layers: Vec::new(),
            finished: None,
        };
        self.stages.insert(at, open);
        Ok(())
    }

    /// Builds; gives the targets.
    pub(crate) fn run(mut self) -> Result<Vec<Progressed>, BuildError> {
        self.engine.progress.event(Event::Planned { steps: self.planned });
        let mut failure: Option<(usize, BuildError)> = None;
        // Steps that are done but for their layers' compression.
        let mut rests = 0;
        std::thread::scope(|scope| {
            let (send, receive) = mpsc::channel();
            loop {
                let on_a_thread = |(id, work, job)| {
                    let send = send.clone();
                    scope.spawn(move || carry_out(id, work, job, &send, |rest| rest()));
                };
                let mut last = None;
                while let Some((id, work)) = self.schedule.next() {
                    let started = match self.prepare(&work) {
                        Ok(Some(job)) => {
                            last.replace((id, work, job)).map(on_a_thread);
                            continue;
                        }
                        Ok(None) => self.end_stage(&work),
                        Err(error) => Err(error),
                    };
                    match started {
                        Ok(()) => self.schedule.done(id),
                        Err(error) => {
                            self.schedule.failed();
                            self.give_up(&work, error, &mut failure);
                        }
                    }
                }
                match last {
                    // Nothing else could begin meanwhile: a step that is cached takes less than a thread does.
                    Some((id, work, job)) if self.schedule.running() == 1 && rests == 0 => {
                        carry_out(id, work, job, &send, |rest| drop(scope.spawn(rest)));
                    }
                    last => drop(last.map(on_a_thread)),
                }
                if self.schedule.running() + rests == 0 {
                    break;
                }
                match receive.recv() {
                    Ok(Told::Step(id, work, result, rest)) => {
                        rests += usize::from(rest);
                        match result.and_then(|outcome| self.take(&work, outcome)) {
                            Ok(()) => self.schedule.done(id),
                            Err(error) => {
                                self.schedule.failed();
                                self.give_up(&work, error, &mut failure);
                            }
                        }
                    }
                    Ok(Told::Rest(work, result)) => {
                        rests -= 1;
                        if let Err(error) = result {
                            self.schedule.stop();
                            self.give_up(&work, error, &mut failure);
                        }
                    }
                    Err(_) => break,
                }
            }
        });
        if let Some((_, error)) = failure {
            return Err(error);
        }
        let waiting = "stages wait for each other: an ONBUILD needs a stage that needs it";
        let wanted = self.targets.iter().map(|target| target.graph.target).enumerate();
        let wanted: Vec<At> = wanted.map(|(target, stage)| At { target, stage }).collect();
        let mut finished = |at| -> Result<Progressed, BuildError> {
            Ok(self.opened(at)?.finished.take().context(waiting)?)
        };
        wanted.into_iter().map(&mut finished).collect()
    }

    /// Nothing new starts, and what runs is ended. Of several mistakes the first in the file counts.
    fn give_up(
        &mut self,
        work: &Work,
        error: BuildError,
        failure: &mut Option<(usize, BuildError)>,
    ) {
        self.engine.cancel.cancel();
        self.engine.control.kill();
        let rank = match work {
            Work::Context => 0,
            Work::From(at) | Work::End(at) => self.rank(*at, 0),
            Work::Look(at, nth) | Work::Step(at, nth) => self.rank(*at, nth + 1),
        };
        // What the first failure ended is not the reason.
        let rank = if matches!(error, BuildError::Cancelled) { usize::MAX } else { rank };
        if failure.as_ref().is_none_or(|(known, _)| rank < *known) {
            *failure = Some((rank, error));
        }
    }

    fn rank(&self, at: At, nth: usize) -> usize {
        let position = self.stages.get(&at).map_or(0, |open| open.position);
        position * STAGE_RANKS + nth.min(STAGE_RANKS - 2)
    }
}

/// Whether a stage's layers are in the image: it is the target, or what the target is based on.
fn ships(graph: &Graph, stage: usize) -> bool {
    let mut at = graph.target;
    while at != stage {
        match graph.nodes.get(at).map(|node| &node.base) {
            Some(graph::Origin::Stage(base)) => at = *base,
            _ => return false,
        }
    }
    true
}
