//! What a leader works at, and how it learns what became of a task.

use metad2a_database::{FreshMarker, Store};
use metad2a_pipeline::planner::{Fact, Place, Planner};
use metad2a_pipeline::tasks::Task;

use crate::dispatch::Open;
use crate::ledger;

/// What the store holds about a task.
#[expect(clippy::large_enum_variant, reason = "looked up and learnt a few at a time")]
pub(crate) enum Found {
    Done(Box<FreshMarker>),
    Decided(Fact),
    Nothing,
}

/// Reads a task's marker or decision, if there is one.
pub(crate) async fn look_up(store: &Store, kind: &str, id: &str) -> anyhow::Result<Found> {
    if let Some(fresh) = store.fresh_marker(kind, id).await? {
        return Ok(Found::Done(Box::new(fresh)));
    }
    let Some(decision) = store.decision(id).await? else { return Ok(Found::Nothing) };
    Ok(ledger::fact_of_decision(decision)?.map_or(Found::Nothing, Found::Decided))
}

/// What a leader works at: knows what is open, and learns what the store turned out to hold.
pub(crate) trait Work: Open {
    /// Places whose open tasks may be others since the last call.
    fn take_changes(&mut self) -> Vec<Place>;

    fn is_done(&self, id: &str) -> bool;

    fn learn(&mut self, fact: Fact);
}

impl Open for Planner<'_> {
    fn tasks(&self, place: Place) -> Vec<(String, Task)> {
        Planner::tasks(self, place)
    }
}

impl Work for Planner<'_> {
    fn take_changes(&mut self) -> Vec<Place> {
        Planner::take_changes(self)
    }

    fn is_done(&self, id: &str) -> bool {
        self.existing().is_done(id)
    }

    fn learn(&mut self, fact: Fact) {
        Planner::learn(self, fact);
    }
}
