//! What the store holds, read into the planner's terms.

use std::collections::BTreeMap;

use anyhow::Context;
use metad2a_database::{Decision, FileRef, Marker, Store};
use metad2a_pipeline::planner::{Done, Existing, Fact, Failure};
use metad2a_pipeline::tasks::{Blob, Kind};
use metad2a_pipeline::verdict::{Verdict, VerdictDetail};

use crate::imports;

/// Both of the decision that freezes a set, and of the files that hold it. Plans ask which set was chosen, never where
/// it lies; and earlier builds wrote all of it into the decision.
pub(crate) const TRAINING_SET: &str = "training-set";

/// The number of the newest decision read about each id: what is another one's is news.
pub type Heads = BTreeMap<String, u32>;

/// Lists all markers and decisions.
pub async fn read(store: &Store) -> anyhow::Result<Existing> {
    Ok(read_with_heads(store).await?.0)
}

/// The decisions since `heads`, which are known afterwards.
pub(crate) async fn news(store: &Store, heads: &mut Heads) -> anyhow::Result<Vec<Decision>> {
    Ok(store.newer_decisions(heads, &[TRAINING_SET]).await?)
}

/// As [`read`], with the numbers of the decisions that were read.
pub(crate) async fn read_with_heads(store: &Store) -> anyhow::Result<(Existing, Heads)> {
    let (mut existing, mut heads) = (Existing::default(), Heads::new());
    for decision in news(store, &mut heads).await? {
        if let Some(fact) = fact_of_decision(decision)? {
            existing.learn(fact);
        }
    }
    for (id, import) in imports::read(store).await? {
        existing.add_import(id, import);
    }
    for kind in Kind::ALL {
        let mut unknown = None;
        let learn = |marker| match fact_of_marker(marker) {
            Ok(fact) => existing.learn(fact),
            Err(error) => unknown = Some(error),
        };
        store.each_marker(kind.name(), learn).await?;
        if let Some(error) = unknown {
            return Err(error);
        }
    }
    Ok((existing, heads))
}

pub(crate) fn fact_of_marker(marker: Marker) -> anyhow::Result<Fact> {
    let summary = serde_json::from_value(marker.summary).with_context(|| {
        format!("the marker of {} task `{}` has an unknown summary", marker.kind, marker.id)
    })?;
    Ok(Fact::Done { id: marker.id, done: Done { summary, units: marker.units } })
}

/// Failures, cancellations and drops stop a task; a later `retry` lifts them; everything else is a frozen choice.
pub(crate) fn fact_of_decision(decision: Decision) -> anyhow::Result<Option<Fact>> {
    Ok(match Verdict::of(&decision.decision) {
        Some(Verdict::Retry) => Some(Fact::Lifted { id: decision.id }),
        Some(verdict) => {
            let detail = verdict_detail(&decision)?;
            let failure = Failure { verdict, reasons: detail.reasons, task: detail.task };
            Some(Fact::Failed { id: decision.id, failure })
        }
        None if decision.decision == TRAINING_SET => None,
        None => Some(Fact::Frozen { id: decision.id, detail: decision.detail }),
    })
}

/// The detail of a decision about a task.
pub(crate) fn verdict_detail(decision: &Decision) -> anyhow::Result<VerdictDetail> {
    serde_json::from_value(decision.detail.clone()).with_context(|| {
        format!(
            "decision {} `{}` of task `{}` cannot be read",
            decision.number, decision.decision, decision.id
        )
    })
}

/// A stored file as tasks name it.
pub(crate) fn blob_of(file: &FileRef) -> Blob {
    Blob { path: file.path.clone(), sha256: file.sha256.clone(), bytes: file.bytes }
}

/// A task's file as the store names it.
pub(crate) fn file_of(blob: &Blob) -> FileRef {
    FileRef { path: blob.path.clone(), sha256: blob.sha256.clone(), bytes: blob.bytes, rows: None }
}
