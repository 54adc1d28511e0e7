//! `evaluate`: draws a dataset once, then trains every unit of the bundle on it.
//!
//! **Invariant:** a unit's row depends on the unit alone: its randomness is keyed by its id, never by the bundle's.

use std::ops::ControlFlow;

use anyhow::Context;
use metad2a_database::now;
use metad2a_database::tables::{CurveRow, EvaluationRow};
use metad2a_images::{DatasetDraw, DrawnPicture, SplitFractions, data_hash, draw};
use metad2a_networks::{
    EpochRow, Figures, Observer, Pictures, PreparedData, Run, Status, TrainedUnit, Training, TrainingData,
};
use metad2a_pipeline::envelope::Envelope;
use metad2a_pipeline::tasks::{Dataset, Evaluate, Fractions, Precision, Recipe, Summary, Unit};
use metad2a_search_space::{MacroShape, flops, parameters};

use super::Engine;
use super::bundle::{Bundle, UnitRows};
use super::slice::Slice;
use crate::device;
use crate::protocol::{Finished, Job, Outcome};

/// Epochs over which the label `fit_loss` is averaged.
const FIT_EPOCHS: usize = 10;
/// Points on a curve of validation figures: validating after every epoch may cost as much as the training.
const VALIDATIONS: u32 = 10;

/// The status of a row whose training lost its numbers.
const DIVERGED: &str = "diverged";

/// The version of libtorch that tch 0.24 is the binding of. torch-sys refuses to build with any other.
const LIBTORCH_VERSION: &str = "2.11.0";

/// The last dataset at the last picture size, on the device.
pub(super) struct PreparedDataset {
    dataset: String,
    image_size: u32,
    data: PreparedData,
    data_hash: String,
    train_pictures: u64,
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
        self.prepare(&task.dataset, task.recipe.image_size, &job.envelope)?;
        slice.progress(0, 0);
        let prepared = self.prepared.as_ref().context("no dataset is prepared")?;
        let recipe = network_recipe(&task.recipe);
        let bundle =
            self.resumed(job, |checkpoint| Bundle::load(self, checkpoint, task, &recipe, &prepared.data))?;
        let Bundle { mut finished, training: mut paused } = bundle.unwrap_or_default();
        let total = task.units.len() as u64 * u64::from(task.recipe.epochs);
        for (number, unit) in task.units.iter().enumerate().skip(finished.len()) {
            let unit_id = task.unit_id(unit);
            let failed = || format!("cannot train cell `{}` with seed {}", unit.cell, unit.seed);
            let training = match paused.take() {
                Some(training) => training,
                None => Training::new(unit.cell, &recipe, &prepared.data, &unit_id).with_context(failed)?,
            };
            let before = number as u64 * u64::from(task.recipe.epochs);
            let done = before + u64::from(training.epochs_done());
            let mut watch = Watch { slice: &mut *slice, done, total };
            let trained = match training.run(&mut watch).with_context(failed)? {
                Run::Finished(trained) => trained,
                Run::Paused(training) => {
                    return Bundle::save(self, job, finished, &training, total).map(Outcome::Paused);
                }
            };
            let labels = Labels { task_id: &job.id, task, unit, unit_id: &unit_id };
            finished.push(UnitRows {
                evaluation: evaluation_row(&labels, prepared, &trained, &device::name(self.device)),
                curves: trained
                    .curves
                    .iter()
                    .map(|epoch| curve_row(&labels, &prepared.dataset, epoch))
                    .collect(),
            });
        }
        let (evaluations, curves): (Vec<_>, Vec<_>) =
            finished.into_iter().map(|rows| (rows.evaluation, rows.curves)).unzip();
        let curves = curves.concat();
        let summary = Summary::Evaluations {
            units: evaluations.len() as u64,
            diverged: evaluations.iter().filter(|row| row.status == DIVERGED).count() as u64,
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

/// What the rows of one unit have in common.
struct Labels<'a> {
    task_id: &'a str,
    task: &'a Evaluate,
    unit: &'a Unit,
    unit_id: &'a str,
}

fn evaluation_row(
    labels: &Labels<'_>,
    dataset: &PreparedDataset,
    trained: &TrainedUnit,
    device: &str,
) -> EvaluationRow {
    let recipe = &labels.task.recipe;
    let cell = labels.unit.cell;
    let shape = MacroShape {
        channels: recipe.channels.into(),
        cells_per_stage: recipe.cells_per_stage.into(),
        image_size: recipe.image_size.into(),
        classes: labels.task.dataset.classes.len() as u64,
    };
    let (status, status_reason) = match &trained.status {
        Status::Completed => ("completed", None),
        Status::Diverged { epoch, reason } => (DIVERGED, Some(format!("epoch {epoch}: {reason}"))),
        Status::Stopped => ("stopped", Some("stopped early".to_owned())),
    };
    let [train, valid, test] =
        [&trained.train, &trained.valid, &trained.test].map(|figures| figures.as_ref().map(Accurate::of));
    EvaluationRow {
        unit_id: labels.unit_id.to_owned(),
        dataset_id: dataset.dataset.clone(),
        arch_index: i64::from(cell.index().get()),
        cell: cell.to_string(),
        seed: labels.unit.seed as i64,
        recipe_id: recipe.id(),
        epochs: recipe.epochs.into(),
        batch_size: recipe.batch_size.into(),
        learning_rate: recipe.learning_rate,
        channels: recipe.channels.into(),
        cells_per_stage: recipe.cells_per_stage.into(),
        image_size: recipe.image_size.into(),
        precision: Some(recipe.precision.name().to_owned()),
        status: status.to_owned(),
        status_reason,
        epochs_done: trained.curves.len() as i64,
        train_accuracy: train.as_ref().and_then(|figures| figures.accuracy),
        train_loss: train.as_ref().and_then(|figures| figures.loss),
        valid_accuracy: valid.as_ref().and_then(|figures| figures.accuracy),
        valid_loss: valid.as_ref().and_then(|figures| figures.loss),
        test_accuracy: test.as_ref().and_then(|figures| figures.accuracy),
        test_loss: test.as_ref().and_then(|figures| figures.loss),
        fit_loss: fit_loss(trained),
        train_loss_sum: finite(trained.curves.iter().map(|epoch| epoch.train_loss).sum()),
        params: parameters(cell, shape) as i64,
        flops: flops(cell, shape) as i64,
        data_hash: dataset.data_hash.clone(),
        train_seconds: trained.train_seconds,
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        libtorch_version: LIBTORCH_VERSION.to_owned(),
        device: device.to_owned(),
        task_id: labels.task_id.to_owned(),
        finished_at: now(),
        protocol: None,
        provenance: None,
    }
}

/// Figures of a split; a diverged network may have some that are no numbers.
struct Accurate {
    loss: Option<f64>,
    accuracy: Option<f64>,
}

impl Accurate {
    fn of(figures: &Figures) -> Self {
        Self { loss: finite(figures.loss), accuracy: finite(figures.accuracy) }
    }
}

fn finite(number: f64) -> Option<f64> {
    number.is_finite().then_some(number)
}

/// Mean training loss of the last epochs; only of a network that completed its recipe, as others are not comparable.
fn fit_loss(trained: &TrainedUnit) -> Option<f64> {
    if trained.status != Status::Completed || trained.curves.is_empty() {
        return None;
    }
    let last = &trained.curves[trained.curves.len().saturating_sub(FIT_EPOCHS)..];
    finite(last.iter().map(|epoch| epoch.train_loss).sum::<f64>() / last.len() as f64)
}

fn curve_row(labels: &Labels<'_>, dataset: &str, epoch: &EpochRow) -> CurveRow {
    CurveRow {
        unit_id: labels.unit_id.to_owned(),
        dataset_id: dataset.to_owned(),
        arch_index: i64::from(labels.unit.cell.index().get()),
        seed: labels.unit.seed as i64,
        epoch: i64::from(epoch.epoch) + 1,
        learning_rate: epoch.learning_rate,
        train_loss: finite(epoch.train_loss),
        train_accuracy: finite(epoch.train_accuracy),
        valid_loss: epoch.valid_loss.and_then(finite),
        valid_accuracy: epoch.valid_accuracy.and_then(finite),
        train_seconds: epoch.seconds,
    }
}
