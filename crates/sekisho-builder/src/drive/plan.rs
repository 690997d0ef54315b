//! What is to be done: instructions of a stage become steps once its base is known, and layers a stage.

use std::sync::Arc;

use anyhow::Context as _;
use sekisho_dockerfile::graph;

use super::{Drive, Outcome, Planned, Work};
use crate::BuildError;
use crate::engine::Progressed;
use crate::image;
use crate::schedule::StepId;

impl Drive<'_> {
    /// Takes what a thread brought.
    pub(super) fn take(&mut self, work: &Work, outcome: Outcome) -> Result<(), BuildError> {
        match (work, outcome) {
            (Work::From(index), Outcome::Base(base)) => self.plan(*index, *base),
            (Work::Step(index, at), Outcome::Layer(layer)) => {
                let slot = self.opened(*index)?.layers.get_mut(*at);
                *slot.context("a step was not planned")? = Some(*layer);
                Ok(())
            }
            (_, Outcome::Nothing) => Ok(()),
            _ => Err(anyhow::anyhow!("a step brought what it was not asked for").into()),
        }
    }

    /// Decides about all instructions of a stage whose base is there.
    fn plan(&mut self, index: usize, mut base: Progressed) -> Result<(), BuildError> {
        let (engine, stage) = (self.engine, self.stage(index)?);
        let triggers = std::mem::take(&mut base.state.config.on_build);
        let mut instructions = Vec::new();
        for (file, instruction, froms) in self.triggers(index, &triggers)? {
            self.numbered += 1;
            instructions.push((file, instruction, froms, self.numbered));
        }
        let first = self.opened(index)?.number + 1;
        let node = self.graph.nodes.get(index).context("there is no such stage")?;
        for (at, instruction) in stage.instructions.iter().enumerate() {
            let froms = node.froms.iter().filter(|from| from.instruction == at);
            let froms: Vec<_> = froms.map(|from| (from.origin.clone(), from.span)).collect();
            let file = Arc::clone(&engine.file);
            instructions.push((file, instruction.clone(), froms, first + at));
        }
        let mut state = base.state.clone();
        let mut steps: Vec<StepId> = Vec::new();
        let mut planned = Vec::new();
        for (at, (file, instruction, froms, number)) in instructions.into_iter().enumerate() {
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
                        needs.push(self.opened(*from)?.end);
                    }
                }
                let rank = self.rank(index, at + 1);
                if one.can_look() && !needs.is_empty() {
                    needs.push(self.schedule.add(Work::Look(index, at), rank, &[]));
                }
                steps.push(self.schedule.add(Work::Step(index, at), rank, &needs));
            } else {
                let engine = self.for_step(index, &one.file, number)?;
                engine.metadata(stage, &one, self.rank(index, at + 1))?;
            }
            planned.push(Arc::new(one));
        }
        let open = self.opened(index)?;
        open.layers = planned.iter().map(|one| (!one.makes_layer()).then_some(None)).collect();
        (open.base, open.planned) = (Some(base), planned);
        let end = open.end;
        self.schedule.keep(end, Work::End(index), &steps);
        Ok(())
    }

    /// Plans a stage that only an ONBUILD names.
    pub(crate) fn need(&mut self, by: usize, index: usize) -> Result<(), BuildError> {
        let (file, lookup) = (&self.engine.file, |name: &str| self.globals.get(name).cloned());
        let contexts = self.engine.options.context_names();
        let order = graph::order(file, Some(&index.to_string()), &lookup, &contexts)?.order;
        if order.contains(&by) {
            let message =
                format!("an ONBUILD of the base needs stage {index}, which needs this one");
            return Err(file.diagnostic(self.stage(by)?.base.span, message).into());
        }
        for index in order {
            if !self.stages.contains_key(&index) {
                self.open(index);
            }
        }
        Ok(())
    }

    /// Puts the layers of a stage together.
    pub(super) fn end_stage(&mut self, work: &Work) -> Result<(), BuildError> {
        let Work::End(index) = work else { return Ok(()) };
        let created = self.engine.options.created;
        let open = self.opened(*index)?;
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
