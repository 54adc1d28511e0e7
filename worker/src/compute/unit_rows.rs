//! From a training to the rows that tell of it.

use metad2a_database::now;
use metad2a_database::tables::{COMPLETED, CurveRow, DIVERGED, EvaluationRow, FAILED, STOPPED};
use metad2a_networks::{EpochRow, Figures, Latency, Status, TrainedUnit};
use metad2a_pipeline::tasks::{Evaluate, Unit};
use metad2a_search_space::{MacroShape, flops, parameters};

use super::bundle::UnitRows;
use super::evaluate::PreparedDataset;

/// Epochs over which the label `fit_loss` is averaged.
const FIT_EPOCHS: usize = 10;

/// The version of libtorch that tch 0.24 is the binding of. torch-sys refuses to build with any other.
const LIBTORCH_VERSION: &str = "2.11.0";

/// What the rows of one unit have in common.
pub(super) struct Labels<'a> {
    pub(super) task_id: &'a str,
    pub(super) task: &'a Evaluate,
    pub(super) unit: &'a Unit,
    pub(super) unit_id: &'a str,
    pub(super) dataset: &'a PreparedDataset,
    pub(super) device: &'a str,
}

/// What was measured of a training and its network beyond their figures; `None` for what was not, or could not be.
#[derive(Debug, Default)]
pub(super) struct Measurements {
    pub(super) peak_memory_bytes: Option<u64>,
    /// Of one picture.
    pub(super) latency_batch_1: Option<Latency>,
    /// Of 64 pictures at once.
    pub(super) latency_batch_64: Option<Latency>,
}

/// The rows of a network that was trained, to its end or not; `stopped_for` says why not, where it was stopped.
pub(super) fn trained_rows(
    labels: &Labels<'_>,
    trained: &TrainedUnit,
    stopped_for: Option<String>,
    measured: &Measurements,
) -> UnitRows {
    let (status, status_reason) = match &trained.status {
        Status::Completed => (COMPLETED, None),
        Status::Diverged { epoch, reason } => (DIVERGED, Some(format!("epoch {epoch}: {reason}"))),
        Status::Stopped => (STOPPED, stopped_for),
    };
    let [train, valid, test] =
        [&trained.train, &trained.valid, &trained.test].map(|figures| figures.as_ref().map(Accurate::of));
    let median = |latency: Option<Latency>| latency.map(|latency| latency.median_milliseconds);
    let p95 = |latency: Option<Latency>| latency.map(|latency| latency.p95_milliseconds);
    let evaluation = EvaluationRow {
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
        train_seconds: trained.train_seconds,
        images_per_second: images_per_second(labels.dataset.train_pictures, &trained.curves),
        peak_memory_bytes: measured.peak_memory_bytes.map(|bytes| bytes as i64),
        latency_batch_1_median_milliseconds: median(measured.latency_batch_1),
        latency_batch_1_p95_milliseconds: p95(measured.latency_batch_1),
        latency_batch_64_median_milliseconds: median(measured.latency_batch_64),
        latency_batch_64_p95_milliseconds: p95(measured.latency_batch_64),
        ..row_without_figures(labels)
    };
    UnitRows { evaluation, curves: trained.curves.iter().map(|epoch| curve_row(labels, epoch)).collect() }
}

/// The row of a network that could not be trained; it has no curve.
pub(super) fn failed_rows(labels: &Labels<'_>, reason: String) -> UnitRows {
    let evaluation = EvaluationRow {
        status: FAILED.to_owned(),
        status_reason: Some(reason),
        ..row_without_figures(labels)
    };
    UnitRows { evaluation, curves: Vec::new() }
}

/// What is known of a unit before it is trained.
fn row_without_figures(labels: &Labels<'_>) -> EvaluationRow {
    let recipe = &labels.task.recipe;
    let cell = labels.unit.cell;
    let shape = MacroShape {
        channels: recipe.channels.into(),
        cells_per_stage: recipe.cells_per_stage.into(),
        image_size: recipe.image_size.into(),
        classes: labels.task.dataset.classes.len() as u64,
    };
    EvaluationRow {
        unit_id: labels.unit_id.to_owned(),
        dataset_id: labels.dataset.dataset.clone(),
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
        params: parameters(cell, shape) as i64,
        flops: flops(cell, shape) as i64,
        data_hash: labels.dataset.data_hash.clone(),
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        libtorch_version: LIBTORCH_VERSION.to_owned(),
        device: labels.device.to_owned(),
        task_id: labels.task_id.to_owned(),
        finished_at: now(),
        ..EvaluationRow::default()
    }
}

/// Over the finished epochs.
fn images_per_second(pictures: u64, epochs: &[EpochRow]) -> Option<f64> {
    let seconds: f64 = epochs.iter().map(|epoch| epoch.seconds).sum();
    (seconds > 0.0).then(|| pictures as f64 * epochs.len() as f64 / seconds)
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

fn curve_row(labels: &Labels<'_>, epoch: &EpochRow) -> CurveRow {
    CurveRow {
        unit_id: labels.unit_id.to_owned(),
        dataset_id: labels.dataset.dataset.clone(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_counted_by_the_second_of_finished_epochs_alone() {
        let epoch = |seconds| EpochRow {
            epoch: 0,
            learning_rate: 0.1,
            train_loss: 1.0,
            train_accuracy: 0.5,
            valid_loss: None,
            valid_accuracy: None,
            seconds,
        };
        assert_eq!(images_per_second(300, &[epoch(1.0), epoch(2.0)]), Some(200.0));
        assert_eq!(images_per_second(300, &[]), None);
    }
}
