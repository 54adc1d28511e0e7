//! `train-episodes`: H inner steps of one shard of one round.
//!
//! **Invariant:** randomness is keyed by (model, settings, training set, seed, shard) and the number of the step since
//! the start of the training, not by the round: one round of 2 H steps and two rounds of H steps of a lone shard give
//! the same parameters, bit for bit. All shards of the first round start from the same parameters.

use metad2a_pipeline::ids::content_id;
use metad2a_pipeline::tasks::{Blob, Summary, TrainEpisodes};
use metad2a_randomness::Key;

use super::error::BadInput;
use super::inputs::blob_of;
use super::models::Learner;
use super::{Engine, Progress};
use crate::protocol::Finished;

impl Engine {
    pub(super) fn train_episodes(
        &mut self,
        task: &TrainEpisodes,
        progress: &mut Progress<'_>,
    ) -> anyhow::Result<Finished> {
        let data = self.training_data(&task.training_set, task.settings.label)?;
        progress(0, task.steps.into());
        let mut files = Vec::new();
        let (mut learner, start) = if let Some(base) = &task.base {
            let checkpoint = self.blob(base)?;
            (Learner::load(task.model, &task.settings, &checkpoint, self.device)?, base.clone())
        } else {
            let learner = Learner::new(task.model, &task.settings, &first_values(task), self.device)?;
            // Equal for every shard, so the file is too: the base of the first outer step.
            let file = self.store_checkpoint(learner.to_safetensors()?)?;
            let start = blob_of(&file);
            files.push(file);
            (learner, start)
        };
        let state = task.optimiser.as_ref().map(|blob: &Blob| self.blob(blob)).transpose()?;
        let mut adam = learner.optimiser(&task.settings, state.as_deref())?;
        let steps = u64::from(task.steps);
        let metrics = learner.train(
            &mut adam,
            &data.train,
            &task.settings,
            &episodes(task),
            u64::from(task.round) * steps,
            steps,
            progress,
        )?;
        if !metrics.mean_loss.is_finite() {
            return Err(BadInput::Diverged { what: "the mean loss" }.into());
        }
        let parameters = self.store_checkpoint(learner.to_safetensors()?)?;
        let optimiser = self.store_checkpoint(adam.to_safetensors()?)?;
        let summary = Summary::Shard {
            start,
            parameters: blob_of(&parameters),
            optimiser: blob_of(&optimiser),
            loss: metrics.mean_loss,
        };
        files.extend([parameters, optimiser]);
        Ok(Finished { files, units: Vec::new(), summary })
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
