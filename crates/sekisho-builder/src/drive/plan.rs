//! What is to be done: instructions of a stage become steps once its base is known, and layers a stage.

use std::sync::Arc;

use anyhow::Context as _;
use sekisho_dockerfile::graph;

use super::{At, Drive, Outcome, Planned, Work};
use crate::BuildError;
use crate::engine::Progressed;
use crate::image;
use crate::schedule::StepId;

impl Drive<'_> {
    /// Takes what a thread brought.
    pub(super) fn take(&mut self, work: &Work, outcome: Outcome) -> Result<(), BuildError> {
        match (work, outcome) {
            (Work::From(at), Outcome::Base(base)) => self.plan(*at, *base),
            (Work::Step(at, nth), Outcome::Layer(layer)) => {
                let slot = self.opened(*at)?.layers.get_mut(*nth);
                *slot.context("a step was not planned")? = Some(*layer);
                Ok(())
            }
            (_, Outcome::Nothing) => Ok(()),
            _ => Err(anyhow::anyhow!("a step brought what it was not asked for").into()),
        }
    }

    /// Decides about all instructions of a stage whose base is there.
    fn plan(&mut self, at: At, mut base: Progressed) -> Result<(), BuildError> {
        let (engine, stage) = (self.engine, self.stage(at)?);
        let triggers = std::mem::take(&mut base.state.config.on_build);
        let mut instructions = Vec::new();
        for (file, instruction, froms) in self.triggers(at, &triggers)? {
            self.numbered += 1;
            instructions.push((file, instruction, froms, self.numbered));
        }
        let first = self.opened(at)?.number + 1;
        let node = self.node(at)?;
        for (nth, instruction) in stage.instructions.iter().enumerate() {
            let froms = node.froms.iter().filter(|from| from.instruction == nth);
            let froms: Vec<_> = froms.map(|from| (from.origin.clone(), from.span)).collect();
            let file = Arc::clone(&engine.file);
            instructions.push((file, instruction.clone(), froms, first + nth));
        }
        let mut state = base.state.clone();
        let mut steps: Vec<StepId> = Vec::new();
        let mut planned = Vec::new();
        for (nth, (file, instruction, froms, number)) in instructions.into_iter().enumerate() {
            let decided = crate::decide::decide(&file, &mut state, &instruction)?;
            let state = state.clone();
            let one = Planned { file, instruction, decided, state, froms, number };
            if one.makes_layer() {
                let mut needs: Vec<StepId> = Vec::new();
                if !one.stands_alone() {
                    needs.extend(&steps);
                }
                for (origin, _) in &one.froms {
                    if let graph::Origin::Stage(from) = origin {
                        needs.push(self.opened(At { stage: *from, ..at })?.end);
                    }
                }
                let rank = self.rank(at, nth + 1);
                if one.can_look() && !needs.is_empty() {
                    needs.push(self.schedule.add(Work::Look(at, nth), rank, &[]));
                }
                steps.push(self.schedule.add(Work::Step(at, nth), rank, &needs));
            } else {
                let engine = self.for_step(at, &one.file, number)?;
                engine.metadata(stage, &one, self.rank(at, nth + 1))?;
            }
            planned.push(Arc::new(one));
        }
        let open = self.opened(at)?;
        open.layers = planned.iter().map(|one| (!one.makes_layer()).then_some(None)).collect();
        (open.base, open.planned) = (Some(base), planned);
        let end = open.end;
        self.schedule.keep(end, Work::End(at), &steps);
        Ok(())
    }

    /// Plans a stage that only an ONBUILD names.
    pub(crate) fn need(&mut self, by: At, stage: usize) -> Result<(), BuildError> {
        let (file, target) = (&self.engine.file, self.target(by)?);
        let lookup = |name: &str| target.globals.get(name).cloned();
        let contexts = self.engine.options.context_names();
        let order = graph::order(file, Some(&stage.to_string()), &lookup, &contexts)?.order;
        if order.contains(&by.stage) {
            let message =
                format!("an ONBUILD of the base needs stage {stage}, which needs this one");
            return Err(file.diagnostic(self.stage(by)?.base.span, message).into());
        }
        for stage in order {
            let at = At { stage, ..by };
            if !self.stages.contains_key(&at) {
                self.open(at)?;
            }
        }
        Ok(())
    }

    /// Puts the layers of a stage together.
    pub(super) fn end_stage(&mut self, work: &Work) -> Result<(), BuildError> {
        let Work::End(at) = work else { return Ok(()) };
        let created = self.engine.options.created;
        let open = self.opened(*at)?;
        let mut now = open.base.take().context("a base is missing")?;
        let layers = std::mem::take(&mut open.layers);
        for (planned, layer) in open.planned.iter().zip(layers) {
            let layer = layer.context("a step was not carried out")?;
            let told = planned.decided.created_by.clone();
            if let Some(told) = told {
                now.history.push(image::history(created, told, layer.is_some()));
            }
            now.add(layer, planned.maker());
        }
        if let Some(last) = open.planned.last() {
            now.state = last.state.clone();
        }
        open.finished = Some(now);
        Ok(())
    }
}
