//! What the store holds, read into the planner's terms.

use anyhow::Context;
use metad2a_database::{Decision, FileRef, Marker, Store};
use metad2a_pipeline::planner::{Done, Existing, Fact, Failure};
use metad2a_pipeline::tasks::{Blob, Kind, Task};
use serde::Deserialize;

/// Plans ask which set was chosen, never what is in it, and it may be large.
const TRAINING_SET: &str = "training-set";

/// The detail of a `failed` decision, as workers write it.
#[derive(Debug, Deserialize)]
struct FailureDetail {
    #[serde(default)]
    reasons: Vec<String>,
    #[serde(default)]
    task: Option<Task>,
}

/// Lists all markers and decisions.
pub async fn read(store: &Store) -> anyhow::Result<Existing> {
    let mut existing = Existing::default();
    for decision in store.decisions_except(&[TRAINING_SET]).await?.into_values() {
        if let Some(fact) = fact_of_decision(decision)? {
            existing.learn(fact);
        }
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
    Ok(existing)
}

pub(crate) fn fact_of_marker(marker: Marker) -> anyhow::Result<Fact> {
    let summary = serde_json::from_value(marker.summary).with_context(|| {
        format!("the marker of {} task `{}` has an unknown summary", marker.kind, marker.id)
    })?;
    Ok(Fact::Done { id: marker.id, done: Done { summary, units: marker.units } })
}

/// Failures and cancellations stop a task; a later `retry` lifts them; everything else is a frozen choice.
pub(crate) fn fact_of_decision(decision: Decision) -> anyhow::Result<Option<Fact>> {
    let id = decision.id;
    Ok(match decision.decision.as_str() {
        "failed" => {
            let detail: FailureDetail = serde_json::from_value(decision.detail)
                .with_context(|| format!("the failure record of task `{id}` cannot be read"))?;
            let failure = Failure { reasons: detail.reasons, task: detail.task };
            Some(Fact::Failed { id, failure })
        }
        "cancelled" => {
            let failure = Failure { reasons: vec!["cancelled".to_owned()], task: None };
            Some(Fact::Failed { id, failure })
        }
        "retry" => None,
        TRAINING_SET => None,
        _ => Some(Fact::Frozen { id, detail: decision.detail }),
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
