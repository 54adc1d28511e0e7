//! Publication of a snapshot: whole and checked, or not at all.
//!
//! ```text
//!   draft ─► plan (which table files stay, which result files are merged) ─► table files, named by content
//!         ─► check (counts, keys, ranges, nulls, references) ─► all files still there? ─► manifest, put-if-absent
//! ```
//!
//! Until the manifest is there nothing has changed for any reader; whatever was written for a draft that fails its
//! checks, or loses the race, is an orphan.

mod check;
mod plan;
mod rollback;
mod verify;

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};

use crate::content::CONCURRENT_REQUESTS;
use crate::names::{check_name, check_pipeline};
pub(crate) use crate::publish::check::{Inspection, inspect};
use crate::publish::plan::{MergeInput, plan};
pub use crate::publish::verify::{Broken, Verified};
use crate::snapshots::snapshot_path;
use crate::store::to_json;
use crate::tables::registry::{TableOperations, operations};
use crate::{
    Checks, Error, FileRef, NamedFile, Published, Put, Result, Snapshot, SnapshotDraft, SnapshotTable, Store,
    TableFile, now, random_id, sha256_hex,
};

impl Store {
    /// Publishes a draft as the pipeline's next snapshot.
    ///
    /// Nothing is copied twice: table files of the current snapshot whose rows all belong to the draft stay, result
    /// files that no table file holds yet are merged into one new file, together with older files that are not much
    /// larger. If the current snapshot has the same `inputs_id`, nothing is done. If somebody else publishes at the
    /// same moment, the draft is planned and checked again on top of theirs.
    ///
    /// # Errors
    /// [`Error::Checks`] lists every broken rule; the current snapshot then stays as it is.
    pub async fn publish(&self, draft: SnapshotDraft, checks: &Checks) -> Result<Published> {
        check_pipeline(&draft.pipeline)?;
        check_name("inputs id", &draft.inputs_id)?;
        loop {
            let current = self.current_snapshot(&draft.pipeline).await?;
            if let Some(snapshot) = current.as_ref().filter(|snapshot| snapshot.inputs_id == draft.inputs_id)
            {
                return Ok(Published::Unchanged(snapshot.number));
            }
            let snapshot = self.build(&draft, checks, current.as_ref()).await?;
            if self.put_manifest(&snapshot).await? == Put::Created {
                return Ok(Published::New(snapshot.number));
            }
            tracing::info!(
                pipeline = draft.pipeline,
                number = snapshot.number,
                "somebody else published first"
            );
        }
    }

    /// Publishes what is stored and checked, unless there is a snapshot of this number.
    async fn put_manifest(&self, snapshot: &Snapshot) -> Result<Put> {
        let path = snapshot_path(&snapshot.pipeline, snapshot.number);
        let manifest = to_json(&path, "snapshot manifest", snapshot)?;
        let put = self.put_if_absent(&path, manifest.clone()).await?;
        if put == Put::Created {
            // A copy for people and scripts; what it says may be old, and no program of ours reads it.
            let latest = format!("{}/latest.json", snapshot.pipeline);
            if let Err(error) = self.overwrite(&latest, manifest).await {
                tracing::warn!(%error, "`latest.json` was not renewed; the snapshot is published all the same");
            }
        }
        Ok(put)
    }

    /// Stores a file of a pipeline's table: `<pipeline>/tables/<table>/<sha256>.parquet`.
    pub async fn put_table_file(
        &self,
        pipeline: &str,
        table: &str,
        file: Bytes,
        rows: u64,
    ) -> Result<FileRef> {
        check_pipeline(pipeline)?;
        check_name("table", table)?;
        let sha256 = sha256_hex(&file);
        let path = format!("{pipeline}/tables/{table}/{sha256}.parquet");
        let bytes = file.len() as u64;
        self.overwrite(&path, file).await?;
        Ok(FileRef { path, sha256, bytes, rows: Some(rows) })
    }

    /// Writes and checks everything that the manifest will name.
    async fn build(
        &self,
        draft: &SnapshotDraft,
        checks: &Checks,
        current: Option<&Snapshot>,
    ) -> Result<Snapshot> {
        let mut violations = checks.violations.clone();
        let mut inspection = Inspection::default();
        let mut tables = BTreeMap::new();
        for (name, wanted) in &draft.tables {
            let operations = operations(name)?;
            let previous = current.and_then(|snapshot| snapshot.tables.get(name));
            let files = self.build_table(&draft.pipeline, operations, previous, wanted).await?;
            for file in &files {
                let data = self.get_data(&file.file).await?;
                let path = file.file.path.clone();
                inspection = blocking(move || {
                    (operations.inspect)(&mut inspection, &path, data)?;
                    Ok(inspection)
                })
                .await?;
            }
            let rows = files.iter().filter_map(|file| file.file.rows).sum();
            tables.insert(
                name.clone(),
                SnapshotTable { schema_version: (operations.table)().version, rows, files },
            );
        }
        violations.extend(inspection.violations(draft.tables.keys().map(String::as_str)));
        violations.extend(count_violations(&tables, checks));
        violations.extend(shrinkage_violations(&tables, &draft.imported_rows, current, checks));
        violations.extend(self.model_violations(&draft.pipeline, &draft.models).await?);
        if !violations.is_empty() {
            return Err(Error::Checks { pipeline: draft.pipeline.clone(), violations });
        }
        let files: Vec<FileRef> =
            tables.values().flat_map(|table| table.files.iter().map(|file| file.file.clone())).collect();
        self.check_files(&files, "it was removed while the snapshot was being published; publish again")
            .await?;
        Ok(Snapshot {
            pipeline: draft.pipeline.clone(),
            number: current.map_or(1, |snapshot| snapshot.number + 1),
            inputs_id: draft.inputs_id.clone(),
            execution_id: random_id(),
            published_at: now(),
            tables,
            imported_rows: draft.imported_rows.clone(),
            models: draft.models.clone(),
            sources: draft.sources.clone(),
            notes: draft.notes.clone(),
            restored_from: None,
        })
    }

    /// The files that hold exactly the wanted rows; merges what is not yet in a table file.
    async fn build_table(
        &self,
        pipeline: &str,
        operations: &'static TableOperations,
        previous: Option<&SnapshotTable>,
        wanted: &[FileRef],
    ) -> Result<Vec<TableFile>> {
        let previous = previous.map(|table| table.files.as_slice()).unwrap_or_default();
        let plan = plan(previous, wanted);
        let mut files = plan.keep;
        for inputs in plan.merges {
            files.push(self.merge_inputs(pipeline, operations, inputs).await?);
        }
        if files.is_empty() {
            // A table without rows still tells its readers its columns.
            files.push(self.merge_inputs(pipeline, operations, Vec::new()).await?);
        }
        files.sort_by(|a, b| b.file.bytes.cmp(&a.file.bytes).then_with(|| a.file.sha256.cmp(&b.file.sha256)));
        Ok(files)
    }

    async fn merge_inputs(
        &self,
        pipeline: &str,
        operations: &'static TableOperations,
        inputs: Vec<MergeInput>,
    ) -> Result<TableFile> {
        let parts: Vec<NamedFile> = futures::stream::iter(&inputs)
            .map(|input| async move {
                Ok::<_, Error>((input.file.path.clone(), self.get_data(&input.file).await?))
            })
            .buffered(CONCURRENT_REQUESTS)
            .try_collect()
            .await?;
        let (merged, rows) = blocking(move || (operations.merge)(&parts)).await?;
        let mut sources: Vec<String> = inputs.into_iter().flat_map(|input| input.sources).collect();
        sources.sort_unstable();
        Ok(TableFile { file: self.put_table_file(pipeline, operations.name, merged, rows).await?, sources })
    }

    /// Every named model must be stored, so that a reader of the manifest can load it.
    async fn model_violations(
        &self,
        pipeline: &str,
        models: &BTreeMap<String, String>,
    ) -> Result<Vec<String>> {
        let mut violations = Vec::new();
        for (model, sha256) in models {
            let Some(record) = self.model(pipeline, model, sha256).await? else {
                violations.push(format!("model `{model}` with id `{sha256}` is not in the store"));
                continue;
            };
            let path = format!("{pipeline}/models/{model}/{sha256}.safetensors");
            let found = self.size(&path).await?;
            if found != Some(record.bytes) {
                violations.push(format!("`{path}` must have {} bytes, has {found:?}", record.bytes));
            }
        }
        Ok(violations)
    }
}

fn count_violations(tables: &BTreeMap<String, SnapshotTable>, checks: &Checks) -> Vec<String> {
    checks
        .expected_rows
        .iter()
        .filter_map(|(name, expected)| {
            let found = tables.get(name).map_or(0, |table| table.rows);
            (found != *expected).then(|| format!("`{name}` must have {expected} rows, has {found}"))
        })
        .collect()
}

fn shrinkage_violations(
    tables: &BTreeMap<String, SnapshotTable>,
    imported_rows: &BTreeMap<String, u64>,
    current: Option<&Snapshot>,
    checks: &Checks,
) -> Vec<String> {
    let imported = |counts: &BTreeMap<String, u64>, name: &str| counts.get(name).copied().unwrap_or_default();
    let Some(current) = current else { return Vec::new() };
    let broken = checks.shrinkage.iter().filter_map(|(name, tolerance)| {
        let (imported_before, imported_now) =
            (imported(&current.imported_rows, name), imported(imported_rows, name));
        let before = current.rows(name).saturating_sub(imported_before);
        let least = (before as f64 * (1.0 - tolerance)).ceil() as u64;
        let found = tables.get(name).map_or(0, |table| table.rows).saturating_sub(imported_now);
        (found < least).then(|| {
            let aside = if imported_before + imported_now > 0 { " beside imported ones" } else { "" };
            format!(
                "`{name}` has {found} rows{aside} where snapshot {} has {before}, and needs {least}",
                current.number
            )
        })
    });
    broken.collect()
}

/// Decoding and sorting may take seconds, which must not stop the heartbeats of the program's connections.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
