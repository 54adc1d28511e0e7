//! How far a bundle of units is: the rows of the finished ones, and the training that was paused.

use metad2a_database::Checkpoint;
use metad2a_database::tables::{CurveRow, EvaluationRow};
use metad2a_networks::{PreparedData, Recipe, Training};
use metad2a_pipeline::tasks::Evaluate;
use serde::{Deserialize, Serialize};

use super::Engine;
use super::checkpoints::{BadCheckpoint, belongs};
use crate::protocol::{Job, Paused};

/// Raised when the form changes; a newer version's checkpoints are passed over. 2: with the memory that was used.
const VERSION: u32 = 2;

/// The rows of a finished unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UnitRows {
    pub(super) evaluation: EvaluationRow,
    pub(super) curves: Vec<CurveRow>,
}

/// A bundle between two batches.
#[derive(Default)]
pub(super) struct Bundle<'a> {
    /// Of the first units, in their order.
    pub(super) finished: Vec<UnitRows>,
    /// The next one.
    pub(super) paused: Option<PausedUnit<'a>>,
}

/// A unit between two batches.
pub(super) struct PausedUnit<'a> {
    pub(super) training: Training<'a>,
    /// The most memory that was used so far; `None` where it is not known of every slice.
    pub(super) peak_memory_bytes: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    version: u32,
    task: String,
    finished: Vec<UnitRows>,
    /// Of the paused unit; absent in the first form.
    #[serde(default)]
    peak_memory_bytes: Option<u64>,
}

impl<'a> Bundle<'a> {
    /// A bundle as [`Bundle::save`] left it.
    pub(super) fn load(
        engine: &Engine,
        checkpoint: &Checkpoint,
        task: &Evaluate,
        recipe: &Recipe,
        data: &'a PreparedData,
    ) -> anyhow::Result<Self> {
        let (state, tensors): (State, _) = engine.load(checkpoint)?;
        belongs((1..=VERSION).contains(&state.version), || {
            format!("it has form {}, this program knows {VERSION}", state.version)
        })?;
        belongs(state.task == checkpoint.id, || format!("it is of task `{}`", state.task))?;
        let ids: Vec<String> = task.units.iter().map(|unit| task.unit_id(unit)).collect();
        let found = state.finished.iter().map(|rows| &rows.evaluation.unit_id);
        belongs(state.finished.len() < ids.len() && found.eq(&ids[..state.finished.len()]), || {
            "its finished units are not the first ones of this bundle".to_owned()
        })?;
        let [training] = &tensors[..] else {
            let rule = format!("it has {} files of tensors where a paused training has one", tensors.len());
            return Err(BadCheckpoint::Foreign(rule).into());
        };
        let place = state.finished.len();
        let training = Training::resume(task.units[place].cell, recipe, data, &ids[place], training)?;
        let paused = PausedUnit { training, peak_memory_bytes: state.peak_memory_bytes };
        Ok(Self { finished: state.finished, paused: Some(paused) })
    }

    /// Stores rows and the paused unit for the next slice.
    pub(super) fn save(
        engine: &Engine,
        job: &Job,
        finished: Vec<UnitRows>,
        paused: &PausedUnit<'_>,
        total: u64,
    ) -> anyhow::Result<Paused> {
        let epochs: usize = finished.iter().map(|rows| rows.curves.len()).sum();
        let done = epochs as u64 + u64::from(paused.training.epochs_done());
        let peak_memory_bytes = paused.peak_memory_bytes;
        let state = State { version: VERSION, task: job.id.clone(), finished, peak_memory_bytes };
        let files = engine.save(job, &state, vec![paused.training.to_checkpoint()?])?;
        Ok(Paused { files, done, total })
    }
}
