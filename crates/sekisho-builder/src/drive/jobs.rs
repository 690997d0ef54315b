//! What a thread is given to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use sekisho_dockerfile::{Instruction, graph};

use super::{Drive, Job, Outcome, Rest, Work};
use crate::BuildError;
use crate::engine::Progressed;

fn is_run(instruction: &Instruction) -> bool {
    matches!(instruction, Instruction::Run(_))
}

impl<'e> Drive<'e> {
    /// What a thread has to do; `None` for the end of a stage, which needs none.
    pub(super) fn prepare(&mut self, work: &Work) -> Result<Option<Job<'e>>, BuildError> {
        let engine = self.engine;
        Ok(Some(match work {
            Work::End(_) => return Ok(None),
            Work::Context => Box::new(move || {
                // Whoever needs it tells what is wrong with it.
                let _ = engine.main_context();
                Ok((Outcome::Nothing, None))
            }),
            Work::From(index) => self.from(*index)?,
            Work::Look(index, at) => {
                let open = self.stages.get(index).context("a stage was not planned")?;
                let planned = Arc::clone(open.planned.get(*at).context("a step was not planned")?);
                let engine = self.for_step(*index, &planned.file, planned.number)?;
                Box::new(move || {
                    // As above.
                    let _ = engine.look(&planned);
                    Ok((Outcome::Nothing, None))
                })
            }
            Work::Step(index, at) => self.step(*index, *at)?,
        }))
    }

    fn from(&mut self, index: usize) -> Result<Job<'e>, BuildError> {
        let engine = self.engine;
        let stage = self.stage(index)?;
        let node = self.graph.nodes.get(index).context("there is no such stage")?.clone();
        let base = match node.base {
            graph::Origin::Stage(base) => Some(self.finished(base)?.clone()),
            _ => None,
        };
        let rank = self.rank(index, 0);
        let (globals, platform) = (self.globals.clone(), self.platform.clone());
        let number = self.opened(index)?.number;
        let engine = self.for_step(index, &engine.file, number)?;
        let order = self.graph.order.iter();
        let runs = order.copied().any(|index| self.wants(index, is_run));
        Ok(Box::new(move || {
            let now = engine.from(stage, &node, base, &globals, &platform, rank)?;
            let new = if runs { engine.expect(&now.chain) } else { Vec::new() };
            let rest = (!new.is_empty()).then(|| {
                Box::new(move || {
                    engine.fetch_ahead(&new);
                    Ok(())
                }) as Rest<'_>
            });
            Ok((Outcome::Base(Box::new(now)), rest))
        }))
    }

    fn step(&mut self, index: usize, at: usize) -> Result<Job<'e>, BuildError> {
        let stage = self.stage(index)?;
        let rank = self.rank(index, at + 1);
        let open = self.stages.get(&index).context("a stage was not planned")?;
        let planned = Arc::clone(open.planned.get(at).context("a step was not planned")?);
        let base = open.base.as_ref().context("a base is missing")?;
        let mut now = Progressed {
            state: planned.state.clone(),
            chain: base.chain.clone(),
            copied: base.copied.clone(),
            ages: base.ages,
            history: Vec::new(),
            platform: base.platform.clone(),
        };
        for (below, layer) in open.planned.iter().zip(&open.layers).take(at) {
            now.add(layer.clone().flatten(), below.maker());
        }
        let mut stages = BTreeMap::new();
        for (origin, _) in &planned.froms {
            if let graph::Origin::Stage(from) = origin {
                stages.insert(*from, self.finished(*from)?.chain.clone());
            }
        }
        let engine = self.for_step(index, &planned.file, planned.number)?;
        Ok(Box::new(move || {
            let going = engine.step(stage, &planned, &stages, &now, rank)?;
            let outcome = Outcome::Layer(Box::new(going.1.layer.clone()));
            let waits = going.1.rest.is_some();
            let end = move || engine.end_step(stage, &planned, going, rank);
            if waits {
                return Ok((outcome, Some(Box::new(end) as Rest<'_>)));
            }
            end()?;
            Ok((outcome, None))
        }))
    }

    fn finished(&self, index: usize) -> Result<&Progressed, BuildError> {
        let open = self.stages.get(&index).context("a stage was not planned")?;
        Ok(open.finished.as_ref().context("a stage was not built")?)
    }
}
