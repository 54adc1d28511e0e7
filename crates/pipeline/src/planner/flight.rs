//! Time, as the planner sees it: a value that the shell hands in.

use std::collections::HashMap;
use std::time::Duration;

/// How long a task that was published and is not settled has been out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    /// Since it was published for the first time.
    pub first: Duration,
    /// Since it was published for the last time: a task that is overdue is published again.
    pub last: Duration,
}

/// The ages of tasks in flight, by id. Whoever was only just started knows of none: its deadlines begin anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flight {
    ages: HashMap<String, Age>,
}

impl Flight {
    pub fn add(&mut self, id: String, age: Age) {
        self.ages.insert(id, age);
    }

    pub(super) fn age(&self, id: &str) -> Option<Age> {
        self.ages.get(id).copied()
    }
}
