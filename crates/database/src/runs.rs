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
