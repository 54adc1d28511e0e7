//! `evaluate`: draws a dataset once, then trains every unit of the bundle on it.
//!
//! **Invariant:** a unit's numbers depend on the unit alone: its randomness is keyed by its id, never by the bundle's.
//! Where the recipe halves the bundle, its companions decide how many epochs are trained, see `race.rs`.

use std::collections::HashMap;

use anyhow::Context;
use metad2a_database::tables::{DIVERGED, FAILED, STOPPED};
use metad2a_images::{DatasetDraw, DrawnPicture, SplitFractions, data_hash, draw};
use metad2a_networks::{Observer, Pictures, PreparedData, Run, Training, TrainingData};
use metad2a_pipeline::envelope::Envelope;
use metad2a_pipeline::halving::{Halving, Signal};
use metad2a_pipeline::tasks::{Dataset, Evaluate, Fractions, Look, Precision, Recipe, Summary};

use super::Engine;
use super::bundle::{Bundle, UnitRows};
use super::error::BadInput;
use super::look::seen;
use super::race::Race;
use super::slice::Slice;
use crate::protocol::{Finished, Job, Outcome};

/// Points on a curve of validation figures: validating after every epoch may cost as much as the training.
const VALIDATIONS: u32 = 10;

/// Lets a training run until its end, a pause or an error.
pub(super) type LetRun<'f> =
    dyn for<'a> FnMut(Training<'a>, &mut dyn Observer) -> metad2a_networks::Result<Run<'a>> + 'f;

/// How many pictures at once fit into this process's device when figures are taken, by recipe and dataset; only where
/// it is less than usual.
pub(super) type EvaluationBatches = HashMap<(String, String), i64>;

/// The last dataset at the last picture size, on the device.
pub(super) struct PreparedDataset {
    pub(super) dataset: String,
    image_size: u32,
    pub(super) data: PreparedData,
    pub(super) data_hash: String,
    pub(super) train_pictures: u64,
    valid_pictures: u64,
    test_pictures: u64,
}

impl Engine {
    pub(super) fn evaluate(
        &mut self,
        job: &Job,
        task: &Evaluate,
        slice: &mut Slice<'_>,
    ) -> anyhow::Result<Outcome> {
        self.evaluate_with(job, task, slice, &mut |training, observer| training.run(observer))
    }

    /// As [`Engine::evaluate`], with trainings that `let_run` lets run.
    pub(super) fn evaluate_with(
        &mut self,
        job: &Job,
        task: &Evaluate,
        slice: &mut Slice<'_>,
        let_run: &mut LetRun<'_>,
    ) -> anyhow::Result<Outcome> {
        let recipe = network_recipe(&task.recipe);
        // A broken recipe is the bundle's fault; what a unit fails of below is its own.
        recipe.validate().context("the recipe cannot be trained with")?;
        let halving = task.recipe.halving.iter();
        if let Some(broken) = halving.flat_map(|halving| halving.broken_rules(recipe.epochs)).next() {
            return Err(BadInput::from(broken).into());
        }
        self.prepare(&task.dataset, task.recipe.image_size, &job.envelope)?;
        slice.progress(0, 0);
        let dataset = self.prepared.as_ref().context("no dataset is prepared")?;
        let mut bundle = self
            .resumed(job, |checkpoint| Bundle::load(self, job, checkpoint, task, &recipe, &dataset.data))?
            .unwrap_or_else(|| Bundle::new(task.units.len()));
        let evaluation_batches = &mut self.evaluation_batches;
        let mut race = Race { job, task, recipe: &recipe, dataset, device: self.device, evaluation_batches };
        if race.run(&mut bundle, slice, let_run)? {
            self.bundle_done(task, bundle.into_rows())
        } else {
            bundle.save(self, job, task).map(Outcome::Paused)
        }
    }

    /// Stores the rows of a bundle whose units are all finished.
    fn bundle_done(&self, task: &Evaluate, finished: Vec<UnitRows>) -> anyhow::Result<Outcome> {
        let prepared = self.prepared.as_ref().context("no dataset is prepared")?;
        let (evaluations, curves): (Vec<_>, Vec<_>) =
            finished.into_iter().map(|rows| (rows.evaluation, rows.curves)).unzip();
        let curves = curves.concat();
        let with_status = |status| evaluations.iter().filter(|row| row.status == status).count() as u64;
        let summary = Summary::Evaluations {
            units: evaluations.len() as u64,
            diverged: with_status(DIVERGED),
            failed: with_status(FAILED),
            stopped: with_status(STOPPED),
            train_pictures: prepared.train_pictures,
            valid_pictures: prepared.valid_pictures,
            test_pictures: prepared.test_pictures,
            data_hash: prepared.data_hash.clone(),
        };
        let files = self.runtime.block_on(async {
            let rows = self.store.put_rows("evaluations", &evaluations).await?;
            let curves = self.store.put_rows("curves", &curves).await?;
            anyhow::Ok(vec![rows, curves])
        });
        let files = files.context("cannot store the rows")?;
        let units = task.units.iter().map(|unit| task.unit_id(unit)).collect();
        Ok(Outcome::Finished(Finished { files, units, summary }))
    }

    /// Makes the dataset the prepared one.
    fn prepare(&mut self, dataset: &Dataset, image_size: u32, envelope: &Envelope) -> anyhow::Result<()> {
        let id = dataset.id();
        if self.prepared.as_ref().is_some_and(|last| last.dataset == id && last.image_size == image_size) {
            return Ok(());
        }
        self.prepared = None;
        let pictures = self.pictures(envelope, &dataset.source, &dataset.classes)?;
        let wanted = DatasetDraw {
            classes: dataset.classes.clone(),
            train_per_class: dataset.per_class.train,
            valid_per_class: dataset.per_class.valid,
            test_per_class: dataset.per_class.test,
            fractions: split_fractions(dataset.fractions),
            key: id.clone(),
        };
        let drawn = draw(&pictures, &wanted).with_context(|| format!("cannot draw dataset `{id}`"))?;
        let data = TrainingData {
            train: resized(&drawn.train, dataset.look, image_size),
            valid: resized(&drawn.valid, dataset.look, image_size),
            test: resized(&drawn.test, dataset.look, image_size),
            classes: dataset.classes.len() as i64,
        };
        let data_hash = data_hash(&drawn);
        let data = PreparedData::new(&data, self.device).context("cannot prepare the pictures")?;
        self.prepared = Some(PreparedDataset {
            dataset: id,
            image_size,
            data,
            data_hash,
            train_pictures: drawn.train.len() as u64,
            valid_pictures: drawn.valid.len() as u64,
            test_pictures: drawn.test.len() as u64,
        });
        Ok(())
    }
}

pub(super) fn split_fractions(fractions: Fractions) -> SplitFractions {
    SplitFractions { train: fractions.train, valid: fractions.valid, test: fractions.test }
}

/// Square pictures, channel by channel, as the networks read them.
fn resized(drawn: &[DrawnPicture<'_>], look: Look, image_size: u32) -> Pictures {
    let plane = image_size as usize * image_size as usize;
    let mut pixels = Vec::with_capacity(drawn.len() * 3 * plane);
    for drawn in drawn {
        let picture = seen(drawn.picture, look).resized(image_size);
        for channel in 0..3 {
            pixels.extend(picture.rgb.iter().skip(channel).step_by(3));
        }
    }
    let labels = drawn.iter().map(|drawn| drawn.class.into()).collect();
    Pictures { pixels, labels, size: image_size.into() }
}

fn network_recipe(recipe: &Recipe) -> metad2a_networks::Recipe {
    metad2a_networks::Recipe {
        epochs: recipe.epochs,
        batch_size: recipe.batch_size.into(),
        learning_rate: recipe.learning_rate,
        momentum: recipe.momentum,
        nesterov: recipe.nesterov,
        weight_decay: recipe.weight_decay,
        channels: recipe.channels.into(),
        cells_per_stage: recipe.cells_per_stage.into(),
        image_size: recipe.image_size.into(),
        augmentation: metad2a_networks::Augmentation {
            horizontal_flip: recipe.augmentation.horizontal_flip,
            crop_padding: recipe.augmentation.crop_padding.into(),
        },
        precision: match recipe.precision {
            Precision::Float32 => metad2a_networks::Precision::Float32,
            Precision::Bfloat16 => metad2a_networks::Precision::Bfloat16,
        },
        validate_every: recipe.epochs.div_ceil(VALIDATIONS),
        validate_after: validated_rungs(recipe.halving.as_ref()),
    }
}

/// Rungs at which units are compared by their validation accuracy.
fn validated_rungs(halving: Option<&Halving>) -> Vec<u32> {
    let by_accuracy = halving.filter(|halving| halving.by == Signal::ValidAccuracy);
    by_accuracy.map_or_else(Vec::new, |halving| halving.rungs.clone())
}

#[cfg(test)]
mod tests {
    use metad2a_images::Picture;

    use super::*;

    #[test]
    fn networks_see_pictures_in_the_look_of_their_dataset_channel_by_channel() {
        let rgb: Vec<u8> = (0..6 * 4 * 3_u32).map(|at| (at * 37 % 256) as u8).collect();
        let picture = Picture { width: 6, height: 4, rgb };
        let drawn = [DrawnPicture { class: 1, picture: &picture, hash: "" }];
        let planes = |picture: &Picture| -> Vec<u8> {
            (0..3).flat_map(|channel| picture.rgb.iter().skip(channel).step_by(3).copied()).collect()
        };
        let pixels = |grey, resolution| resized(&drawn, Look { grey, resolution }, 5).pixels;
        assert_eq!(pixels(false, None), planes(&picture.resized(5)));
        assert_eq!(pixels(true, None), planes(&picture.grey().resized(5)));
        assert_eq!(pixels(false, Some(2)), planes(&picture.blurred(2).resized(5)));
        assert_eq!(pixels(true, Some(2)), planes(&picture.grey().blurred(2).resized(5)));
    }
}
