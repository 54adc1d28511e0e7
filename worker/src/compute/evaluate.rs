//! `evaluate`: draws a dataset once, then trains every unit of the bundle on it.
//!
//! **Invariant:** a unit's row depends on the unit alone: its randomness is keyed by its id, never by the bundle's.

use std::collections::HashMap;
use std::ops::ControlFlow;

use anyhow::Context;
use metad2a_images::{DatasetDraw, DrawnPicture, SplitFractions, data_hash, draw};
use metad2a_networks::{
    EpochRow, Latency, Network, Observer, Pictures, PreparedData, Run, Status, Training, TrainingData,
};
use metad2a_pipeline::envelope::Envelope;
use metad2a_pipeline::tasks::{Dataset, Evaluate, Fractions, Precision, Recipe, Summary};

use super::Engine;
use super::bundle::{Bundle, PausedUnit, UnitRows};
use super::memory::PeakMemory;
use super::slice::Slice;
use super::unit_failures::{Answer, answer};
use super::unit_rows::{DIVERGED, FAILED, Labels, Measurements, failed_rows, trained_rows};
use crate::device;
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
    data: PreparedData,
    pub(super) data_hash: String,
    pub(super) train_pictures: u64,
    valid_pictures: u64,
    test_pictures: u64,
}

/// One unit's training inside a slice of its bundle; counts epochs.
struct Watch<'a, 'b> {
    slice: &'a mut Slice<'b>,
    done: u64,
    total: u64,
}

impl Observer for Watch<'_, '_> {
    fn epoch(&mut self, _row: EpochRow) -> ControlFlow<()> {
        self.done += 1;
        ControlFlow::Continue(())
    }

    fn batch(&mut self) -> ControlFlow<()> {
        self.slice.progress(self.done, self.total);
        if self.slice.is_over() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
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
        self.prepare(&task.dataset, task.recipe.image_size, &job.envelope)?;
        slice.progress(0, 0);
        let prepared = self.prepared.as_ref().context("no dataset is prepared")?;
        let Bundle { mut finished, mut paused } = self
            .resumed(job, |checkpoint| Bundle::load(self, checkpoint, task, &recipe, &prepared.data))?
            .unwrap_or_default();
        let device = device::name(self.device);
        let sizes = (task.recipe.id(), prepared.dataset.clone());
        let is_last_attempt = job.envelope.failures.len() + 1 >= job.envelope.max_attempts as usize;
        let total = task.units.len() as u64 * u64::from(task.recipe.epochs);
        for (number, unit) in task.units.iter().enumerate().skip(finished.len()) {
            let unit_id = task.unit_id(unit);
            let (task_id, dataset, device) = (job.id.as_str(), prepared, device.as_str());
            let labels = Labels { task_id, task, unit, unit_id: &unit_id, dataset, device };
            let memory = PeakMemory::from_now(self.device);
            let resumed = paused.take();
            let peak_before = resumed.as_ref().map_or(Some(0), |paused| paused.peak_memory_bytes);
            let peak = || Some(memory.bytes()?.max(peak_before?));
            let ready = match resumed {
                Some(paused) => Ok(paused.training),
                None => Training::new(unit.cell, &recipe, &prepared.data, &unit_id),
            };
            let run = ready.and_then(|training| {
                let before = number as u64 * u64::from(task.recipe.epochs);
                let done = before + u64::from(training.epochs_done());
                let training = match self.evaluation_batches.get(&sizes) {
                    Some(pictures) => training.with_evaluation_batch(*pictures),
                    None => training,
                };
                let usual = training.evaluation_batch();
                let run = let_run(training, &mut Watch { slice: &mut *slice, done, total })?;
                let fitting = match &run {
                    Run::Finished(trained) => trained.evaluation_batch,
                    Run::Paused(training) => training.evaluation_batch(),
                };
                if fitting < usual {
                    tracing::warn!(
                        unit = unit_id,
                        fitting,
                        "memory is short: figures are taken of fewer pictures at once"
                    );
                    self.evaluation_batches.insert(sizes.clone(), fitting);
                }
                Ok(run)
            });
            finished.push(match run {
                Ok(Run::Paused(training)) => {
                    let unit = PausedUnit { training: *training, peak_memory_bytes: peak() };
                    return Bundle::save(self, job, finished, &unit, total).map(Outcome::Paused);
                }
                Ok(Run::Finished(trained)) => {
                    let mut measured = Measurements { peak_memory_bytes: peak(), ..Measurements::default() };
                    if job.envelope.measure_latency && trained.status == Status::Completed {
                        measured.latency_batch_1 = latency(&trained.network, 1, recipe.image_size);
                        measured.latency_batch_64 = latency(&trained.network, 64, recipe.image_size);
                    }
                    trained_rows(&labels, &trained, &measured)
                }
                Err(error) => match answer(&error, task.recipe.batch_size, is_last_attempt) {
                    Answer::Row(reason) => {
                        tracing::warn!(unit = unit_id, cell = %unit.cell, reason, "a unit cannot be trained");
                        failed_rows(&labels, reason)
                    }
                    Answer::Attempt => {
                        let (cell, seed) = (unit.cell, unit.seed);
                        return Err(error)
                            .with_context(|| format!("cannot train cell `{cell}` with seed {seed}"));
                    }
                },
            });
        }
        self.bundle_done(task, finished)
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
            train: resized(&drawn.train, image_size),
            valid: resized(&drawn.valid, image_size),
            test: resized(&drawn.test, image_size),
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

/// A measurement that does not work out costs a figure, not the training.
fn latency(network: &Network, pictures: i64, image_size: i64) -> Option<Latency> {
    let latency = network.latency(pictures, image_size);
    latency.inspect_err(|error| tracing::warn!(pictures, "the latency cannot be measured: {error}")).ok()
}

pub(super) fn split_fractions(fractions: Fractions) -> SplitFractions {
    SplitFractions { train: fractions.train, valid: fractions.valid, test: fractions.test }
}

/// Square pictures, channel by channel, as the networks read them.
fn resized(drawn: &[DrawnPicture<'_>], image_size: u32) -> Pictures {
    let plane = image_size as usize * image_size as usize;
    let mut pixels = Vec::with_capacity(drawn.len() * 3 * plane);
    for drawn in drawn {
        let picture = drawn.picture.resized(image_size);
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
    }
}
