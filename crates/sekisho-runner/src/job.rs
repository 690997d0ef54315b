//! One job, from "Set up job" to "Complete job".
//!
//! The driver asks [`plan::decide`] what comes next and does it; everything that happens to a
//! step is in [`step`]. A job never panics and never returns an error: whatever goes wrong is a
//! failed step with a line that says why.

mod complete;
mod files;
mod hook;
pub(crate) mod script;
mod setup;
pub(crate) mod step;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context as _;
use sekisho_github::runner::JobClient;
use sekisho_github::wire::job::AgentJobRequestMessage;
use sekisho_github::wire::results::StepConclusion;
use sekisho_github::wire::run_service::{AnnotationLevel, CompleteJob};
use uuid::Uuid;

use self::hook::Hooks;
use crate::checkout::PostCheckout;
use crate::clock;
use crate::console::Commands;
use crate::dirs::Dirs;
use crate::exec::KillGrace;
use crate::expression::{StepFunctions, judge};
use crate::javascript::PostScript;
use crate::log::{Feed, Log, Output};
use crate::matcher::Matchers;
use crate::plan::{self, Action, Observed, Place, Slot, Status, Verdict};
use crate::spec::StepSpec;
use crate::state::{RunnerFacts, Scope, State, StepView};
use crate::stop::{Interrupt, Stop};
use crate::timeline::{StepEnd, Timeline};
use crate::uploads::{Upload, Uploads};

/// What a job is run with.
pub(crate) struct JobInput {
    pub(crate) message: AgentJobRequestMessage,
    pub(crate) client: JobClient,
    pub(crate) root: PathBuf,
    pub(crate) work_folder: String,
    pub(crate) version: String,
    pub(crate) runner: RunnerFacts,
    pub(crate) environment: Vec<(OsString, OsString)>,
    pub(crate) output: Box<dyn Write + Send>,
    pub(crate) grace: KillGrace,
    pub(crate) stop: Stop,
}

/// A job under way.
pub(crate) struct Job {
    pub(crate) message: AgentJobRequestMessage,
    pub(crate) version: String,
    pub(crate) runner: RunnerFacts,
    pub(crate) state: State,
    pub(crate) log: Log,
    pub(crate) grace: KillGrace,
    pub(crate) stop: Stop,
    pub(crate) client: JobClient,
    timeline: Timeline,
    uploads: Uploads,
    scope: Scope,
    main: Vec<MainStep>,
    posts: Vec<PostStep>,
    setup_failed: bool,
    /// What actions have saved for their later stages, by [`Scope::key`].
    pub(crate) saved: BTreeMap<String, Vec<(String, String)>>,
    /// Of the whole job: a step's matchers hold for the steps after it.
    pub(crate) matchers: Matchers,
    hooks: Hooks,
}

struct MainStep {
    spec: StepSpec,
    record: usize,
    slot: Slot,
    /// Why the condition could not be evaluated.
    error: Option<String>,
}

/// A step that was registered by a main step, and runs at the end.
struct PostStep {
    name: String,
    work: PostWork,
    slot: Slot,
}

/// What a post step does.
#[derive(Clone, Debug)]
pub(crate) enum PostWork {
    /// Takes away what `actions/checkout` has left.
    Checkout(PostCheckout),
    /// Runs a step.
    Step(Box<StepSpec>),
    /// Runs an action's `post`.
    Script(Box<PostScript>),
}

/// Runs a job to its end.
///
/// # Errors
/// Only when it could not even begin: no log could be opened.
pub(crate) async fn run(input: JobInput) -> anyhow::Result<CompleteJob> {
    let mut job = Job::open(input)?;
    job.setup_failed = !job.set_up().await;
    let status = job.run_steps().await;
    Ok(Box::pin(job.complete(status)).await)
}

impl Job {
    fn open(input: JobInput) -> anyhow::Result<Self> {
        let message = input.message;
        let github = message.context_data.get("github").map(|data| data.0.clone());
        let repository = github.unwrap_or_default().get("repository").to_text();
        let dirs = Dirs::new(&input.root, &input.work_folder, &repository)?;
        dirs.create_spool()?;
        let (masker, mask_error) = setup::masker(&message);
        let endpoint = message.system_connection();
        let feed = endpoint.and_then(|endpoint| endpoint.data("FeedStreamUrl"));
        let feed = feed.and_then(|url| Feed::start(url, &input.client));
        let output = Output::start(input.output).context("starting the output's thread")?;
        let mut log = Log::new(masker, output, feed, &dirs.spool);
        if mask_error {
            log.mute();
        }
        let hooks = Hooks::from_environment(&input.environment);
        let state = State::new(&message, input.environment, input.runner.clone(), dirs);
        Ok(Self {
            version: input.version,
            runner: input.runner,
            state,
            log,
            grace: input.grace,
            stop: input.stop,
            timeline: Timeline::start(input.client.clone()),
            uploads: Uploads::start(input.client.clone()),
            client: input.client,
            scope: Scope::default(),
            main: Vec::new(),
            posts: Vec::new(),
            setup_failed: mask_error,
            saved: BTreeMap::new(),
            matchers: Matchers::default(),
            hooks,
            message,
        })
    }

    fn observe(&self) -> Observed {
        Observed {
            setup_failed: self.setup_failed,
            cancelled: self.stop.is_cancelled(),
            out_of_time: self.stop.is_out_of_time(),
            main: self.main.iter().map(|step| step.slot).collect(),
            post: self.posts.iter().map(|step| step.slot).collect(),
        }
    }

    /// The job's status as of now.
    pub(crate) fn status(&self) -> Status {
        self.observe().status()
    }

    async fn run_steps(&mut self) -> Status {
        loop {
            match plan::decide(&self.observe()) {
                Action::Judge(place) => self.judge(place),
                Action::Start(place) => self.start(place).await,
                Action::Skip(place) => self.end_unstarted(place, StepConclusion::Skipped).await,
                Action::Fail(place) => self.end_unstarted(place, StepConclusion::Failure).await,
                // `start` runs a step to its end, so none runs between two decisions.
                Action::Wait(place) => *self.slot(place) = Slot::Done(StepConclusion::Cancelled),
                Action::Finish(status) => return status,
            }
        }
    }

    fn slot(&mut self, place: Place) -> &mut Slot {
        match place {
            Place::Main(index) => &mut self.main[index].slot,
            Place::Post(index) => &mut self.posts[index].slot,
        }
    }

    fn judge(&mut self, place: Place) {
        let under = self.status();
        let verdict = match place {
            Place::Post(index) => match &self.posts[index].work {
                PostWork::Script(post) => self.judge_post(post),
                PostWork::Checkout(_) | PostWork::Step(_) => {
                    Ok(Verdict::Run { also_if_cancelled: true })
                }
            },
            Place::Main(index) => self.judge_main(index, under),
        };
        let verdict = match (verdict, place) {
            (Ok(verdict), _) => verdict,
            (Err(error), Place::Main(index)) => {
                self.main[index].error = Some(error);
                Verdict::Error
            }
            (Err(_), Place::Post(_)) => Verdict::Error,
        };
        *self.slot(place) = Slot::Judged { verdict, under };
    }

    fn judge_main(&self, index: usize, status: Status) -> Result<Verdict, String> {
        let spec = &self.main[index].spec;
        let view = StepView {
            scope: &self.scope,
            action: &spec.context_name,
            files: None,
            env: &[],
            status,
        };
        let contexts = self.state.contexts(&view);
        let functions = StepFunctions::of_job(status, &self.state.dirs().workspace);
        judge(&spec.condition, &contexts, &functions)
            .map_err(|error| format!("The `if` of the step cannot be evaluated. {error}"))
    }

    /// Records a step that does not run: skipped, or failed by its condition.
    async fn end_unstarted(&mut self, place: Place, conclusion: StepConclusion) {
        *self.slot(place) = Slot::Done(conclusion);
        let Place::Main(index) = place else { return };
        let main = &mut self.main[index];
        let record = main.record;
        step::record_result(&mut self.scope, &main.spec, &[], conclusion, conclusion);
        if let Some(error) = main.error.take() {
            self.begin_record(record).await;
            let mut commands = Commands::default();
            self.fail_step(&mut commands, &error);
            self.end_record(record, conclusion, commands).await;
            return;
        }
        let end =
            StepEnd { at: clock::now(), conclusion, log_lines: None, annotations: Vec::new() };
        self.timeline.end(record, end);
    }

    async fn start(&mut self, place: Place) {
        let Slot::Judged { verdict: Verdict::Run { also_if_cancelled }, .. } = *self.slot(place)
        else {
            return;
        };
        *self.slot(place) = Slot::Running { also_if_cancelled };
        let interrupt = Interrupt { stop: self.stop.clone(), also_if_cancelled, deadline: None };
        let mut commands = Commands::new(self.state.debug());
        let conclusion = match place {
            Place::Main(index) => {
                let spec = self.main[index].spec.clone();
                let record = self.main[index].record;
                self.begin_record(record).await;
                let mut scope = std::mem::take(&mut self.scope);
                let name = self.display_name(&spec, &scope);
                self.timeline.rename(record, &name);
                let outcome = self.execute(&spec, &mut scope, &interrupt, &mut commands).await;
                self.scope = scope;
                self.end_record(record, outcome.conclusion, commands).await;
                outcome.conclusion
            }
            Place::Post(index) => {
                let (name, work) = (self.posts[index].name.clone(), self.posts[index].work.clone());
                let kind = match &work {
                    PostWork::Checkout(_) | PostWork::Script(_) => "repository",
                    PostWork::Step(spec) => spec.kind(),
                };
                let record = self.timeline.add(Uuid::new_v4(), &name, kind);
                self.begin_record(record).await;
                let conclusion = match work {
                    PostWork::Checkout(work) => {
                        match self.post_checkout(&work, &mut commands, &interrupt).await {
                            true => StepConclusion::Success,
                            false => StepConclusion::Failure,
                        }
                    }
                    PostWork::Script(post) => {
                        self.post_script(&post, &mut commands, &interrupt).await
                    }
                    PostWork::Step(spec) => {
                        let mut scope = std::mem::take(&mut self.scope);
                        let outcome =
                            self.execute(&spec, &mut scope, &interrupt, &mut commands).await;
                        self.scope = scope;
                        outcome.conclusion
                    }
                };
                self.end_record(record, conclusion, commands).await;
                conclusion
            }
        };
        *self.slot(place) = Slot::Done(conclusion);
    }

    /// Registers a post step; it runs at the end, the last registered first.
    pub(crate) fn add_post(&mut self, name: String, work: PostWork) {
        self.posts.push(PostStep { name, work, slot: Slot::Pending });
    }

    /// Registers an action's `post`; what its `pre` has registered is brought up to date.
    pub(crate) fn add_post_script(&mut self, name: String, script: PostScript) {
        let same = |post: &&mut PostStep| matches!(&post.work, PostWork::Script(known) if known.key == script.key);
        match self.posts.iter_mut().find(same) {
            Some(post) => post.work = PostWork::Script(Box::new(script)),
            None => self.add_post(name, PostWork::Script(Box::new(script))),
        }
    }

    /// The step's log and clock begin.
    async fn begin_record(&mut self, record: usize) {
        self.timeline.begin(record, clock::now());
        if let Err(error) = self.log.begin_step(self.timeline.id(record)) {
            tracing::warn!(error = format!("{error:#}"), "a step has no log file");
        }
    }

    /// The step's log ends and goes to the service.
    async fn end_record(&mut self, record: usize, conclusion: StepConclusion, commands: Commands) {
        let log = match self.log.end_step().await {
            Ok(log) => log,
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "a step's log is not complete");
                None
            }
        };
        self.timeline.end(
            record,
            StepEnd {
                at: clock::now(),
                conclusion,
                log_lines: log.as_ref().map(|log| log.lines),
                annotations: commands.annotations.into_vec(Timeline::number(record)),
            },
        );
        if let Some(log) = log {
            self.uploads.add(Upload::Log(log)).await;
        }
        if !commands.summary.is_empty() {
            let markdown = self.log.mask(&commands.summary).into_bytes();
            let step = self.timeline.id(record);
            self.uploads.add(Upload::Summary { step, markdown }).await;
        }
    }

    /// A line and an annotation that say why a step fails.
    pub(crate) fn fail_step(&mut self, commands: &mut Commands, message: &str) {
        commands.annotations.add(self.log.masker(), AnnotationLevel::Failure, message);
        self.log.error(message);
    }

    /// A line and an annotation about something that is not as it should be.
    pub(crate) fn warn_step(&mut self, commands: &mut Commands, message: &str) {
        commands.annotations.add(self.log.masker(), AnnotationLevel::Warning, message);
        self.log.warning(message);
    }
}
