//! How far a bundle of units is: the rows of the settled ones, and the trainings that are paused.

use anyhow::Context;
use bytes::Bytes;
use metad2a_database::Checkpoint;
use metad2a_database::tables::{CurveRow, EvaluationRow};
use metad2a_networks::{EpochRow, PreparedData, Recipe, Training};
use metad2a_pipeline::halving::Halving;
use metad2a_pipeline::tasks::Evaluate;
use serde::{Deserialize, Serialize};

use super::Engine;
use super::checkpoints::belongs;
use crate::protocol::{Job, Paused};

/// Raised when the form changes; a newer version's checkpoints are passed over. 2: with the memory that was used.
/// 3: several trainings may be paused, and rungs be passed.
const VERSION: u32 = 3;

/// The rows of a settled unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UnitRows {
    pub(super) evaluation: EvaluationRow,
    pub(super) curves: Vec<CurveRow>,
}

/// What became of a unit so far.
pub(super) enum UnitState {
    New,
    Paused(PausedUnit),
    Settled(Box<UnitRows>),
}

/// A unit between two batches. Its network waits as bytes, so that a device holds one at a time.
pub(super) struct PausedUnit {
    pub(super) checkpoint: Bytes,
    /// Of its finished epochs.
    pub(super) curves: Vec<EpochRow>,
    /// The most memory that was used so far; `None` where it is not known of every slice.
    pub(super) peak_memory_bytes: Option<u64>,
}

impl PausedUnit {
    pub(super) fn of(training: &Training<'_>, peak_memory_bytes: Option<u64>) -> anyhow::Result<Self> {
        let checkpoint = training.to_checkpoint().context("a paused training has no checkpoint")?.into();
        Ok(Self { checkpoint, curves: training.curves().to_vec(), peak_memory_bytes })
    }
}

impl UnitState {
    /// Whether there is nothing to be trained before this rung, or the end where there is none.
    pub(super) fn is_at_rest(&self, rung: Option<u32>) -> bool {
        match self {
            Self::New => false,
            Self::Paused(unit) => rung.is_some_and(|rung| unit.curves.len() as u32 >= rung),
            Self::Settled(_) => true,
        }
    }

    /// Epochs of the unit that are done or will never be, of so many.
    fn epochs_behind(&self, epochs: u32) -> u32 {
        match self {
            Self::New => 0,
            Self::Paused(unit) => unit.curves.len() as u32,
            Self::Settled(_) => epochs,
        }
    }
}

/// A bundle between two batches.
pub(super) struct Bundle {
    /// Of all units, in their order.
    pub(super) units: Vec<UnitState>,
    /// Rungs at which units were compared and stopped.
    pub(super) rungs_passed: usize,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    version: u32,
    task: String,
    finished: Vec<UnitRows>,
    /// Of the units whose files of tensors follow, in their order; absent in the forms before 3.
    #[serde(default)]
    paused: Vec<StoredPause>,
    #[serde(default)]
    rungs_passed: usize,
    /// Of the one paused unit in form 2.
    #[serde(default, skip_serializing)]
    peak_memory_bytes: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredPause {
    unit_id: String,
    peak_memory_bytes: Option<u64>,
}

impl Bundle {
    pub(super) fn new(units: usize) -> Self {
        Self { units: (0..units).map(|_| UnitState::New).collect(), rungs_passed: 0 }
    }

    /// A bundle as [`Bundle::save`] left it.
    pub(super) fn load(
        engine: &Engine,
        job: &Job,
        checkpoint: &Checkpoint,
        task: &Evaluate,
        recipe: &Recipe,
        data: &PreparedData,
    ) -> anyhow::Result<Self> {
        let (mut state, tensors): (State, _) = engine.load(checkpoint)?;
        belongs((1..=VERSION).contains(&state.version), || {
            format!("it has form {}, this program knows {VERSION}", state.version)
        })?;
        belongs(state.task == job.id, || format!("it is of task `{}`", state.task))?;
        let ids: Vec<String> = task.units.iter().map(|unit| task.unit_id(unit)).collect();
        if state.version < 3 {
            let finished = state.finished.len();
            belongs(finished < ids.len(), || "it holds the rows of all units".to_owned())?;
            let peak_memory_bytes = state.peak_memory_bytes;
            state.paused = vec![StoredPause { unit_id: ids[finished].clone(), peak_memory_bytes }];
        }
        belongs(tensors.len() == state.paused.len(), || {
            format!("it has {} files of tensors for {} paused trainings", tensors.len(), state.paused.len())
        })?;
        let mut bundle = Self { rungs_passed: state.rungs_passed, ..Self::new(ids.len()) };
        for rows in state.finished {
            let place = bundle.place_of(&rows.evaluation.unit_id, &ids)?;
            bundle.units[place] = UnitState::Settled(Box::new(rows));
        }
        for (paused, checkpoint) in state.paused.into_iter().zip(tensors) {
            let place = bundle.place_of(&paused.unit_id, &ids)?;
            // Whether it can be gone on from is found out here, where an older checkpoint may take its place.
            let training = Training::resume(task.units[place].cell, recipe, data, &ids[place], &checkpoint)?;
            let curves = training.curves().to_vec();
            let peak_memory_bytes = paused.peak_memory_bytes;
            bundle.units[place] = UnitState::Paused(PausedUnit { checkpoint, curves, peak_memory_bytes });
        }
        let reached = bundle.rung_passed(task.recipe.halving.as_ref());
        let is_there =
            |unit: &UnitState| reached.is_some_and(|rung| unit.epochs_behind(task.recipe.epochs) >= rung);
        belongs(bundle.units.iter().all(is_there), || {
            format!("no bundle has passed {} rungs with these units", bundle.rungs_passed)
        })?;
        Ok(bundle)
    }

    /// The place of a unit that nothing is known of yet.
    fn place_of(&self, unit_id: &str, ids: &[String]) -> anyhow::Result<usize> {
        let place = ids.iter().position(|id| id == unit_id);
        let free = place.filter(|place| matches!(self.units[*place], UnitState::New));
        belongs(free.is_some(), || format!("unit `{unit_id}` is not of this bundle, or in it twice"))?;
        free.context("a place that was found")
    }

    /// The epoch of the last rung that was passed, 0 before the first; `None` where there is no such rung.
    fn rung_passed(&self, halving: Option<&Halving>) -> Option<u32> {
        let Some(last) = self.rungs_passed.checked_sub(1) else { return Some(0) };
        halving?.rungs.get(last).copied()
    }

    /// How many epochs are done, or need not be any more, of how many.
    pub(super) fn progress(&self, task: &Evaluate) -> (u64, u64) {
        let epochs = task.recipe.epochs;
        let behind = self.units.iter().map(|unit| u64::from(unit.epochs_behind(epochs)));
        (behind.sum(), self.units.len() as u64 * u64::from(epochs))
    }

    /// The rows of the settled units, in the order of the units.
    pub(super) fn into_rows(self) -> Vec<UnitRows> {
        let settled = self.units.into_iter().filter_map(|unit| match unit {
            UnitState::Settled(rows) => Some(*rows),
            UnitState::New | UnitState::Paused(_) => None,
        });
        settled.collect()
    }

    /// Stores rows and paused units for the next slice.
    pub(super) fn save(self, engine: &Engine, job: &Job, task: &Evaluate) -> anyhow::Result<Paused> {
        let (done, total) = self.progress(task);
        let (mut finished, mut paused, mut tensors) = (Vec::new(), Vec::new(), Vec::new());
        for (unit, state) in task.units.iter().zip(self.units) {
            match state {
                UnitState::New => {}
                UnitState::Paused(PausedUnit { checkpoint, peak_memory_bytes, .. }) => {
                    paused.push(StoredPause { unit_id: task.unit_id(unit), peak_memory_bytes });
                    tensors.push(checkpoint);
                }
                UnitState::Settled(rows) => finished.push(*rows),
            }
        }
        let rungs_passed = self.rungs_passed;
        let task = job.id.clone();
        let state = State { version: VERSION, task, finished, paused, rungs_passed, peak_memory_bytes: None };
        let files = engine.save(job, &state, tensors)?;
        Ok(Paused { files, done, total })
    }
}
