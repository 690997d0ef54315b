//! What a thread is given to do.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use sekisho_dockerfile::{Instruction, graph};

use super::{At, Drive, Job, Outcome, Rest, Work};
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
            Work::From(at) => self.from(*at)?,
            Work::Look(at, nth) => {
                let open = self.stages.get(at).context("a stage was not planned")?;
                let planned = Arc::clone(open.planned.get(*nth).context("a step was not planned")?);
                let engine = self.for_step(*at, &planned.file, planned.number)?;
                Box::new(move || {
                    // As above.
                    let _ = engine.look(&planned);
                    Ok((Outcome::Nothing, None))
                })
            }
            Work::Step(at, nth) => self.step(*at, *nth)?,
        }))
    }

    fn from(&mut self, at: At) -> Result<Job<'e>, BuildError> {
        let stage = self.stage(at)?;
        let node = self.node(at)?.clone();
        let base = match node.base {
            graph::Origin::Stage(stage) => Some(self.finished(At { stage, ..at })?.clone()),
            _ => None,
        };
        let rank = self.rank(at, 0);
        let number = self.opened(at)?.number;
        let engine = self.for_step(at, &self.engine.file, number)?;
        let target = self.target(at)?;
        let (globals, platform) = (target.globals.clone(), target.platform.clone());
        let order = target.graph.order.iter();
        let runs = order.copied().any(|stage| self.wants(At { stage, ..at }, is_run));
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

    fn step(&mut self, at: At, nth: usize) -> Result<Job<'e>, BuildError> {
        let stage = self.stage(at)?;
        let rank = self.rank(at, nth + 1);
        let open = self.stages.get(&at).context("a stage was not planned")?;
        let planned = Arc::clone(open.planned.get(nth).context("a step was not planned")?);
        let base = open.base.as_ref().context("a base is missing")?;
        let mut now = Progressed {
            state: planned.state.clone(),
            chain: base.chain.clone(),
            copied: base.copied.clone(),
            ages: base.ages,
            history: Vec::new(),
            platform: base.platform.clone(),
        };
        for (below, layer) in open.planned.iter().zip(&open.layers).take(nth) {
            now.add(layer.clone().flatten(), below.maker());
        }
        let mut stages = BTreeMap::new();
        for (origin, _) in &planned.froms {
            if let graph::Origin::Stage(from) = origin {
                let chain = self.finished(At { stage: *from, ..at })?.chain.clone();
                stages.insert(*from, chain);
            }
        }
        let engine = self.for_step(at, &planned.file, planned.number)?;
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

    fn finished(&self, at: At) -> Result<&Progressed, BuildError> {
        let open = self.stages.get(&at).context("a stage was not planned")?;
        Ok(open.finished.as_ref().context("a stage was not built")?)
    }
}
