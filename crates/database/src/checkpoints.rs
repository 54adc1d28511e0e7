//! Checkpoints of unfinished tasks: `checkpoints/<task id>/<slice>.json`, put-if-absent, and beside it the files that it
//! names.
//!
//! ```text
//!   put_checkpoint_file ─► checkpoints/<task id>/<sha256>.<ext>   data first, named by its own content
//!   record_checkpoint   ─► checkpoints/<task id>/<slice>.json     only one writer of a number wins
//!   note_continuation   ─► checkpoints/<task id>/<slice>.continued    the winner has passed the task on
//!   checkpoints         ◄─ the newest number, and the newest records that can be read
//!   thin_checkpoints, remove_checkpoints                          data of old slices; everything after the commit
//! ```
//!
//! Only whoever wins a record may publish the task's continuation, so that two workers on the same slice become one
//! again at its end; the loser may leave only when the winner's note says that it did. Records are therefore kept as long as the task is unfinished, even those whose data is gone.
//!
//! Deliberately absent: any meaning of the files, which is the task's own, and the decision which checkpoint is used.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::content::CONCURRENT_REQUESTS;
use crate::names::check_name;
use crate::{Error, FileRef, Put, Result, Store, sha256_hex};

/// How many checkpoints keep their data: one that cannot be read must not cost the whole task.
const KEPT: usize = 2;

/// What a slice of a task left behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Kind of the task.
    pub kind: String,
    /// Id of the task.
    pub id: String,
    /// Number of the slice that ended here, from 0.
    pub slice: u32,
    /// Fresh for every execution, see [`crate::random_id`].
    pub execution_id: String,
    pub worker: String,
    pub device: String,
    /// In the order that the task's kind gives them.
    pub files: Vec<FileRef>,
    /// When the first slice began.
    pub started_at: DateTime<Utc>,
    pub recorded_at: DateTime<Utc>,
    /// Compute time over all slices so far, in seconds.
    pub seconds: f64,
    /// How much is done, in the kind's own unit …
    pub done: u64,
    /// … of how much.
    pub total: u64,
}

/// Who ended a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recorded {
    /// This execution did, and publishes the continuation.
    Won,
    /// Another execution did, earlier.
    Lost,
}

/// The checkpoints of one task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Checkpoints {
    /// The highest number for which there is a record, readable or not.
    pub newest: Option<u32>,
    /// The newest records that can be read, newest first. Older ones have no data any more.
    pub usable: Vec<Checkpoint>,
}

fn record_path(id: &str, slice: u32) -> Result<String> {
    check_name("task id", id)?;
    Ok(format!("checkpoints/{id}/{slice}.json"))
}

fn note_path(id: &str, slice: u32) -> Result<String> {
    check_name("task id", id)?;
    Ok(format!("checkpoints/{id}/{slice}.continued"))
}

/// `checkpoints/<id>/<n>.json` → n. The names of data files are too long for a number.
fn number_of(path: &str) -> Option<u32> {
    path.rsplit('/').next()?.strip_suffix(".json")?.parse().ok()
}

impl Store {
    /// Stores a file of a checkpoint that will be recorded afterwards. Storing it twice is harmless.
    pub async fn put_checkpoint_file(&self, id: &str, ext: &str, data: Bytes) -> Result<FileRef> {
        check_name("task id", id)?;
        check_name("file ending", ext)?;
        let sha256 = sha256_hex(&data);
        let path = format!("checkpoints/{id}/{sha256}.{ext}");
        let bytes = data.len() as u64;
        self.overwrite(&path, data).await?;
        Ok(FileRef { path, sha256, bytes, rows: None })
    }

    /// Records the end of a slice, after making sure that every file it names is in the store with its full size.
    pub async fn record_checkpoint(&self, checkpoint: &Checkpoint) -> Result<Recorded> {
        let path = record_path(&checkpoint.id, checkpoint.slice)?;
        self.check_files(&checkpoint.files, "it must be stored before its checkpoint is recorded").await?;
        Ok(match self.put_json_if_absent(&path, checkpoint).await? {
            Put::Created => Recorded::Won,
            Put::Exists => Recorded::Lost,
        })
    }

    /// Notes that the task was passed on behind the record of a slice.
    pub async fn note_continuation(&self, id: &str, slice: u32) -> Result<()> {
        self.overwrite(&note_path(id, slice)?, Bytes::new()).await
    }

    /// Whether there is such a note.
    pub async fn is_continued(&self, id: &str, slice: u32) -> Result<bool> {
        Ok(self.find(&note_path(id, slice)?).await?.is_some())
    }

    /// The checkpoints of a task. Needs one listing where there are none. A record that cannot be read is passed over,
    /// and logged: what it stood for is computed again.
    pub async fn checkpoints(&self, id: &str) -> Result<Checkpoints> {
        check_name("task id", id)?;
        let listed = self.list(&format!("checkpoints/{id}/")).await?;
        let mut numbers: Vec<u32> = listed.iter().filter_map(|entry| number_of(&entry.path)).collect();
        numbers.sort_unstable_by(|a, b| b.cmp(a));
        let mut usable = Vec::new();
        for &slice in numbers.iter().take(KEPT) {
            match self.get_json::<Checkpoint>(&record_path(id, slice)?, "checkpoint record").await {
                Ok(found) => usable.extend(found.filter(|found| found.id == id && found.slice == slice)),
                Err(error @ Error::Json { .. }) => {
                    tracing::warn!(task = id, slice, "a checkpoint is passed over: {error}");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Checkpoints { newest: numbers.first().copied(), usable })
    }

    /// Removes the data of checkpoints that `newest` has made superfluous: of all in `earlier`, newest first, but the
    /// last before it.
    pub async fn thin_checkpoints(&self, newest: &Checkpoint, earlier: &[Checkpoint]) -> Result<()> {
        let (kept, superfluous) = earlier.split_at(earlier.len().min(KEPT - 1));
        let is_kept = |file: &FileRef| {
            newest.files.contains(file) || kept.iter().any(|checkpoint| checkpoint.files.contains(file))
        };
        let paths = superfluous.iter().flat_map(|checkpoint| &checkpoint.files);
        let paths = paths.filter(|file| !is_kept(file)).map(|file| file.path.clone()).collect();
        self.delete_all(paths).await
    }

    /// Removes records and data of a task that needs them no more.
    pub async fn remove_checkpoints(&self, id: &str) -> Result<()> {
        check_name("task id", id)?;
        let listed = self.list(&format!("checkpoints/{id}/")).await?;
        self.delete_all(listed.into_iter().map(|entry| entry.path).collect()).await
    }

    async fn delete_all(&self, paths: Vec<String>) -> Result<()> {
        futures::stream::iter(paths)
            .map(|path| async move { self.delete(&path).await })
            .buffer_unordered(CONCURRENT_REQUESTS)
            .try_collect()
            .await
    }
}
