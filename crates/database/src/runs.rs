//! What a run leaves for the record: `<pipeline>/runs/<run-id>/` with its specification, plan and events.

use std::collections::BTreeSet;

use bytes::Bytes;

use crate::names::{check_name, check_pipeline};
use crate::{Put, Result, Store};

fn run_path(pipeline: &str, run_id: &str, name: &str) -> Result<String> {
    check_pipeline(pipeline)?;
    check_name("run id", run_id)?;
    check_name("file of a run", name)?;
    Ok(format!("{pipeline}/runs/{run_id}/{name}"))
}

impl Store {
    /// Keeps a file of a run. Each is written once; a second one of the same name changes nothing.
    pub async fn put_run_file(
        &self,
        pipeline: &str,
        run_id: &str,
        name: &str,
        content: Bytes,
    ) -> Result<Put> {
        self.put_if_absent(&run_path(pipeline, run_id, name)?, content).await
    }

    /// Writes a file of a run anew: for hints that are displayed and on which nothing rests.
    pub async fn overwrite_run_file(
        &self,
        pipeline: &str,
        run_id: &str,
        name: &str,
        content: Bytes,
    ) -> Result<()> {
        self.overwrite(&run_path(pipeline, run_id, name)?, content).await
    }

    /// The id and content of the file of this name that was written last, over all runs.
    pub async fn newest_run_file(&self, pipeline: &str, name: &str) -> Result<Option<(String, Bytes)>> {
        check_pipeline(pipeline)?;
        check_name("file of a run", name)?;
        let prefix = format!("{pipeline}/runs/");
        let entries = self.list(&prefix).await?;
        let of_name = entries.iter().filter_map(|entry| {
            let (run_id, file) = entry.path.strip_prefix(&prefix)?.split_once('/')?;
            (file == name).then_some((entry.modified, run_id, &entry.path))
        });
        let Some((_, run_id, path)) = of_name.max() else { return Ok(None) };
        Ok(self.get(path).await?.map(|content| (run_id.to_owned(), content)))
    }

    /// A file of a run.
    pub async fn run_file(&self, pipeline: &str, run_id: &str, name: &str) -> Result<Option<Bytes>> {
        self.get(&run_path(pipeline, run_id, name)?).await
    }

    /// Ids of all runs of a pipeline, sorted.
    pub async fn run_ids(&self, pipeline: &str) -> Result<Vec<String>> {
        check_pipeline(pipeline)?;
        let prefix = format!("{pipeline}/runs/");
        let entries = self.list(&prefix).await?;
        let ids: BTreeSet<&str> =
            entries.iter().filter_map(|entry| entry.path.strip_prefix(&prefix)?.split('/').next()).collect();
        Ok(ids.into_iter().map(str::to_owned).collect())
    }
}
