//! Commit markers: `done/<kind>/<2 hex>/<id>.json`, written last, put-if-absent.
//!
//! Delivery is at least once and effects are exactly once: any number of workers may finish the same task, one of
//! them creates the marker, and the others learn that it is done. The random execution id in the marker tells them
//! apart even where the answer to the write was lost.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::content::CONCURRENT_REQUESTS;
use crate::names::{check_name, shard};
use crate::{Error, FileRef, Put, Result, Store};

/// What a finished task or import left behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Marker {
    /// Kind of the task.
    pub kind: String,
    /// Id of the task: the hash of its value.
    pub id: String,
    /// Fresh for every execution, see [`crate::random_id`].
    pub execution_id: String,
    /// Who did it.
    pub worker: String,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// Everything it produced.
    pub files: Vec<FileRef>,
    /// Ids of the units in a bundle; empty for tasks that are one piece.
    pub units: Vec<String>,
    /// Where it was computed, e.g. `cpu` or `cuda:0 NVIDIA H100`.
    pub device: String,
    pub started_at: DateTime<Utc>,
    pub finished_at: DateTime<Utc>,
    /// Compute time over all slices, in seconds.
    pub seconds: f64,
    /// A few figures for displays and plans, in the kind's own form.
    #[serde(default)]
    pub summary: serde_json::Value,
}

impl Marker {
    /// The files of one kind, e.g. a table's name.
    pub fn files_of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a FileRef> {
        self.files.iter().filter(move |file| file.kind() == Some(kind))
    }
}

/// Who created the marker.
#[derive(Debug, Clone, PartialEq)]
pub enum Commit {
    /// This execution did; its files are the result.
    Won,
    /// Another execution did, earlier; this one's files are orphans. As good as won: acknowledge the message.
    AlreadyDone(Box<Marker>),
}

pub(crate) fn marker_path(kind: &str, id: &str) -> Result<String> {
    check_name("kind of task", kind)?;
    check_name("task id", id)?;
    Ok(format!("done/{kind}/{}/{id}.json", shard(id)))
}

impl Store {
    /// Creates the marker, after making sure that every file it names is in the store with its full size.
    pub async fn commit(&self, marker: &Marker) -> Result<Commit> {
        let path = marker_path(&marker.kind, &marker.id)?;
        self.check_files(&marker.files, "it must be stored before its marker").await?;
        match self.put_json_if_absent(&path, marker).await? {
            Put::Created => Ok(Commit::Won),
            Put::Exists => {
                let winner = self
                    .marker(&marker.kind, &marker.id)
                    .await?
                    .ok_or(Error::Unsettled { path, attempts: 1 })?;
                if winner.execution_id == marker.execution_id {
                    return Ok(Commit::Won);
                }
                Ok(Commit::AlreadyDone(Box::new(winner)))
            }
        }
    }

    /// The marker of one task, if it is done.
    pub async fn marker(&self, kind: &str, id: &str) -> Result<Option<Marker>> {
        self.get_json(&marker_path(kind, id)?, "commit marker").await
    }

    /// All markers of a kind, by id, in memory. See [`Store::each_marker`] for large stores.
    pub async fn markers(&self, kind: &str) -> Result<Vec<Marker>> {
        let mut by_id: BTreeMap<String, Marker> = BTreeMap::new();
        self.each_marker(kind, |marker| {
            by_id.insert(marker.id.clone(), marker);
        })
        .await?;
        Ok(by_id.into_values().collect())
    }

    /// Ids of everything of a kind that is done, sorted. Needs one listing and no reads.
    pub async fn done_ids(&self, kind: &str) -> Result<Vec<String>> {
        check_name("kind of task", kind)?;
        let entries = self.list(&format!("done/{kind}/")).await?;
        let mut ids: Vec<String> = entries
            .iter()
            .filter_map(|entry| entry.path.rsplit('/').next()?.strip_suffix(".json").map(str::to_owned))
            .collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// Every file must be in the store with its full size.
    pub(crate) async fn check_files(&self, files: &[FileRef], consequence: &str) -> Result<()> {
        // Owned: a stream that borrows them would make the future of every caller impossible to spawn.
        futures::stream::iter(files.to_vec())
            .map(|file| async move {
                match self.size(&file.path).await? {
                    Some(bytes) if bytes == file.bytes => Ok(()),
                    Some(found) => Err(Error::Size { path: file.path.clone(), expected: file.bytes, found }),
                    None => {
                        Err(Error::Missing { path: file.path.clone(), consequence: consequence.to_owned() })
                    }
                }
            })
            .buffer_unordered(CONCURRENT_REQUESTS)
            .try_collect()
            .await
    }
}
