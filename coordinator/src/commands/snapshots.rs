//! `metad2a snapshots`: what was published, and where its tables lie.

use std::fmt::Write;

use anyhow::bail;
use metad2a_database::{Access, Snapshot, Store};

use super::output::answer;
use crate::cli::Snapshots;
use crate::{Exit, project};

pub(crate) async fn snapshots(arguments: Snapshots) -> anyhow::Result<Exit> {
    let project = project::load(&arguments.pipeline.file, &arguments.pipeline.addresses)?;
    let pipeline = &project.specification.name;
    let store = Store::open(&project.specification.store, Access::ReadOnly).await?;
    if let Some(table) = &arguments.files_of {
        let Some(current) = store.current_snapshot(pipeline).await? else {
            bail!("pipeline `{pipeline}` has no snapshot yet; `metad2a run` publishes one");
        };
        let files = store.table_locations(&current, table)?;
        answer(arguments.format, &files, |files| files.join("\n"))?;
        return Ok(Exit::Done);
    }
    let snapshots = store.list_snapshots(pipeline).await?;
    answer(arguments.format, snapshots.as_slice(), table)?;
    Ok(Exit::Done)
}

fn table(snapshots: &[Snapshot]) -> String {
    let mut text = format!(
        "{:>8}  {:<20}{:>12}{:>12}{:>12}\n",
        "snapshot", "published", "datasets", "evaluations", "candidates"
    );
    for snapshot in snapshots {
        let _ = writeln!(
            text,
            "{:>8}  {:<20}{:>12}{:>12}{:>12}",
            snapshot.number,
            snapshot.published_at.format("%Y-%m-%d %H:%M"),
            snapshot.rows("datasets"),
            snapshot.rows("evaluations"),
            snapshot.rows("candidates")
        );
    }
    text
}
