//! `metad2a snapshots`: what was published, where it lies, how it changed, whether it is whole, and back to it.

mod diff;
mod rollback;
mod verify;

use std::collections::BTreeMap;
use std::fmt::Write;

use metad2a_database::{Snapshot, Store};

use super::output::{answer, print};
use crate::Exit;
use crate::cli::snapshots::{
    PathFormat, SnapshotChoice, Snapshots, SnapshotsList, SnapshotsPath, SnapshotsWhat,
};
use crate::cli::{Format, PipelineOption};
use crate::site::Site;
use crate::views::create_views;

pub(crate) async fn snapshots(arguments: Snapshots) -> anyhow::Result<Exit> {
    match arguments.what {
        None => match arguments.files_of {
            None => list(arguments.list).await,
            Some(table) => path(files_of(table, arguments.list)).await,
        },
        Some(SnapshotsWhat::List(arguments)) => list(arguments).await,
        Some(SnapshotsWhat::Path(arguments)) => path(arguments).await,
        Some(SnapshotsWhat::Diff(arguments)) => diff::diff(arguments).await,
        Some(SnapshotsWhat::Verify(arguments)) => verify::verify(arguments).await,
        Some(SnapshotsWhat::Rollback(arguments)) => rollback::rollback(arguments).await,
    }
}

/// The short form of `path`.
fn files_of(table: String, list: SnapshotsList) -> SnapshotsPath {
    let SnapshotsList { pipeline, format } = list;
    SnapshotsPath {
        pipeline: PipelineOption { file: pipeline.file, addresses: pipeline.addresses },
        snapshot: SnapshotChoice::Current,
        table: Some(table),
        format: match format {
            Format::Table => PathFormat::Table,
            Format::Json => PathFormat::Json,
        },
    }
}

async fn list(arguments: SnapshotsList) -> anyhow::Result<Exit> {
    let site = Site::look(&arguments.pipeline.file, &arguments.pipeline.addresses).await?;
    let snapshots = site.needed_store()?.list_snapshots(site.pipeline()).await?;
    answer(arguments.format, snapshots.as_slice(), table)?;
    Ok(Exit::Done)
}

fn table(snapshots: &[Snapshot]) -> String {
    let mut text = format!(
        "{:>8}  {:<20}{:>12}{:>12}{:>12}\n",
        "snapshot", "published", "datasets", "evaluations", "candidates"
    );
    for snapshot in snapshots {
        let remark = snapshot.restored_from.map_or_else(String::new, |old| format!("  content of {old}"));
        let _ = writeln!(
            text,
            "{:>8}  {:<20}{:>12}{:>12}{:>12}{remark}",
            snapshot.number,
            snapshot.published_at.format("%Y-%m-%d %H:%M"),
            snapshot.rows("datasets"),
            snapshot.rows("evaluations"),
            snapshot.rows("candidates")
        );
    }
    text
}

async fn path(arguments: SnapshotsPath) -> anyhow::Result<Exit> {
    let site = Site::look(&arguments.pipeline.file, &arguments.pipeline.addresses).await?;
    let snapshot = site.snapshot(arguments.snapshot).await?;
    let places = places(site.needed_store()?, &snapshot, arguments.table.as_deref())?;
    let one = arguments.table.and_then(|table| places.get(&table));
    match arguments.format {
        PathFormat::Sql => print(&create_views(&places))?,
        PathFormat::Json => match one {
            Some(files) => print(&serde_json::to_string_pretty(files)?)?,
            None => print(&serde_json::to_string_pretty(&places)?)?,
        },
        PathFormat::Table => match one {
            Some(files) => print(&files.join("\n"))?,
            None => print(&lines(&places))?,
        },
    }
    Ok(Exit::Done)
}

/// Table → where its files lie; one table, or all of the snapshot.
pub(super) fn places(
    store: &Store,
    snapshot: &Snapshot,
    table: Option<&str>,
) -> anyhow::Result<BTreeMap<String, Vec<String>>> {
    let tables: Vec<&str> = match table {
        Some(table) => vec![table],
        None => snapshot.tables.keys().map(String::as_str).collect(),
    };
    let mut places = BTreeMap::new();
    for table in tables {
        places.insert(table.to_owned(), store.table_locations(snapshot, table)?);
    }
    Ok(places)
}

fn lines(places: &BTreeMap<String, Vec<String>>) -> String {
    let mut text = String::new();
    for (table, files) in places {
        for file in files {
            let _ = writeln!(text, "{table:<18}{file}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_list_says_which_content_was_published_again() {
        let snapshot = |number: u32, restored_from: Option<u32>| -> Snapshot {
            let table = |rows: u64| json!({"schema_version": 1, "rows": rows, "files": []});
            serde_json::from_value(json!({
                "pipeline": "small", "number": number, "inputs_id": "x", "execution_id": "y",
                "published_at": "2026-11-24T03:10:00Z", "models": {}, "restored_from": restored_from,
                "tables": {"datasets": table(12), "evaluations": table(345), "candidates": table(1_000)},
            }))
            .unwrap()
        };
        insta::assert_snapshot!(table(&[snapshot(1, None), snapshot(2, Some(1))]), @"
        snapshot  published               datasets evaluations  candidates
               1  2026-11-24 03:10              12         345        1000
               2  2026-11-24 03:10              12         345        1000  content of 1
        ");
    }
}
