//! What the store holds, read into the planner's terms.

use anyhow::Context;
use metad2a_database::{Decision, FileRef, Marker, Store};
use metad2a_pipeline::planner::{Done, Existing, Failure};
use metad2a_pipeline::tasks::{Blob, Kind, Task};
use serde::Deserialize;

/// The detail of a `failed` decision, as workers write it.
#[derive(Debug, Deserialize)]
struct FailureDetail {
    #[serde(default)]
    reasons: Vec<String>,
    #[serde(default)]
    task: Option<Task>,
}

/// Lists all markers and decisions.
pub(crate) async fn read(store: &Store) -> anyhow::Result<Existing> {
    let mut existing = Existing::default();
    for kind in Kind::ALL {
        for marker in store.markers(kind.name()).await? {
            add_marker(&mut existing, marker)?;
        }
    }
    for decision in store.all_decisions().await?.into_values() {
        add_decision(&mut existing, decision)?;
    }
    Ok(existing)
}

pub(crate) fn add_marker(existing: &mut Existing, marker: Marker) -> anyhow::Result<()> {
    let summary = serde_json::from_value(marker.summary).with_context(|| {
        format!("the marker of {} task `{}` has an unknown summary", marker.kind, marker.id)
    })?;
    existing.add_done(marker.id, Done { summary, units: marker.units });
    Ok(())
}

/// Failures and cancellations stop a task; a later `retry` lifts them; everything else is a frozen choice.
pub(crate) fn add_decision(existing: &mut Existing, decision: Decision) -> anyhow::Result<()> {
    let id = decision.id;
    match decision.decision.as_str() {
        "failed" => {
            let detail: FailureDetail = serde_json::from_value(decision.detail)
                .with_context(|| format!("the failure record of task `{id}` cannot be read"))?;
            existing.add_failure(id, Failure { reasons: detail.reasons, task: detail.task });
        }
        "cancelled" => {
            existing.add_failure(id, Failure { reasons: vec!["cancelled".to_owned()], task: None });
        }
        "retry" => {}
        _ => existing.add_frozen(id, decision.detail),
    }
    Ok(())
}

/// A stored file as tasks name it.
pub(crate) fn blob_of(file: &FileRef) -> Blob {
    Blob { path: file.path.clone(), sha256: file.sha256.clone(), bytes: file.bytes }
}

/// A task's file as the store names it.
pub(crate) fn file_of(blob: &Blob) -> FileRef {
    FileRef { path: blob.path.clone(), sha256: blob.sha256.clone(), bytes: blob.bytes, rows: None }
}
