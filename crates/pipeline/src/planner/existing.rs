//! What the store holds, as far as planning needs it.
//!
//! A store of hundreds of thousands of finished tasks must fit into memory, so ids are kept as their 32 bytes, and of
//! the summaries only those that a plan reads: those of shards, validations and searches.

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Error;
use crate::ids::Id;
use crate::tasks::{Summary, Task};

/// A finished task: what its marker says.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    pub summary: Summary,
    /// Ids of the units of an `evaluate` task.
    pub units: Vec<String>,
}

/// A task that was given up.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    pub reasons: Vec<String>,
    /// The task as it was given up, where the record holds it.
    pub task: Option<Task>,
}

impl Failure {
    /// The reason of the last attempt.
    pub fn last_reason(&self) -> &str {
        self.reasons.last().map_or("no reason was recorded", String::as_str)
    }
}

/// One thing that the store turned out to hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    Done {
        id: String,
        done: Done,
    },
    Failed {
        id: String,
        failure: Failure,
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
    /// Unit → given-up tasks that hold it.
    failed_units: HashMap<Id, Vec<Id>>,
    /// Failures whose record does not hold the task: only its id can tell what was given up.
    taskless: usize,
    frozen: HashMap<String, Value>,
}

impl Existing {
    pub fn learn(&mut self, fact: Fact) {
        match fact {
            Fact::Done { id, done } => self.add_done(&id, done),
            Fact::Failed { id, failure } => self.add_failure(&id, failure),
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
        let summary = match done.summary {
            Summary::Features { .. } | Summary::Evaluations { .. } => None,
            kept @ (Summary::Shard { .. } | Summary::Validation { .. } | Summary::Search { .. }) => {
                Some(Box::new(kept))
            }
        };
        self.done.insert(id, summary);
    }

    pub fn add_failure(&mut self, id: &str, failure: Failure) {
        let Some(id) = Id::parse(id) else { return };
        match &failure.task {
            Some(Task::Evaluate(task)) => {
                let (dataset, recipe) = (task.dataset.id(), task.recipe.id());
                for unit in &task.units {
                    let unit = crate::tasks::unit_of(&dataset, &recipe, unit);
                    self.failed_units.entry(unit).or_default().push(id);
                }
            }
            Some(_) => {}
            None => self.taskless += 1,
        }
        self.failures.insert(id, failure);
    }

    /// Adds the detail of a decision record that freezes a choice.
    pub fn add_frozen(&mut self, id: String, detail: Value) {
        self.frozen.insert(id, detail);
    }

    /// How many tasks are finished.
    pub fn count_done(&self) -> u64 {
        self.done.len() as u64
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

    /// Whether the unit was given up, in company or alone. `single` is the task that trains it alone, for records
    /// that do not hold theirs.
    pub(super) fn is_given_up(&self, unit: Id, single: impl FnOnce() -> Task) -> bool {
        let tasks = self.failed_units.get(&unit).map(Vec::as_slice).unwrap_or_default();
        tasks.iter().any(|task| self.failure_of(*task).is_some())
            || (self.taskless > 0 && self.failure(&single().id()).is_some())
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
