//! Garbage collection: what nobody needs any more, found and removed.
//!
//! ```text
//!   list what could go ─► read what is needed ─► decide (pure) ─► look again at each object, then remove it
//! ```
//!
//! The order is what makes it safe beside working programs. A worker stores its data anew before it commits, which
//! renews the age of equal data that lay there; so whatever a later marker names is younger than the grace, and the
//! look before each removal sees that. A publisher checks its files right before it writes the manifest. Between that
//! last look and the removal lie milliseconds, in which data of the same content would have to be stored again that
//! nobody has stored for a day: the grace must not be made short.
//!
//! Deliberately absent: models, decisions, markers, the index and the records of runs, which are small and wanted.

mod decide;

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};

pub use self::decide::{Garbage, Inventory, Limits, Reason, garbage, names_in};
use crate::content::CONCURRENT_REQUESTS;
use crate::names::check_pipeline;
use crate::snapshots::snapshot_path;
use crate::{Entry, Error, Marker, Result, Store};

/// What became of the garbage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    pub objects: u64,
    pub bytes: u64,
    /// Written again or gone since it was found.
    pub spared: u64,
}

impl Store {
    /// Lists what could be removed in the name of `pipeline`, and reads what is needed. Results and checkpoints belong
    /// to all pipelines of the store, and so do the records that keep them.
    ///
    /// # Errors
    /// A record that cannot be read is an error, since nobody knows what it names.
    pub async fn inventory(&self, pipeline: &str) -> Result<Inventory> {
        check_pipeline(pipeline)?;
        let mut inventory = Inventory {
            results: self.list("results/").await?,
            checkpoints: self.list("checkpoints/").await?,
            probes: self.list("probe/").await?,
            tables: self.list(&format!("{pipeline}/tables/")).await?,
            snapshots: self.manifests(pipeline).await?,
            ..Inventory::default()
        };
        self.read_markers_into(&mut inventory).await?;
        let folders = ["decisions/", "checkpoints/"].map(str::to_owned);
        for folder in folders.into_iter().chain(self.model_folders().await?) {
            self.read_names(&folder, &mut inventory).await?;
        }
        Ok(inventory)
    }

    /// Removes garbage in its order, each object after a last look: one that has been written since stays.
    pub async fn remove(&self, garbage: &[Garbage]) -> Result<Removed> {
        let mut removed = Removed::default();
        // Manifests before tables: one kind after the other, and side by side within a kind.
        for of_one_reason in garbage.chunk_by(|a, b| a.reason == b.reason) {
            let outcomes: Vec<Option<u64>> = futures::stream::iter(of_one_reason.to_vec())
                .map(|garbage| async move {
                    let found = self.find(&garbage.path).await?;
                    if found.is_none_or(|entry| entry.modified != garbage.modified) {
                        return Ok(None);
                    }
                    self.delete(&garbage.path).await?;
                    Ok::<_, Error>(Some(garbage.bytes))
                })
                .buffer_unordered(CONCURRENT_REQUESTS)
                .try_collect()
                .await?;
            for outcome in outcomes {
                match outcome {
                    Some(bytes) => {
                        removed.objects += 1;
                        removed.bytes += bytes;
                    }
                    None => removed.spared += 1,
                }
            }
        }
        Ok(removed)
    }

    /// The staged leftovers of killed programs that are older than `before`, see [`Store::sweep_staged`].
    pub async fn staged(&self, before: DateTime<Utc>) -> Result<(u64, u64)> {
        self.look_at_staged(before, false).await
    }

    async fn manifests(&self, pipeline: &str) -> Result<BTreeMap<u32, (Entry, Vec<String>)>> {
        let entries = self.list(&format!("{pipeline}/snapshots/")).await?;
        let mut manifests = BTreeMap::new();
        for snapshot in self.list_snapshots(pipeline).await? {
            let path = snapshot_path(pipeline, snapshot.number);
            let files = snapshot.tables.values().flat_map(|table| &table.files);
            let files = files.map(|file| file.file.path.clone()).collect();
            if let Some(entry) = entries.iter().find(|entry| entry.path == path) {
                manifests.insert(snapshot.number, (entry.clone(), files));
            }
        }
        Ok(manifests)
    }

    async fn read_markers_into(&self, inventory: &mut Inventory) -> Result<()> {
        for kind in self.folders(Some("done")).await? {
            let learn = |marker: Marker| {
                names_in(&marker.summary, &mut inventory.named);
                inventory.named.extend(marker.files.into_iter().map(|file| file.path));
                inventory.done.insert(marker.id);
            };
            self.each_marker(&kind, learn).await?;
        }
        Ok(())
    }

    /// `<pipeline>/models/` of every pipeline.
    async fn model_folders(&self) -> Result<Vec<String>> {
        let pipelines = self.folders(None).await?.into_iter().filter(|name| check_pipeline(name).is_ok());
        Ok(pipelines.map(|pipeline| format!("{pipeline}/models/")).collect())
    }

    /// Adds every path that the JSON objects of a folder name. Checkpoints of finished tasks keep nothing.
    async fn read_names(&self, folder: &str, inventory: &mut Inventory) -> Result<()> {
        let entries = self.list(folder).await?;
        let done = &inventory.done;
        let is_live = |path: &str| decide::task_of(path).is_none_or(|task| !done.contains(task));
        let records: Vec<Entry> = entries
            .into_iter()
            .filter(|entry| entry.path.strip_suffix(".json").is_some() && is_live(&entry.path))
            .collect();
        let names: Vec<HashSet<String>> = futures::stream::iter(records)
            .map(|entry| async move {
                let mut names = HashSet::new();
                match self.get_json::<serde_json::Value>(&entry.path, "record").await {
                    Ok(record) => names_in(&record.unwrap_or_default(), &mut names),
                    // Whoever goes on with the task passes such a record over, and uses nothing that it names.
                    Err(Error::Json { path, .. }) if decide::task_of(&path).is_some() => {
                        tracing::warn!(path, "a checkpoint that cannot be read keeps nothing but itself");
                    }
                    Err(error) => return Err(error),
                }
                Ok(names)
            })
            .buffer_unordered(CONCURRENT_REQUESTS)
            .try_collect()
            .await?;
        inventory.named.extend(names.into_iter().flatten());
        Ok(())
    }
}
