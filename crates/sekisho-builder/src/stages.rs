//! One stage after the other: its base, what the base left for its children, its instructions.

use std::collections::BTreeMap;

use anyhow::Context as _;
use sekisho_dockerfile::graph::{self, Origin};
use sekisho_dockerfile::{Instruction, MountKind, Span, Spanned, Stage, parse};

use crate::BuildError;
use crate::decide::{self, Action};
use crate::engine::{Done, Engine, Progressed};
use crate::image::{self, Layer};

/// The stages, and what their names mean.
pub(crate) struct Plan {
    pub(crate) stages: Vec<Stage>,
    pub(crate) nodes: Vec<graph::Node>,
    pub(crate) globals: BTreeMap<String, String>,
}

/// Stages that are done, by index.
type Finished = BTreeMap<usize, Progressed>;

impl Engine {
    /// Builds one stage, if it is not there yet.
    pub(crate) fn stage(
        &mut self,
        plan: &Plan,
        index: usize,
        finished: &mut Finished,
    ) -> Result<(), BuildError> {
        if finished.contains_key(&index) {
            return Ok(());
        }
        let stage = plan.stages.get(index).context("there is no such stage")?;
        let node = plan.nodes.get(index).context("there is no such stage")?;
        let names = [stage.name.clone(), Some(index.to_string())];
        let filter = &self.options.no_cache_filter;
        let fresh = names
            .iter()
            .flatten()
            .any(|name| filter.iter().any(|one| one.eq_ignore_ascii_case(name)));
        self.fresh = fresh;
        let mut now = self.from(stage, node, finished, &plan.globals)?;
        let triggers = std::mem::take(&mut now.state.config.on_build);
        if !triggers.is_empty() {
            self.triggers(plan, stage, &triggers, &mut now, finished)?;
            // Another stage may have been built for them.
            self.fresh = fresh;
        }
        for (position, instruction) in stage.instructions.iter().enumerate() {
            let froms = node.froms.iter().filter(|from| from.instruction == position);
            let froms: Vec<_> = froms.map(|from| (from.origin.clone(), from.span)).collect();
            self.step(stage, instruction, &froms, &mut now, finished)?;
        }
        finished.insert(index, now);
        Ok(())
    }

    /// Carries out the ONBUILDs of the base, which are instructions of this build in another file.
    fn triggers(
        &mut self,
        plan: &Plan,
        stage: &Stage,
        triggers: &[String],
        now: &mut Progressed,
        finished: &mut Finished,
    ) -> Result<(), BuildError> {
        let name = format!("ONBUILD of {}", stage.base.raw);
        let text = format!("FROM scratch\n{}\n", triggers.join("\n"));
        let file = parse(&name, &text).map_err(BuildError::Dockerfile)?;
        let instructions = file.stages.first().context("the ONBUILDs are no stage")?;
        let instructions = instructions.instructions.clone();
        if instructions.len() != triggers.len() || file.stages.len() != 1 {
            let message = "the base's ONBUILDs are not one instruction each";
            return Err(self.file.diagnostic(stage.base.span, message).into());
        }
        let mut origins = Vec::new();
        for instruction in &instructions {
            let mut froms = Vec::new();
            for (from, span) in named(&instruction.node) {
                let origin = graph::from_outside(&self.file, &from, stage.base.span)?;
                if let Origin::Stage(index) = origin {
                    self.needed(plan, stage, index, finished)?;
                }
                froms.push((origin, span));
            }
            origins.push(froms);
        }
        let own = std::mem::replace(&mut self.file, file);
        let mut carried = Ok(());
        for (instruction, froms) in instructions.iter().zip(&origins) {
            carried = self.step(stage, instruction, froms, now, finished);
            if carried.is_err() {
                break;
            }
        }
        self.file = own;
        carried
    }

    /// Builds a stage that only an ONBUILD names.
    fn needed(
        &mut self,
        plan: &Plan,
        by: &Stage,
        index: usize,
        finished: &mut Finished,
    ) -> Result<(), BuildError> {
        let globals = |name: &str| plan.globals.get(name).cloned();
        let order = graph::order(&self.file, Some(&index.to_string()), &globals)?.order;
        if order.contains(&by.index) {
            let message =
                format!("an ONBUILD of the base needs stage {index}, which needs this one");
            return Err(self.file.diagnostic(by.base.span, message).into());
        }
        for index in order {
            self.stage(plan, index, finished)?;
        }
        Ok(())
    }

    fn step(
        &mut self,
        stage: &Stage,
        instruction: &Spanned<Instruction>,
        froms: &[(Origin, Span)],
        now: &mut Progressed,
        finished: &BTreeMap<usize, Progressed>,
    ) -> Result<(), BuildError> {
        self.check()?;
        let line = instruction.span.line;
        let begun = self.begin(stage, &instruction.text, line);
        let decided = decide::decide(&self.file, &mut now.state, instruction)?;
        let done = match &decided.action {
            Action::Metadata => Done { layer: None, cached: true },
            Action::Run(step) => {
                let mut froms = froms.iter();
                let mut origins = Vec::new();
                for mount in &step.mounts {
                    let takes = matches!(
                        &mount.kind,
                        MountKind::Bind { from: Some(_), .. }
                            | MountKind::Cache { from: Some(_), .. }
                    );
                    let from = if takes { froms.next() } else { None };
                    let chain = from.map(|from| self.chain(from, now, finished));
                    origins.push(chain.transpose()?);
                }
                self.run_step(step, &origins, instruction.span, now)?
            }
            Action::Workdir(path) => self.workdir_step(path, instruction.span, now)?,
            Action::Copy(step) => {
                let from = froms.first().map(|from| self.chain(from, now, finished)).transpose()?;
                self.copy_step(step, instruction, from.as_deref(), now)?
            }
        };
        let history =
            image::history(self.options.created, decided.created_by, done.layer.is_some());
        now.history.push(history);
        now.chain.extend(done.layer.clone());
        self.end(begun, &instruction.text, line, &done);
        Ok(())
    }

    /// The layers that a `--from` means.
    fn chain(
        &mut self,
        (origin, span): &(Origin, Span),
        now: &Progressed,
        finished: &BTreeMap<usize, Progressed>,
    ) -> Result<Vec<Layer>, BuildError> {
        Ok(match origin {
            Origin::Scratch => Vec::new(),
            Origin::Stage(index) => {
                finished.get(index).context("a stage was not built")?.chain.clone()
            }
            Origin::Image(text) => self.image(text, *span, &now.platform)?.1,
        })
    }
}

/// The `--from`s of an instruction, each with where it stands.
fn named(instruction: &Instruction) -> Vec<(String, Span)> {
    match instruction {
        Instruction::Copy(copy) => {
            copy.from.iter().map(|from| (from.raw.clone(), from.span)).collect()
        }
        Instruction::Run(run) => run
            .mounts
            .iter()
            .filter_map(|mount| match &mount.kind {
                MountKind::Bind { from: Some(from), .. }
                | MountKind::Cache { from: Some(from), .. } => Some((from.clone(), mount.span)),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    }
}
