//! When a round closes, and with which shards.

use super::{Context, Track};
use crate::planner::training::ShardResult;
use crate::planner::{Age, Error, Merge, Outcome, Step};
use crate::specification::Training;
use crate::tasks::{Model, Summary};

impl Track {
    /// Opens the missing shards of the first round that is not closed, or asks for its outer step.
    pub(super) fn plan_round(
        &mut self,
        context: &Context<'_>,
        training: &Training,
        step: &mut Step,
    ) -> Result<(), Error> {
        let (mut done, mut missing, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (shard, (id, _)) in self.round.iter().enumerate() {
            let shard = shard as u32;
            match context.existing.summary(id) {
                Some(Summary::Shard { start, parameters, optimiser, loss }) => done.push(ShardResult {
                    shard,
                    task: id.clone(),
                    start: start.clone(),
                    parameters: parameters.clone(),
                    optimiser: optimiser.clone(),
                    loss: *loss,
                }),
                None if !context.existing.is_done(id) => match context.existing.failure(id) {
                    Some(failure) => {
                        let told = shard_problem(self.model, self.closed, shard, &failure.told(id));
                        failed.push((failure.is_problem(), told));
                    }
                    None => missing.push((shard, context.flight.age(id))),
                },
                _ => return Err(Error::Summary { id: id.clone(), expected: "train-episodes" }),
            }
        }
        let quorum = training.quorum as usize;
        let past = |age: Option<Age>| age.is_some_and(|age| age.first >= training.shard_deadline);
        let all = done.len() == training.shards as usize;
        if all || (done.len() >= quorum && missing.iter().all(|(_, age)| past(*age))) {
            let merge = self.merge(training, done);
            step.merge.push(merge);
        } else if done.len() + missing.len() < quorum {
            step.outcome = Outcome::Blocked(failed[0].1.clone());
        } else {
            let overdue = |age: Option<Age>| age.is_some_and(|age| age.last >= training.shard_deadline);
            let late = missing.iter().filter(|(_, age)| overdue(*age));
            step.overdue.extend(late.map(|(shard, _)| self.round[*shard as usize].0.clone()));
            self.open.splice(0..0, missing.into_iter().map(|(shard, _)| shard));
        }
        self.problems.extend(failed.into_iter().filter(|(is_problem, _)| *is_problem).map(|(_, told)| told));
        Ok(())
    }

    fn merge(&self, training: &Training, shards: Vec<ShardResult>) -> Merge {
        let before = self.last.as_ref();
        let mut optimisers = before.map_or_else(Vec::new, |closed| closed.optimisers.clone());
        optimisers.resize(training.shards as usize, None);
        for shard in &shards {
            optimisers[shard.shard as usize] = Some(shard.optimiser.clone());
        }
        let all = shards.len() == training.shards as usize;
        Merge {
            id: self.round_decision(),
            model: self.model,
            round: self.closed,
            accepted: if all { Vec::new() } else { shards.iter().map(|shard| shard.shard).collect() },
            shards,
            optimisers,
            momentum: before.and_then(|closed| closed.momentum.clone()),
            outer: training.outer,
        }
    }
}

pub(super) fn shard_problem(model: Model, round: u32, shard: u32, told: &str) -> String {
    format!("shard {shard} of round {round} of the {} {told}", model.name())
}
