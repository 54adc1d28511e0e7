//! What is to be done next: the pure heart of the coordinator.
//!
//! ```text
//!   Study ──────────┐
//!                   ├─► Planner ─► tasks that may run now, place by place
//!   Existing ───────┘   ▲    │     choices to freeze, rounds to merge
//!   (markers,           │    ▼     progress by stage, outcome
//!    decisions)   facts, ages of tasks in flight
//! ```
//!
//! The shell lists the store, makes a [`Planner`], does what [`Planner::step`] says, tells it what it learnt, and asks
//! again. Every step is a task with an id of its content or a put-if-absent record, so that two coordinators, or one
//! that died and started again, do no harm. What is learnt costs what it changes, not what the study holds.
//!
//! **Invariant:** for the same study, the same finished tasks, the same decisions and the same ages the plan is the
//! same, whether the planner learnt of them one by one or read them all at once.
//! Deliberately absent: a clock, and what is in flight. The shell remembers what it has published, and hands ages in.

mod around_best;
mod board;
mod evaluations;
mod existing;
mod flight;
mod open;
mod published;
mod refresh;
mod results;
mod searches;
mod stages;
mod state;
#[cfg(test)]
mod tests;
mod track;
mod training;

use std::borrow::Cow;
use std::collections::BTreeMap;

pub use around_best::WantedCells;
pub use existing::{Done, Existing, Fact, Failure};
pub use flight::{Age, Flight};
pub use published::{Learnt, Published, PublishedModel};
pub use refresh::{Chosen, Gated, Parent};
pub use results::{Results, SearchResult};
use serde_json::Value;
pub use stages::{Place, Progress, Stage};
pub use state::Planner;
pub use training::{ModelSelected, RoundClosed, RoundMetrics, ShardResult, training_id};

use crate::study::Study;
use crate::tasks::{Blob, Model, OuterStep, Task};
use crate::training_set::ChosenSet;

/// A record that cannot be what its name says: another program wrote it, or it is damaged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("decision `{id}` is not a {expected}: {source}; was it written by another version?")]
    Decision { id: String, expected: &'static str, source: serde_json::Error },
    #[error("task `{id}` is done, but its marker's summary is not that of a {expected} task")]
    Summary { id: String, expected: &'static str },
}

/// A choice to be written down before it is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Freeze {
    /// Id of the decision record.
    pub id: String,
    pub decision: &'static str,
    pub detail: Value,
}

/// A round that closes: the outer step is due, and its result is frozen as a [`RoundClosed`] under `id`.
#[derive(Debug, Clone, PartialEq)]
pub struct Merge {
    /// Id of the decision record.
    pub id: String,
    pub model: Model,
    pub round: u32,
    /// The accepted shards, in shard order.
    pub shards: Vec<ShardResult>,
    /// Their numbers, where a quorum closes the round without some; empty where all are in.
    pub accepted: Vec<u32>,
    /// Of every shard the optimiser state of its last accepted round, this one included.
    pub optimisers: Vec<Option<Blob>>,
    /// Momentum of the round before; none in the first.
    pub momentum: Option<Blob>,
    pub outer: OuterStep,
}

/// Where a run stands as a whole.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Something is left to do.
    Running,
    /// Everything that can be done is done.
    Finished(Box<Results>),
    /// Nothing can be done: too much has failed.
    Blocked(String),
}

/// What the shell has to do, beside publishing open tasks.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// To be written under its id before anything of `freeze`, which names it.
    pub training_set: Option<ChosenSet>,
    /// To be written in this order.
    pub freeze: Vec<Freeze>,
    /// Cells to be chosen by results, and frozen.
    pub around_best: Option<WantedCells>,
    pub merge: Vec<Merge>,
    /// Ids of open tasks in flight whose deadline has passed: to be published again.
    pub overdue: Vec<String>,
    pub stages: BTreeMap<Stage, Progress>,
    pub outcome: Outcome,
}

/// Everything at once, for whoever asks a single time.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Tasks whose inputs are there and that are not done, the most urgent first.
    pub enqueue: Vec<Task>,
    /// To be written under its id before anything of `freeze`, which names it.
    pub training_set: Option<ChosenSet>,
    /// To be written in this order.
    pub freeze: Vec<Freeze>,
    /// Cells to be chosen by results, and frozen.
    pub around_best: Option<WantedCells>,
    pub merge: Vec<Merge>,
    pub stages: BTreeMap<Stage, Progress>,
    /// What failed for good, one line each.
    pub problems: Vec<String>,
    pub outcome: Outcome,
}

/// Decides what is to be done for `study`, given what exists and that nothing is in flight.
pub fn plan(study: &Study, existing: &Existing) -> Result<Plan, Error> {
    let mut planner = Planner::over(study, Cow::Borrowed(existing));
    let Step { training_set, freeze, around_best, merge, stages, outcome, .. } =
        planner.step(&Flight::default())?;
    let enqueue =
        planner.open_places().flat_map(|place| planner.tasks(place)).map(|(_, task)| task).collect();
    let problems = planner.problems();
    Ok(Plan { enqueue, training_set, freeze, around_best, merge, stages, problems, outcome })
}
