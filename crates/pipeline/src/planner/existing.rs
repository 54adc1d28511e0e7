//! What the store holds, as far as planning needs it.
//!
//! A store of hundreds of thousands of finished tasks must fit into memory, so ids are kept as their 32 bytes, and of
//! the summaries only those that a plan reads: those of shards, validations and searches.

use std::collections::{BTreeMap, HashMap};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Error, Published};
use crate::ids::Id;
use crate::imports::{ImportSummary, Imports};
use crate::tasks::{Kind, Summary, Task};
use crate::verdict::Verdict;

/// A finished task: what its marker says.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    pub summary: Summary,
    /// Ids of the units of an `evaluate` task.
    pub units: Vec<String>,
}

/// A task that is not to be done, unless a later decision lifts that.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Given up, cancelled or dropped.
    pub verdict: Verdict,
    pub reasons: Vec<String>,
    /// The task as it was stopped, where the record holds it.
    pub task: Option<Task>,
}

impl Failure {
    /// The reason of the last attempt.
    pub fn last_reason(&self) -> &str {
        self.reasons.last().map_or("no reason was recorded", String::as_str)
    }

    /// Whether somebody should look at it.
    pub fn is_problem(&self) -> bool {
        self.verdict == Verdict::Failed
    }

    /// The end of a sentence about the task of this id.
    pub(super) fn told(&self, id: &str) -> String {
        match self.verdict {
            Verdict::Cancelled => {
                format!("was cancelled; `metad2a tasks retry {}` lifts that", id.get(..12).unwrap_or(id))
            }
            Verdict::Failed | Verdict::Dropped | Verdict::Retry => format!("failed: {}", self.last_reason()),
        }
    }

    /// The units that the task would have trained.
    fn units(&self) -> Vec<Id> {
        let Some(Task::Evaluate(task)) = &self.task else { return Vec::new() };
        let (dataset, recipe) = (task.dataset.id(), task.recipe.id());
        task.units.iter().map(|unit| crate::tasks::unit_of(&dataset, &recipe, unit)).collect()
    }
}

/// One thing that the store turned out to hold.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "facts are made and learnt one by one")]
pub enum Fact {
    Done {
        id: String,
        done: Done,
    },
    Failed {
        id: String,
        failure: Failure,
    },
    /// What stopped a task holds no longer.
    Lifted {
        id: String,
    },
    /// The detail of a decision record that freezes a choice.
    Frozen {
        id: String,
        detail: Value,
    },
}

/// Finished tasks, failures and frozen choices, each by id.
///
/// An id that is no content id belongs to something that no plan asks for, and is left out.
#[derive(Debug, Clone, Default)]
pub struct Existing {
    /// With the summary, where a plan reads it.
    done: HashMap<Id, Option<Box<Summary>>>,
    /// Unit → position in `holders` of the task that holds its row.
    units: HashMap<Id, u32>,
    holders: Vec<Id>,
    failures: HashMap<Id, Failure>,
    /// Unit → stopped tasks that hold it.
    failed_units: HashMap<Id, Vec<Id>>,
    /// Failures whose record does not hold the task: only its id can tell what was given up.
    taskless: usize,
    frozen: HashMap<String, Value>,
    /// Finished tasks.
    counts: BTreeMap<Kind, u64>,
    published: Vec<Published>,
    imports: Imports,
}

impl Existing {
    pub fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Done { id, done } => self.add_done(&id, done),
            Fact::Failed { id, failure } => self.add_failure(&id, failure),
            Fact::Lifted { id } => {
                self.lift_failure(&id);
            }
            Fact::Frozen { id, detail } => self.add_frozen(id, detail),
        }
    }

    pub fn add_done(&mut self, id: &str, done: Done) {
        let Some(id) = Id::parse(id) else { return };
        if !done.units.is_empty() {
            let position = self.holders.len() as u32;
            self.holders.push(id);
            for unit in done.units.iter().filter_map(|unit| Id::parse(unit)) {
                // The smallest id holds, whatever the order of listing: two bundles may share a unit.
                let holder = self.units.entry(unit).or_insert(position);
                if id < self.holders[*holder as usize] {
                    *holder = position;
                }
            }
        }
        if !self.done.contains_key(&id) {
            *self.counts.entry(done.summary.kind()).or_default() += 1;
        }
        let summary = match done.summary {
            Summary::Features { .. } | Summary::Evaluations { .. } => None,
            kept @ (Summary::Shard { .. } | Summary::Validation { .. } | Summary::Search { .. }) => {
                Some(Box::new(kept))
            }
        };
        self.done.insert(id, summary);
    }

    /// Enters a stopped task; what was known of it before is forgotten.
    pub fn add_failure(&mut self, id: &str, failure: Failure) {
        self.lift_failure(id);
        let Some(id) = Id::parse(id) else { return };
        self.taskless += usize::from(failure.task.is_none());
        for unit in failure.units() {
            self.failed_units.entry(unit).or_default().push(id);
        }
        self.failures.insert(id, failure);
    }

    /// Forgets that a task was stopped; whether it was.
    pub fn lift_failure(&mut self, id: &str) -> bool {
        let Some((id, failure)) = Id::parse(id).and_then(|id| self.failures.remove_entry(&id)) else {
            return false;
        };
        self.taskless -= usize::from(failure.task.is_none());
        for unit in failure.units() {
            if let Some(tasks) = self.failed_units.get_mut(&unit) {
                tasks.retain(|task| *task != id);
            }
        }
        true
    }

    pub fn add_import(&mut self, id: String, import: ImportSummary) {
        self.imports.insert(id, import);
    }

    /// The store's imports, whether or not a pipeline names them.
    pub fn imports(&self) -> &Imports {
        &self.imports
    }

    /// Adds the detail of a decision record that freezes a choice.
    pub fn add_frozen(&mut self, id: String, detail: Value) {
        self.frozen.insert(id, detail);
    }

    /// How many tasks are finished.
    pub fn count_done(&self) -> u64 {
        self.done.len() as u64
    }

    /// How many tasks of each kind are finished.
    pub fn count_by_kind(&self) -> &BTreeMap<Kind, u64> {
        &self.counts
    }

    /// How many trainings of cells are finished.
    pub fn count_units(&self) -> u64 {
        self.units.len() as u64
    }

    /// Tells of the models of the last few snapshots, newest first.
    pub fn set_published(&mut self, published: Vec<Published>) {
        self.published = published;
    }

    pub(super) fn published(&self) -> &[Published] {
        &self.published
    }

    pub fn is_done(&self, id: &str) -> bool {
        Id::parse(id).is_some_and(|id| self.done.contains_key(&id))
    }

    /// The summary of a finished shard, validation or search.
    pub fn summary(&self, id: &str) -> Option<&Summary> {
        self.done.get(&Id::parse(id)?)?.as_deref()
    }

    /// A failure counts only while the task is not done: the last worker may have finished after all.
    pub fn failure(&self, id: &str) -> Option<&Failure> {
        self.failure_of(Id::parse(id)?)
    }

    fn failure_of(&self, id: Id) -> Option<&Failure> {
        self.failures.get(&id).filter(|_| !self.done.contains_key(&id))
    }

    /// The task that holds the unit's row.
    pub fn holder_of(&self, unit: Id) -> Option<Id> {
        self.units.get(&unit).map(|position| self.holders[*position as usize])
    }

    pub(super) fn has_row(&self, unit: Id) -> bool {
        self.units.contains_key(&unit)
    }

    /// What holds for a unit through the stopped tasks that it is part of, in company or alone: a person's word before
    /// a failure. `single` is the task that trains it alone, for records that do not hold theirs.
    pub(super) fn verdict_on(&self, unit: Id, single: impl FnOnce() -> Task) -> Option<Verdict> {
        let tasks = self.failed_units.get(&unit).map(Vec::as_slice).unwrap_or_default();
        let named =
            tasks.iter().filter_map(|task| self.failure_of(*task)).map(|failure| failure.verdict).max();
        let unnamed = || self.failure(&single().id()).map(|failure| failure.verdict);
        named.or_else(|| if self.taskless > 0 { unnamed() } else { None })
    }

    pub(super) fn frozen<T: DeserializeOwned>(
        &self,
        id: &str,
        expected: &'static str,
    ) -> Result<Option<T>, Error> {
        let Some(detail) = self.frozen.get(id) else { return Ok(None) };
        match T::deserialize(detail) {
            Ok(choice) => Ok(Some(choice)),
            Err(source) => Err(Error::Decision { id: id.to_owned(), expected, source }),
        }
    }
}
