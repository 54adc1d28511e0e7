//! What the leader knows and others want to see: `<pipeline>/runs/<run-id>/progress.json`.
//!
//! ```text
//!   plans, events ─► Picture (pure) ─► writer, at most every 2 s and only where something changed ─► store
//!                                                                    `metad2a status` and `watch` ◄──┘
//! ```
//!
//! Events have one reader, so others can see what happens only through the leader. A hint: planning never reads it, it
//! may be old or missing, and losing it costs nothing but a display.

mod picture;
mod writer;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use metad2a_pipeline::planner::{Progress, Stage};
use serde::{Deserialize, Serialize};

pub(crate) use picture::Picture;
#[cfg(test)]
pub(crate) use picture::tests;
pub(crate) use writer::{Watched, begin};

/// Name of the file beside the run's specification.
pub(crate) const FILE: &str = "progress.json";

/// How a run goes, as its leader saw it last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hint {
    pub(crate) pipeline: String,
    pub(crate) run_id: String,
    /// The leader's name, as the queue knows it.
    pub(crate) holder: String,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) written_at: DateTime<Utc>,
    /// Absent while the run goes on.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) stages: BTreeMap<Stage, StageHint>,
    /// By name.
    pub(crate) workers: Vec<WorkerHint>,
    /// Published and not yet settled; only the first of very many.
    pub(crate) in_flight: Vec<TaskHint>,
    pub(crate) in_flight_total: u64,
    /// Attempts of this run that failed and were tried again.
    pub(crate) retries: u64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) exit_code: u8,
    pub(crate) message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct StageHint {
    #[serde(flatten)]
    pub(crate) progress: Progress,
    /// Units of the stage.
    pub(crate) per_second: Option<f64>,
    pub(crate) seconds_left: Option<f64>,
}

/// A slot of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct WorkerHint {
    pub(crate) name: String,
    pub(crate) heard_at: DateTime<Utc>,
    /// Absent while it waits for the next task.
    pub(crate) busy: Option<Busy>,
}

/// What a slot works on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Busy {
    #[serde(flatten)]
    pub(crate) task: TaskHint,
    pub(crate) since: DateTime<Utc>,
    /// In the kind's own unit, once the worker has told.
    pub(crate) progress: Option<(u64, u64)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct TaskHint {
    pub(crate) id: String,
    pub(crate) kind: String,
}

/// Which run it is.
#[derive(Debug, Clone)]
pub(crate) struct RunName {
    pub(crate) pipeline: String,
    pub(crate) run_id: String,
    pub(crate) holder: String,
    pub(crate) started_at: DateTime<Utc>,
}
