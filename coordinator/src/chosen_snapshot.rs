//! The snapshot that a person names.

use anyhow::anyhow;
use metad2a_database::{Snapshot, Store};

use crate::cli::snapshots::SnapshotChoice;
use crate::site::Site;

impl Site {
    /// The snapshot that a reader asks for.
    pub(crate) async fn snapshot(&self, choice: SnapshotChoice) -> anyhow::Result<Snapshot> {
        match &self.store {
            Some(store) => chosen(store, self.pipeline(), choice).await,
            None => Err(no_snapshot(self.pipeline(), choice)),
        }
    }
}

pub(crate) async fn chosen(
    store: &Store,
    pipeline: &str,
    choice: SnapshotChoice,
) -> anyhow::Result<Snapshot> {
    let found = match choice {
        SnapshotChoice::Current => store.current_snapshot(pipeline).await?,
        SnapshotChoice::Number(number) => store.snapshot(pipeline, number).await?,
    };
    found.ok_or_else(|| no_snapshot(pipeline, choice))
}

pub(crate) fn no_snapshot(pipeline: &str, choice: SnapshotChoice) -> anyhow::Error {
    match choice {
        SnapshotChoice::Current => {
            anyhow!("pipeline `{pipeline}` has no snapshot yet; `metad2a run` publishes one")
        }
        SnapshotChoice::Number(number) => {
            anyhow!("pipeline `{pipeline}` has no snapshot {number}; `metad2a snapshots` lists those it has")
        }
    }
}
