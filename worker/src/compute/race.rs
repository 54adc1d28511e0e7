//! Trains the units of a bundle one after another, from rung to rung, and stops the worse ones at each.
//!
//! ```text
//!   every unit up to the rung ─► who goes on (metad2a_pipeline::halving) ─► the next rung, or the last epoch
//! ```
//!
//! A bundle that is not halved has no rungs: every unit is trained to its end, and that is all.
//!
//! **Invariant:** what is done next follows from the units' states and the rungs that were passed, both of which a
//! checkpoint holds.

use std::ops::ControlFlow;

use anyhow::Context;
use metad2a_networks::{EpochRow, Latency, Network, Observer, Recipe, Run, Status, Training};
use metad2a_pipeline::halving::{Halving, Signal, Standing};
use metad2a_pipeline::tasks::Evaluate;
use tch::Device;

use super::bundle::{Bundle, PausedUnit, UnitState};
use super::error::BadInput;
use super::evaluate::{EvaluationBatches, LetRun, PreparedDataset};
use super::memory::PeakMemory;
use super::slice::Slice;
use super::unit_failures::{Answer, answer};
use super::unit_rows::{Labels, Measurements, failed_rows, trained_rows};
use crate::device;
use crate::protocol::Job;

/// What the units of a bundle are trained with.
pub(super) struct Race<'a> {
    pub(super) job: &'a Job,
    pub(super) task: &'a Evaluate,
    pub(super) recipe: &'a Recipe,
    pub(super) dataset: &'a PreparedDataset,
    pub(super) device: Device,
    pub(super) evaluation_batches: &'a mut EvaluationBatches,
}

/// One unit's training inside a slice of its bundle; counts epochs.
struct Watch<'a, 'b> {
    slice: &'a mut Slice<'b>,
    done: u64,
    total: u64,
    rung: Option<u32>,
    is_at_rung: bool,
    is_over: bool,
}

impl Observer for Watch<'_, '_> {
    fn epoch(&mut self, row: EpochRow) -> ControlFlow<()> {
        self.done += 1;
        self.is_at_rung = self.rung == Some(row.epoch + 1);
        ControlFlow::Continue(())
    }

    fn batch(&mut self) -> ControlFlow<()> {
        self.slice.progress(self.done, self.total);
        self.is_over = self.slice.is_over();
        if self.is_over || self.is_at_rung { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl<'a> Race<'a> {
    /// Goes on until all units are settled, or the slice is over; whether they are.
    pub(super) fn run(
        &mut self,
        bundle: &mut Bundle,
        slice: &mut Slice<'_>,
        let_run: &mut LetRun<'_>,
    ) -> anyhow::Result<bool> {
        // Alone a unit has nobody to be compared with.
        let halving = self.task.recipe.halving.as_ref().filter(|_| bundle.units.len() > 1);
        loop {
            let rung = halving.and_then(|halving| halving.rungs.get(bundle.rungs_passed).copied());
            for place in 0..bundle.units.len() {
                if bundle.units[place].is_at_rest(rung) {
                    continue;
                }
                let (done, total) = bundle.progress(self.task);
                let mut watch = Watch { slice, done, total, rung, is_at_rung: false, is_over: false };
                self.work_on(bundle, place, None, |training| let_run(training, &mut watch))?;
                if watch.is_over && matches!(bundle.units[place], UnitState::Paused(_)) {
                    return Ok(false);
                }
            }
            let (Some(halving), Some(rung)) = (halving, rung) else { return Ok(true) };
            for (place, reason) in self.worse_ones(bundle, halving, rung)? {
                self.work_on(bundle, place, Some(reason), |training| {
                    Ok(Run::Finished(Box::new(training.stopped()?)))
                })?;
                let (done, total) = bundle.progress(self.task);
                slice.progress(done, total);
            }
            bundle.rungs_passed += 1;
        }
    }

    /// The units that wait at a rung and do not go on, and why.
    fn worse_ones(
        &self,
        bundle: &Bundle,
        halving: &Halving,
        rung: u32,
    ) -> Result<Vec<(usize, String)>, BadInput> {
        let (mut waiting, mut figures) = (Vec::new(), Vec::new());
        for (place, state) in bundle.units.iter().enumerate() {
            if let UnitState::Paused(unit) = state {
                let dataset = || BadInput::NotValidated { dataset: self.dataset.dataset.clone() };
                figures.push(figure_at(halving.by, rung, &unit.curves).ok_or_else(dataset)?);
                waiting.push(place);
            }
        }
        let (by, kept, of) = (halving.by.name(), halving.kept(waiting.len()), waiting.len());
        let standings = waiting.into_iter().zip(halving.standings(&figures));
        let stopped = standings.filter(|(_, standing)| !standing.goes_on);
        let told = stopped.map(|(place, Standing { rank, .. })| {
            (place, format!("after epoch {rung}: place {rank} of {of} by {by}, and the rung keeps {kept}"))
        });
        Ok(told.collect())
    }

    /// Lets `act` get on with a unit's training, and enters what becomes of the unit. `reason` says why it is stopped,
    /// where it is.
    fn work_on(
        &mut self,
        bundle: &mut Bundle,
        place: usize,
        reason: Option<String>,
        act: impl FnOnce(Training<'a>) -> metad2a_networks::Result<Run<'a>>,
    ) -> anyhow::Result<()> {
        let (task, unit) = (self.task, &self.task.units[place]);
        let unit_id = task.unit_id(unit);
        let (task_id, dataset, device) = (self.job.id.as_str(), self.dataset, &device::name(self.device));
        let labels = Labels { task_id, task, unit, unit_id: &unit_id, dataset, device };
        let memory = PeakMemory::from_now(self.device);
        let (ready, peak_before) = match &bundle.units[place] {
            UnitState::New => (Training::new(unit.cell, self.recipe, &dataset.data, &unit_id), Some(0)),
            UnitState::Paused(PausedUnit { checkpoint, peak_memory_bytes, .. }) => (
                Training::resume(unit.cell, self.recipe, &dataset.data, &unit_id, checkpoint),
                *peak_memory_bytes,
            ),
            UnitState::Settled(_) => return Ok(()),
        };
        let peak = || Some(memory.bytes()?.max(peak_before?));
        let rows = match ready.and_then(|training| self.with_fitting_batch(training, &unit_id, act)) {
            Ok(Run::Paused(training)) => {
                bundle.units[place] = UnitState::Paused(PausedUnit::of(&training, peak())?);
                return Ok(());
            }
            Ok(Run::Finished(trained)) => {
                let mut measured = Measurements { peak_memory_bytes: peak(), ..Measurements::default() };
                if self.job.envelope.measure_latency && trained.status == Status::Completed {
                    measured.latency_batch_1 = latency(&trained.network, 1, self.recipe.image_size);
                    measured.latency_batch_64 = latency(&trained.network, 64, self.recipe.image_size);
                }
                trained_rows(&labels, &trained, reason, &measured)
            }
            Err(error) => match answer(&error, task.recipe.batch_size, self.is_last_attempt()) {
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
        };
        bundle.units[place] = UnitState::Settled(Box::new(rows));
        Ok(())
    }

    /// Takes figures of as many pictures at once as are known to fit, and remembers it where fewer do.
    fn with_fitting_batch(
        &mut self,
        training: Training<'a>,
        unit: &str,
        act: impl FnOnce(Training<'a>) -> metad2a_networks::Result<Run<'a>>,
    ) -> metad2a_networks::Result<Run<'a>> {
        let sizes = (self.task.recipe.id(), self.dataset.dataset.clone());
        let training = match self.evaluation_batches.get(&sizes) {
            Some(pictures) => training.with_evaluation_batch(*pictures),
            None => training,
        };
        let usual = training.evaluation_batch();
        let run = act(training)?;
        let fitting = match &run {
            Run::Finished(trained) => trained.evaluation_batch,
            Run::Paused(training) => training.evaluation_batch(),
        };
        if fitting < usual {
            tracing::warn!(unit, fitting, "memory is short: figures are taken of fewer pictures at once");
            self.evaluation_batches.insert(sizes, fitting);
        }
        Ok(run)
    }

    fn is_last_attempt(&self) -> bool {
        let envelope = &self.job.envelope;
        envelope.failures.len() + 1 >= envelope.max_attempts as usize
    }
}

/// What a unit is compared by at a rung; `None` where it was not measured.
fn figure_at(by: Signal, rung: u32, curves: &[EpochRow]) -> Option<f64> {
    let epochs = &curves[..rung as usize];
    match by {
        Signal::TrainLossSum => Some(epochs.iter().map(|epoch| epoch.train_loss).sum()),
        Signal::ValidAccuracy => epochs.last()?.valid_accuracy,
    }
}

/// A measurement that does not work out costs a figure, not the training.
fn latency(network: &Network, pictures: i64, image_size: i64) -> Option<Latency> {
    let latency = network.latency(pictures, image_size);
    latency.inspect_err(|error| tracing::warn!(pictures, "the latency cannot be measured: {error}")).ok()
}
