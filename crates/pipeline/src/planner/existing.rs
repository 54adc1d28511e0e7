//! What the store holds, as far as planning needs it.

use std::collections::HashMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Error;
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

/// Finished tasks, failures and frozen choices, each by id.
#[derive(Debug, Clone, Default)]
pub struct Existing {
    done: HashMap<String, Done>,
    /// Unit id → id of the task that holds its row.
    units: HashMap<String, String>,
    failures: HashMap<String, Failure>,
    frozen: HashMap<String, Value>,
}

impl Existing {
    pub fn add_done(&mut self, id: String, done: Done) {
        for unit in &done.units {
            // The smallest id holds, whatever the order of listing: two bundles may share a unit.
            let holder = self.units.entry(unit.clone()).or_insert_with(|| id.clone());
            if id < *holder {
                holder.clone_from(&id);
            }
        }
        self.done.insert(id, done);
    }

    pub fn add_failure(&mut self, id: String, failure: Failure) {
        self.failures.insert(id, failure);
    }

    /// Adds the detail of a decision record that freezes a choice.
    pub fn add_frozen(&mut self, id: String, detail: Value) {
        self.frozen.insert(id, detail);
    }

    pub fn done(&self, id: &str) -> Option<&Done> {
        self.done.get(id)
    }

    /// How many tasks are finished.
    pub fn count_done(&self) -> u64 {
        self.done.len() as u64
    }

    pub fn is_done(&self, id: &str) -> bool {
        self.done.contains_key(id)
    }

    /// A failure counts only while the task is not done: the last worker may have finished after all.
    pub fn failure(&self, id: &str) -> Option<&Failure> {
        self.failures.get(id).filter(|_| !self.is_done(id))
    }

    pub(super) fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.failures.iter().filter(|(id, _)| !self.is_done(id)).map(|(_, failure)| failure)
    }

    /// The task that holds the unit's row.
    pub fn holder_of(&self, unit: &str) -> Option<&str> {
        self.units.get(unit).map(String::as_str)
    }

    pub(super) fn frozen<T: DeserializeOwned>(
        &self,
        id: &str,
        expected: &'static str,
    ) -> Result<Option<T>, Error> {
        let Some(detail) = self.frozen.get(id) else { return Ok(None) };
        match serde_json::from_value(detail.clone()) {
            Ok(choice) => Ok(Some(choice)),
            Err(source) => Err(Error::Decision { id: id.to_owned(), expected, source }),
        }
    }
}
