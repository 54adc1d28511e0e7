//! Trains one unit: a cell on a data set by a recipe.
//!
//! ```text
//!   Train (a batch a step) ─► Valid, where the recipe asks for it ─► next epoch … ─► Test, once ─► finished
//! ```
//!
//! Between any two batches, of figures too, a training can be paused into a checkpoint and go on elsewhere: the numbers
//! are those of a training that was never paused, bit for bit on one device and thread count. An epoch of a large data
//! set can take longer than a slice of work, so the end of an epoch would not be often enough.

mod checkpoint;
mod figures;

use std::{ops::ControlFlow, time::Instant};

use metad2a_randomness::Key;
use metad2a_search_space::Cell;
use serde::{Deserialize, Serialize};

pub use self::figures::Figures;
use self::figures::{Sums, that_fit};
use crate::{
    Network, NetworkShape, PreparedData, Recipe, Result,
    augmentation::{Epoch, Source},
    error::require,
    layers::cross_entropy,
    optimizer::Sgd,
    pictures::Prepared,
};

/// Pictures per forward pass when figures are taken, unless told otherwise. It bounds memory and changes nothing but
/// the rounding of sums.
const EVALUATION_BATCH: i64 = 256;

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
    /// The observer stopped it before the last epoch.
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
    /// Pictures per forward pass that figures were taken with at last: fewer than asked for where memory was short.
    pub evaluation_batch: i64,
}

/// Watches a training, and may end or pause it.
pub trait Observer {
    /// Gets the row of every finished epoch; [`ControlFlow::Break`] stops the training for good.
    fn epoch(&mut self, row: EpochRow) -> ControlFlow<()>;

    /// Called after every batch but the last of all; [`ControlFlow::Break`] pauses the training there.
    fn batch(&mut self) -> ControlFlow<()>;
}

/// What became of a training that was let run.
pub enum Run<'a> {
    /// It came to an end.
    Finished(Box<TrainedUnit>),
    /// The observer paused it: keep its checkpoint, or let it run again.
    Paused(Box<Training<'a>>),
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
    struct EachEpoch<'a>(&'a mut dyn FnMut(EpochRow) -> ControlFlow<()>);
    impl Observer for EachEpoch<'_> {
        fn epoch(&mut self, row: EpochRow) -> ControlFlow<()> {
            (self.0)(row)
        }

        fn batch(&mut self) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
    }
    let mut training = Training::new(cell, recipe, data, unit_id)?;
    loop {
        match training.run(&mut EachEpoch(each_epoch))? {
            Run::Finished(unit) => return Ok(*unit),
            Run::Paused(paused) => training = *paused,
        }
    }
}

/// A training at a place between two batches.
pub struct Training<'a> {
    unit_id: String,
    recipe: Recipe,
    data: &'a PreparedData,
    source: Source<'a>,
    optimizer: Sgd,
    unit: TrainedUnit,
    place: Place,
    /// Of the phase so far.
    sums: Sums,
    /// Training figures of an epoch that is being validated.
    trained: Option<Figures>,
    /// Wall-clock seconds of the epoch so far.
    seconds: f64,
    /// Of the epoch in training; drawn when they are needed.
    draws: Option<Epoch>,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    epoch: u32,
    phase: Phase,
    /// Pictures of the phase that were seen.
    done: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Phase {
    Train,
    Valid,
    Test,
}

/// Whether a step left anything to do.
#[derive(PartialEq, Eq)]
enum Left {
    More,
    Nothing,
}

impl<'a> Training<'a> {
    /// A training before its first batch.
    pub fn new(cell: Cell, recipe: &Recipe, data: &'a PreparedData, unit_id: &str) -> Result<Self> {
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
        let mut network = Network::new_on(cell, &shape, &Key::new(unit_id, "weights"), data.device())?;
        network.set_precision(recipe.precision);
        let optimizer =
            Sgd::new(network.parameters_in_use(), recipe.momentum, recipe.nesterov, recipe.weight_decay)?;
        let unit = TrainedUnit {
            status: Status::Completed,
            curves: Vec::new(),
            train: None,
            valid: None,
            test: None,
            train_seconds: 0.0,
            network,
            evaluation_batch: EVALUATION_BATCH,
        };
        Ok(Self {
            unit_id: unit_id.to_owned(),
            recipe: recipe.clone(),
            data,
            source: Source::new(data, recipe.augmentation)?,
            optimizer,
            unit,
            place: Place { epoch: 0, phase: Phase::Train, done: 0 },
            sums: Sums::new(data.device())?,
            trained: None,
            seconds: 0.0,
            draws: None,
        })
    }

    /// Takes figures with at most so many pictures per forward pass, at least 1: what is known to fit.
    #[must_use]
    pub fn with_evaluation_batch(mut self, pictures: i64) -> Self {
        self.unit.evaluation_batch = pictures.max(1);
        self
    }

    /// Pictures per forward pass that figures are taken with: fewer than asked for once memory was short.
    pub fn evaluation_batch(&self) -> i64 {
        self.unit.evaluation_batch
    }

    /// The rows of the epochs that are finished.
    pub fn curves(&self) -> &[EpochRow] {
        &self.unit.curves
    }

    /// Ends a training that is paused between two epochs, as an observer that stops it there would.
    pub fn stopped(mut self) -> Result<TrainedUnit> {
        let Place { epoch, phase, done } = self.place;
        let is_between = epoch > 0 && phase == Phase::Train && done == 0;
        let place = format!("{phase:?} of epoch {epoch}, after {done} pictures");
        require(is_between, "place", "between two epochs where a training is stopped", place)?;
        self.stop()?;
        Ok(self.unit)
    }

    /// Trains until the end or a pause. At least one batch is done, so that even the shortest runs get on.
    ///
    /// Where memory is short for figures, they are taken of fewer pictures at once. The pictures of a training step are
    /// the recipe's word: [`crate::Error::Memory`] if they do not fit.
    pub fn run(mut self, observer: &mut dyn Observer) -> Result<Run<'a>> {
        while self.step(observer)? == Left::More {
            if observer.batch().is_break() {
                return Ok(Run::Paused(Box::new(self)));
            }
        }
        Ok(Run::Finished(Box::new(self.unit)))
    }

    /// One batch, and what follows from it where it was the last of its phase.
    fn step(&mut self, observer: &mut dyn Observer) -> Result<Left> {
        let data = self.data;
        match (self.place.phase, &data.valid, &data.test) {
            (Phase::Train, ..) => self.train_batch(observer),
            (Phase::Valid, Some(valid), _) => match self.figures_batch(valid)? {
                None => Ok(Left::More),
                Some(figures) if figures.loss.is_finite() => self.end_epoch(Some(figures), observer),
                Some(_) => Ok(self.diverged("validation loss")),
            },
            (Phase::Test, _, Some(test)) => {
                self.unit.test = self.figures_batch(test)?;
                Ok(if self.unit.test.is_none() { Left::More } else { Left::Nothing })
            }
            // A phase without pictures is never entered.
            (Phase::Valid, None, _) => self.end_epoch(None, observer),
            (Phase::Test, _, None) => Ok(Left::Nothing),
        }
    }

    fn train_batch(&mut self, observer: &mut dyn Observer) -> Result<Left> {
        let start = Instant::now();
        let Place { epoch, done, .. } = self.place;
        let count = self.source.count();
        let draws = match &mut self.draws {
            Some(draws) => draws,
            none => none.insert(self.source.epoch(&Key::new(&self.unit_id, "augmentation"), epoch)?),
        };
        let size = self.recipe.batch_size.min(count - done);
        let (images, labels) = self.source.batch(draws, done, size)?;
        let step = self.unit.network.step(&images, &labels)?;
        self.optimizer.step(&step.gradients, self.recipe.learning_rate_at(epoch))?;
        self.sums.add(&step.logits, &step.loss, &labels)?;
        self.place.done += size;
        if self.place.done < count {
            self.seconds += start.elapsed().as_secs_f64();
            return Ok(Left::More);
        }
        // Reading the sums waits for the device.
        let figures = self.sums.figures(count)?;
        self.seconds += start.elapsed().as_secs_f64();
        self.unit.train_seconds += self.seconds;
        self.draws = None;
        if !figures.loss.is_finite() {
            return Ok(self.diverged("training loss"));
        }
        self.trained = Some(figures);
        let every = self.recipe.validate_every;
        let is_due = every > 0 && (epoch + 1).is_multiple_of(every)
            || self.recipe.validate_after.contains(&(epoch + 1));
        if self.data.valid.is_some() && (is_due || epoch + 1 == self.recipe.epochs) {
            self.enter(epoch, Phase::Valid)?;
            return Ok(Left::More);
        }
        self.end_epoch(None, observer)
    }

    /// Figures of a split, with the running statistics and without augmentation, once all its batches are done.
    fn figures_batch(&mut self, split: &Prepared) -> Result<Option<Figures>> {
        let _guard = tch::no_grad_guard();
        let (count, done) = (split.count(), self.place.done);
        let wanted = self.unit.evaluation_batch.min(count - done);
        let (size, logits) = that_fit(wanted, |size| {
            let images = self.data.normalised(&split.pixels.f_narrow(0, done, size)?)?;
            self.unit.network.predict(&images)
        })?;
        if size < wanted {
            self.unit.evaluation_batch = size;
        }
        let labels = split.labels.f_narrow(0, done, size)?;
        self.sums.add(&logits, &cross_entropy(&logits, &labels)?, &labels)?;
        self.place.done += size;
        if self.place.done < count {
            return Ok(None);
        }
        self.sums.figures(count).map(Some)
    }

    fn end_epoch(&mut self, valid: Option<Figures>, observer: &mut dyn Observer) -> Result<Left> {
        let epoch = self.place.epoch;
        let Some(figures) = self.trained.take() else {
            unreachable!("an epoch ends after its training figures were taken")
        };
        self.unit.train = Some(figures);
        self.unit.valid = valid;
        let row = EpochRow {
            epoch,
            learning_rate: self.recipe.learning_rate_at(epoch),
            train_loss: figures.loss,
            train_accuracy: figures.accuracy,
            valid_loss: valid.map(|valid| valid.loss),
            valid_accuracy: valid.map(|valid| valid.accuracy),
            seconds: self.seconds,
        };
        self.unit.curves.push(row);
        self.seconds = 0.0;
        let is_last = epoch + 1 == self.recipe.epochs;
        let stops = observer.epoch(row).is_break();
        if is_last {
            self.enter(epoch, Phase::Test)?;
            return Ok(if self.data.test.is_some() { Left::More } else { Left::Nothing });
        }
        self.enter(epoch + 1, Phase::Train)?;
        if stops {
            self.stop()?;
            return Ok(Left::Nothing);
        }
        Ok(Left::More)
    }

    /// Ends the training early, with validation figures of its last epoch.
    fn stop(&mut self) -> Result<()> {
        self.unit.status = Status::Stopped;
        let data = self.data;
        if let (Some(valid), None) = (&data.valid, self.unit.valid) {
            while self.unit.valid.is_none() {
                self.unit.valid = self.figures_batch(valid)?;
            }
        }
        Ok(())
    }

    fn enter(&mut self, epoch: u32, phase: Phase) -> Result<()> {
        self.place = Place { epoch, phase, done: 0 };
        self.sums = Sums::new(self.data.device())?;
        Ok(())
    }

    fn diverged(&mut self, figure: &str) -> Left {
        let epoch = self.place.epoch;
        let reason = format!("the {figure} of epoch {epoch} is not finite");
        self.unit.status = Status::Diverged { epoch, reason };
        (self.unit.train, self.unit.valid, self.unit.test) = (None, None, None);
        Left::Nothing
    }
}
