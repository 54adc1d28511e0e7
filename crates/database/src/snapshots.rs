//! Snapshots: `<pipeline>/snapshots/000042.json`, a manifest of table files; the highest number is current.
//!
//! A manifest is written put-if-absent after everything that it names, and never changed, so a reader sees a whole
//! snapshot or none, and whoever reads an old one is never disturbed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::names::check_pipeline;
use crate::{Error, FileRef, Result, Store, TableRow};

/// What a pipeline published at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub pipeline: String,
    /// From 1.
    pub number: u32,
    /// Hash of everything it was made from; equal inputs are not published twice.
    pub inputs_id: String,
    /// Tells two publishers apart.
    pub execution_id: String,
    pub published_at: DateTime<Utc>,
    /// By table name.
    pub tables: BTreeMap<String, SnapshotTable>,
    /// How many rows of a table are imported, where any are.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub imported_rows: BTreeMap<String, u64>,
    /// Model name → id (SHA-256) of its checkpoint.
    pub models: BTreeMap<String, String>,
    /// Name → the image source as it was read; empty where an older version published it.
    #[serde(default)]
    pub sources: BTreeMap<String, SnapshotSource>,
    /// What a reader should know, e.g. that a new model did not pass its check and the old one stays.
    #[serde(default)]
    pub notes: Vec<String>,
    /// The snapshot whose content was published again as this one, see [`Store::roll_back`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_from: Option<u32>,
}

/// An image source that a snapshot was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSource {
    pub content_id: String,
    pub classes: u64,
    pub pictures: u64,
}

/// A table of a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotTable {
    pub schema_version: u32,
    pub rows: u64,
    /// Largest first.
    pub files: Vec<TableFile>,
}

/// A file of a table, and the result files that it was merged from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableFile {
    #[serde(flatten)]
    pub file: FileRef,
    /// Hashes of the result files whose rows it holds.
    pub sources: Vec<String>,
}

/// What should be published.
#[derive(Debug, Clone, Default)]
pub struct SnapshotDraft {
    pub pipeline: String,
    /// Hash of everything it is made from.
    pub inputs_id: String,
    /// Table name → all result files whose rows it shall hold, as markers name them.
    pub tables: BTreeMap<String, Vec<FileRef>>,
    /// Table name → how many of these rows are imported, where any are.
    pub imported_rows: BTreeMap<String, u64>,
    /// Model name → id (SHA-256) of its checkpoint, which must be stored.
    pub models: BTreeMap<String, String>,
    pub sources: BTreeMap<String, SnapshotSource>,
    pub notes: Vec<String>,
}

/// What must hold beyond the tables' own rules.
#[derive(Debug, Clone, Default)]
pub struct Checks {
    /// Table name → how many rows it must have.
    pub expected_rows: BTreeMap<String, u64>,
    /// Table name → the share of the current snapshot's rows that may be missing, in [0, 1]; others may shrink freely.
    /// Imported rows do not count: they are named one import at a time, and there may be so many of them that all of
    /// our own could vanish unnoticed.
    pub shrinkage: BTreeMap<String, f64>,
    /// Broken rules that the caller found itself; any of them stops the publication.
    pub violations: Vec<String>,
}

/// What became of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// It is the snapshot of this number now.
    New(u32),
    /// The current snapshot, of this number, was made from the same inputs.
    Unchanged(u32),
}

impl Snapshot {
    /// Whether a reader finds the same rows and models in both.
    pub fn has_content_of(&self, other: &Self) -> bool {
        self.tables == other.tables && self.models == other.models
    }

    /// The files of a table, from the store's root; empty where it has none.
    pub fn files(&self, table: &str) -> Vec<FileRef> {
        let files = self.tables.get(table).map(|table| table.files.as_slice()).unwrap_or_default();
        files.iter().map(|file| file.file.clone()).collect()
    }

    /// The rows of a table, as the manifest counts them.
    pub fn rows(&self, table: &str) -> u64 {
        self.tables.get(table).map_or(0, |table| table.rows)
    }
}

pub(crate) fn snapshot_path(pipeline: &str, number: u32) -> String {
    format!("{pipeline}/snapshots/{number:06}.json")
}

impl Store {
    /// The newest snapshot of a pipeline.
    pub async fn current_snapshot(&self, pipeline: &str) -> Result<Option<Snapshot>> {
        match self.snapshot_numbers(pipeline).await?.last() {
            Some(number) => self.snapshot(pipeline, *number).await,
            None => Ok(None),
        }
    }

    /// One snapshot of a pipeline.
    pub async fn snapshot(&self, pipeline: &str, number: u32) -> Result<Option<Snapshot>> {
        check_pipeline(pipeline)?;
        self.get_json(&snapshot_path(pipeline, number), "snapshot manifest").await
    }

    /// All snapshots of a pipeline, oldest first.
    pub async fn list_snapshots(&self, pipeline: &str) -> Result<Vec<Snapshot>> {
        let mut snapshots = Vec::new();
        for number in self.snapshot_numbers(pipeline).await? {
            snapshots.extend(self.snapshot(pipeline, number).await?);
        }
        Ok(snapshots)
    }

    /// The newest so many snapshots of a pipeline, newest first.
    pub async fn newest_snapshots(&self, pipeline: &str, most: usize) -> Result<Vec<Snapshot>> {
        let mut snapshots = Vec::new();
        for number in self.snapshot_numbers(pipeline).await?.into_iter().rev().take(most) {
            snapshots.extend(self.snapshot(pipeline, number).await?);
        }
        Ok(snapshots)
    }

    /// The rows of a table of a snapshot, file by file.
    pub async fn read_table<T: TableRow>(&self, snapshot: &Snapshot) -> Result<Vec<T>> {
        self.read_files(&snapshot.files(T::NAME)).await
    }

    /// Where the files of a table lie, for readers such as `DuckDB`: absolute paths of a local store, URLs otherwise.
    ///
    /// `select * from read_parquet([…])`. Reading through the manifest is the only right way: the folder holds the
    /// files of several snapshots.
    pub fn table_locations(&self, snapshot: &Snapshot, table: &str) -> Result<Vec<String>> {
        if !snapshot.tables.contains_key(table) {
            return Err(Error::Invalid {
                what: format!("table `{table}`"),
                rule: format!(
                    "snapshot {} of `{}` has only {}",
                    snapshot.number,
                    snapshot.pipeline,
                    snapshot.tables.keys().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
                ),
            });
        }
        Ok(snapshot.files(table).iter().map(|file| self.location_of(&file.path)).collect())
    }

    async fn snapshot_numbers(&self, pipeline: &str) -> Result<Vec<u32>> {
        check_pipeline(pipeline)?;
        let entries = self.list(&format!("{pipeline}/snapshots/")).await?;
        let mut numbers: Vec<u32> = entries
            .iter()
            .filter_map(|entry| entry.path.rsplit('/').next()?.strip_suffix(".json")?.parse().ok())
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }
}
