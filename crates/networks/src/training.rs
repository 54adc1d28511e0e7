//! Trains one unit: a cell on a data set by a recipe.

use std::{ops::ControlFlow, time::Instant};

use metad2a_randomness::Key;
use metad2a_search_space::Cell;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{
    Network, NetworkShape, PreparedData, Recipe, Result, augmentation::Source, error::require,
    optimizer::Sgd, pictures::Prepared,
};

/// Pictures per forward pass when figures are taken. It bounds memory and changes nothing else.
const EVALUATION_BATCH: i64 = 256;

/// Mean cross-entropy and share of right answers of one split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// In `[0, 1]`.
    pub accuracy: f64,
}

/// One epoch of a training.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Counted from 0.
    pub epoch: u32,
    /// Constant inside the epoch.
    pub learning_rate: f64,
    /// Mean over the epoch's steps, on augmented pictures and with changing weights, as the benchmark records it.
    pub train_loss: f64,
    /// As `train_loss`; in `[0, 1]`.
    pub train_accuracy: f64,
    /// After the epoch, where the recipe validates it and there are validation pictures.
    pub valid_loss: Option<f64>,
    /// As `valid_loss`; in `[0, 1]`.
    pub valid_accuracy: Option<f64>,
    /// Wall-clock seconds of the training steps, validation excluded.
    pub seconds: f64,
}

/// How a training ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// All epochs were trained.
    Completed,
    /// The loss became infinite or not a number. A result of the recipe, not a failure: repeating it gives the same.
    Diverged {
        /// Counted from 0; it has no row in the curves.
        epoch: u32,
        /// Which figure lost its value.
        reason: String,
    },
    /// The callback stopped it before the last epoch.
    Stopped,
}

/// The result of a training.
#[derive(Debug)]
pub struct TrainedUnit {
    /// How it ended.
    pub status: Status,
    /// One row per finished epoch.
    pub curves: Vec<EpochRow>,
    /// Of the last finished epoch, as in its row. None after divergence.
    pub train: Option<Figures>,
    /// After the last finished epoch. None after divergence or without validation pictures.
    pub valid: Option<Figures>,
    /// Taken once, after the last epoch of a completed training. None otherwise.
    pub test: Option<Figures>,
    /// Wall-clock seconds of all training steps, validation excluded.
    pub train_seconds: f64,
    /// The network with its last weights.
    pub network: Network,
}

/// Trains a network from its first values. Every number but the seconds depends on cell, recipe, data and `unit_id`
/// only, whatever else the process trains; on one device and one thread the numbers repeat bit for bit.
///
/// `each_epoch` gets the row of every finished epoch and may stop the training by [`ControlFlow::Break`].
pub fn train(
    cell: Cell,
    recipe: &Recipe,
    data: &PreparedData,
    unit_id: &str,
    each_epoch: &mut dyn FnMut(EpochRow) -> ControlFlow<()>,
) -> Result<TrainedUnit> {
    recipe.validate()?;
    require(
        recipe.image_size == data.image_size(),
        "image_size",
        format!("that of the pictures ({})", data.image_size()),
        recipe.image_size,
    )?;
    let shape = NetworkShape {
        channels: recipe.channels,
        cells_per_stage: recipe.cells_per_stage,
        classes: data.classes(),
    };
    let network = Network::new_on(cell, &shape, &Key::new(unit_id, "weights"), data.device())?;
    let mut optimizer =
        Sgd::new(network.parameters_in_use(), recipe.momentum, recipe.nesterov, recipe.weight_decay)?;
    let source = Source::new(data, recipe.augmentation)?;
    let draws = Key::new(unit_id, "augmentation");

    let mut unit = TrainedUnit {
        status: Status::Completed,
        curves: Vec::new(),
        train: None,
        valid: None,
        test: None,
        train_seconds: 0.0,
        network,
    };
    for epoch in 0..recipe.epochs {
        let is_last = epoch + 1 == recipe.epochs;
        let learning_rate = recipe.learning_rate_at(epoch);
        let start = Instant::now();
        let figures = train_epoch(&unit.network, &mut optimizer, &source, &draws, recipe, epoch)?;
        let seconds = start.elapsed().as_secs_f64();
        unit.train_seconds += seconds;
        if !figures.loss.is_finite() {
            return Ok(diverged(unit, epoch, "training loss"));
        }
        let is_due = recipe.validate_every > 0 && (epoch + 1).is_multiple_of(recipe.validate_every);
        unit.valid = match &data.valid {
            Some(valid) if is_due || is_last => Some(evaluate(&unit.network, data, valid)?),
            _ => None,
        };
        if unit.valid.is_some_and(|valid| !valid.loss.is_finite()) {
            return Ok(diverged(unit, epoch, "validation loss"));
        }
        unit.train = Some(figures);
        let row = EpochRow {
            epoch,
            learning_rate,
            train_loss: figures.loss,
            train_accuracy: figures.accuracy,
            valid_loss: unit.valid.map(|valid| valid.loss),
            valid_accuracy: unit.valid.map(|valid| valid.accuracy),
            seconds,
        };
        unit.curves.push(row);
        if each_epoch(row).is_break() && !is_last {
            unit.status = Status::Stopped;
            if let (Some(valid), None) = (&data.valid, unit.valid) {
                unit.valid = Some(evaluate(&unit.network, data, valid)?);
            }
            return Ok(unit);
        }
    }
    if let Some(test) = &data.test {
        unit.test = Some(evaluate(&unit.network, data, test)?);
    }
    Ok(unit)
}

fn diverged(unit: TrainedUnit, epoch: u32, figure: &str) -> TrainedUnit {
    let reason = format!("the {figure} of epoch {epoch} is not finite");
    TrainedUnit { status: Status::Diverged { epoch, reason }, train: None, valid: None, test: None, ..unit }
}

/// One pass over the training pictures. Figures are summed on the device, so that no step waits for them.
fn train_epoch(
    network: &Network,
    optimizer: &mut Sgd,
    source: &Source<'_>,
    draws: &Key,
    recipe: &Recipe,
    epoch: u32,
) -> Result<Figures> {
    let count = source.count();
    let pictures = source.epoch(draws, epoch)?;
    let learning_rate = recipe.learning_rate_at(epoch);
    let mut sums = Sums::new(network.device())?;
    let mut start = 0;
    while start < count {
        let size = recipe.batch_size.min(count - start);
        let (images, labels) = pictures.batch(start, size)?;
        let logits = network.forward(&images, true)?;
        let loss = cross_entropy(&logits, &labels)?;
        optimizer.step(&loss, learning_rate)?;
        sums.add(&logits, &loss, &labels)?;
        start += size;
    }
    sums.figures(count)
}

/// Figures of a split, with the running statistics and without augmentation.
fn evaluate(network: &Network, data: &PreparedData, split: &Prepared) -> Result<Figures> {
    let _guard = tch::no_grad_guard();
    let count = split.count();
    let mut sums = Sums::new(network.device())?;
    let mut start = 0;
    while start < count {
        let size = EVALUATION_BATCH.min(count - start);
        let images = data.normalised(&split.pixels.f_narrow(0, start, size)?)?;
        let labels = split.labels.f_narrow(0, start, size)?;
        let logits = network.forward(&images, false)?;
        sums.add(&logits, &cross_entropy(&logits, &labels)?, &labels)?;
        start += size;
    }
    sums.figures(count)
}

/// Mean over the batch.
fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    Ok(logits.f_cross_entropy_loss(labels, None::<&Tensor>, tch::Reduction::Mean, -100, 0.0)?)
}

/// Running sums over batches, kept on the device.
struct Sums {
    loss: Tensor,
    right: Tensor,
}

impl Sums {
    fn new(device: tch::Device) -> Result<Self> {
        Ok(Self {
            loss: Tensor::f_zeros([], (Kind::Double, device))?,
            right: Tensor::f_zeros([], (Kind::Int64, device))?,
        })
    }

    fn add(&mut self, logits: &Tensor, loss: &Tensor, labels: &Tensor) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let batch_loss = loss.f_detach()?.f_to_kind(Kind::Double)?.f_mul_scalar(labels.size()[0])?;
        let _ = self.loss.f_add_(&batch_loss)?;
        let right = logits.f_argmax(1, false)?.f_eq_tensor(labels)?.f_sum(Kind::Int64)?;
        let _ = self.right.f_add_(&right)?;
        Ok(())
    }

    fn figures(&self, count: i64) -> Result<Figures> {
        Ok(Figures {
            loss: self.loss.f_double_value(&[])? / count as f64,
            accuracy: self.right.f_int64_value(&[])? as f64 / count as f64,
        })
    }
}
