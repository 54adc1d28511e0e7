//! `train-episodes`: H inner steps of one shard of one round.
//!
//! **Invariant:** randomness is keyed by (model, settings, training set, seed, shard) and the number of the step since
//! the start of the training, not by the round: one round of 2 H steps and two rounds of H steps of a lone shard give
//! the same parameters, bit for bit. All shards of the first round start from the same parameters.

use std::ops::ControlFlow;

use anyhow::Context;
use metad2a_database::Checkpoint;
use metad2a_model::Adam;
use metad2a_pipeline::ids::content_id;
use metad2a_pipeline::tasks::{Blob, Summary, TrainEpisodes};
use metad2a_randomness::Key;
use serde::{Deserialize, Serialize};

use super::Engine;
use super::checkpoints::{BadCheckpoint, belongs};
use super::error::BadInput;
use super::inputs::blob_of;
use super::models::Learner;
use super::slice::Slice;
use crate::protocol::{Finished, Job, Outcome, Paused};

/// Raised when the form changes; another version's checkpoints are passed over.
const VERSION: u32 = 1;

/// A shard between two steps.
struct Shard {
    learner: Learner,
    adam: Adam,
    done: u32,
    /// Of all losses so far, in the order of the steps.
    loss_sum: f64,
}

/// What a checkpoint says beside the tensors of model and optimiser.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    version: u32,
    task: String,
    done: u32,
    loss_sum: f64,
}

impl Engine {
    pub(super) fn train_episodes(
        &mut self,
        job: &Job,
        task: &TrainEpisodes,
        slice: &mut Slice<'_>,
    ) -> anyhow::Result<Outcome> {
        let data = self.training_data(&task.training_set, task.settings.label)?;
        let total = u64::from(task.steps);
        slice.progress(0, total);
        let mut files = Vec::new();
        let (first, start) = if let Some(base) = &task.base {
            let checkpoint = self.blob(base)?;
            (Learner::load(task.model, &task.settings, &checkpoint, self.device)?, base.clone())
        } else {
            let learner = Learner::new(task.model, &task.settings, &first_values(task), self.device)?;
            // Equal for every shard, so the file is too: the base of the first outer step. Stored again in every slice,
            // as an old file that no marker names yet could be taken for an orphan.
            let file = self.store_checkpoint(learner.to_safetensors()?)?;
            let start = blob_of(&file);
            files.push(file);
            (learner, start)
        };
        let resumed = self.resumed(job, |checkpoint| self.load_shard(checkpoint, task))?;
        let mut shard = if let Some(shard) = resumed {
            shard
        } else {
            let state = task.optimiser.as_ref().map(|blob: &Blob| self.blob(blob)).transpose()?;
            let adam = first.optimiser(&task.settings, state.as_deref())?;
            Shard { learner: first, adam, done: 0, loss_sum: 0.0 }
        };
        let Shard { learner, adam, done, loss_sum } = &mut shard;
        let first_step = u64::from(task.round) * total + u64::from(*done);
        let steps = total - u64::from(*done);
        let mut each_step = |loss: f64| {
            *done += 1;
            *loss_sum += loss;
            slice.progress((*done).into(), total);
            let is_over = *done < task.steps && slice.is_over();
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        learner.train(
            adam,
            &data.train,
            &task.settings,
            &episodes(task),
            first_step,
            steps,
            &mut each_step,
        )?;
        if shard.done < task.steps {
            return self.save_shard(job, &shard, total).map(Outcome::Paused);
        }
        let loss = shard.loss_sum / f64::from(shard.done);
        if !loss.is_finite() {
            return Err(BadInput::Diverged { what: "the mean loss" }.into());
        }
        let parameters = self.store_checkpoint(shard.learner.to_safetensors()?)?;
        let optimiser = self.store_checkpoint(shard.adam.to_safetensors()?)?;
        let summary =
            Summary::Shard { start, parameters: blob_of(&parameters), optimiser: blob_of(&optimiser), loss };
        files.extend([parameters, optimiser]);
        Ok(Outcome::Finished(Finished { files, units: Vec::new(), summary }))
    }

    fn load_shard(&self, checkpoint: &Checkpoint, task: &TrainEpisodes) -> anyhow::Result<Shard> {
        let (state, tensors): (State, _) = self.load(checkpoint)?;
        let State { version, task: id, done, loss_sum } = state;
        belongs(version == VERSION, || format!("it has form {version}, this program knows {VERSION}"))?;
        belongs(id == checkpoint.id, || format!("it is of task `{id}`"))?;
        belongs((1..task.steps).contains(&done), || {
            format!("a shard of {} steps has no {done}", task.steps)
        })?;
        let [parameters, optimiser] = &tensors[..] else {
            let rule =
                format!("it has {} files of tensors where a model and its optimiser have two", tensors.len());
            return Err(BadCheckpoint::Foreign(rule).into());
        };
        let learner = Learner::load(task.model, &task.settings, parameters, self.device)?;
        let adam = learner.optimiser(&task.settings, Some(optimiser))?;
        Ok(Shard { learner, adam, done, loss_sum })
    }

    fn save_shard(&self, job: &Job, shard: &Shard, total: u64) -> anyhow::Result<Paused> {
        let Shard { learner, adam, done, loss_sum } = shard;
        let state = State { version: VERSION, task: job.id.clone(), done: *done, loss_sum: *loss_sum };
        let optimiser = adam.to_safetensors().context("cannot write the optimiser's state")?;
        let files = self.save(job, &state, vec![learner.to_safetensors()?.into(), optimiser.into()])?;
        Ok(Paused { files, done: (*done).into(), total })
    }
}

fn first_values(task: &TrainEpisodes) -> Key {
    let basis = (task.model, &task.settings, &task.training_set, task.seed);
    Key::new(&content_id("training", 1, &basis), "first values")
}

fn episodes(task: &TrainEpisodes) -> Key {
    let basis = (task.model, &task.settings, &task.training_set, task.seed, task.shard);
    Key::new(&content_id("training-shard", 1, &basis), "episodes")
}
