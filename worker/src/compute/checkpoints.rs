//! Checkpoints as the compute process writes and reads them: a state as JSON, then files of tensors as safetensors.
//!
//! A checkpoint that is damaged or foreign is passed over with a message, and the one before it is tried, then none: it
//! costs time, never a task. What the disk or the network says is no reason to pass one over.

use anyhow::Context;
use bytes::Bytes;
use metad2a_database::{Checkpoint, FileRef};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Engine;
use crate::protocol::Job;

const STATE: &str = "state.json";
const TENSORS: &str = "safetensors";

/// A checkpoint that this task cannot go on from.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadCheckpoint {
    #[error("its state cannot be read: {0}")]
    State(#[from] serde_json::Error),
    #[error("{0}")]
    Foreign(String),
}

impl Engine {
    /// Stores a checkpoint's files in their order, for the supervisor to record.
    pub(super) fn save(
        &self,
        job: &Job,
        state: &impl Serialize,
        tensors: Vec<Bytes>,
    ) -> anyhow::Result<Vec<FileRef>> {
        let state = serde_json::to_vec(state).context("a checkpoint's state has no JSON form")?;
        let files =
            std::iter::once((STATE, state.into())).chain(tensors.into_iter().map(|bytes| (TENSORS, bytes)));
        files
            .map(|(ext, bytes)| {
                self.runtime
                    .block_on(self.store.put_checkpoint_file(&job.id, ext, bytes))
                    .context("cannot store a checkpoint")
            })
            .collect()
    }

    /// A checkpoint's state and its files of tensors, their contents checked.
    pub(super) fn load<T: DeserializeOwned>(
        &self,
        checkpoint: &Checkpoint,
    ) -> anyhow::Result<(T, Vec<Bytes>)> {
        let files: Vec<Bytes> = checkpoint
            .files
            .iter()
            .map(|file| self.runtime.block_on(self.store.get_data(file)))
            .collect::<Result<_, _>>()?;
        let (state, tensors) =
            files.split_first().ok_or_else(|| BadCheckpoint::Foreign("it names no file".to_owned()))?;
        Ok((serde_json::from_slice(state).map_err(BadCheckpoint::from)?, tensors.to_vec()))
    }

    /// What `load` makes of the newest checkpoint that can be used; `None` where the task begins at its start.
    #[expect(clippy::unused_self, reason = "reads like its companions, which need it")]
    pub(super) fn resumed<T>(
        &self,
        job: &Job,
        load: impl Fn(&Checkpoint) -> anyhow::Result<T>,
    ) -> anyhow::Result<Option<T>> {
        for checkpoint in &job.checkpoints {
            let Checkpoint { slice, done, total, .. } = checkpoint;
            match load(checkpoint) {
                Ok(state) => {
                    tracing::info!(task = job.id, slice, done, total, "going on from a checkpoint");
                    return Ok(Some(state));
                }
                Err(error) if is_unusable(&error) => {
                    tracing::warn!(
                        task = job.id,
                        slice,
                        "a checkpoint cannot be used and the work since the one before it is done again: {error:#}"
                    );
                }
                Err(error) => return Err(error.context("cannot read a checkpoint")),
            }
        }
        Ok(None)
    }
}

/// True where the checkpoint itself is at fault.
fn is_unusable(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        if let Some(error) = cause.downcast_ref::<metad2a_database::Error>() {
            return !error.is_retryable() && !matches!(error, metad2a_database::Error::Storage { .. });
        }
        cause.is::<BadCheckpoint>()
            || matches!(cause.downcast_ref(), Some(metad2a_networks::Error::Checkpoint { .. }))
            || matches!(cause.downcast_ref(), Some(metad2a_model::Error::Checkpoint { .. }))
    })
}

/// `Err` unless `holds`.
pub(super) fn belongs(holds: bool, rule: impl FnOnce() -> String) -> Result<(), BadCheckpoint> {
    if holds { Ok(()) } else { Err(BadCheckpoint::Foreign(rule())) }
}
