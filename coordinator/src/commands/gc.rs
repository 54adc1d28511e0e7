//! `metad2a gc`: shows what nobody needs any more, and removes it if told to.

use std::collections::BTreeMap;
use std::fmt::Write;

use chrono::TimeDelta;
use metad2a_database::{Access, Garbage, Limits, Reason, Store, garbage};
use serde::Serialize;

use super::leading::while_leading;
use super::output::answer;
use crate::cli::Gc;
use crate::{Exit, project};

#[derive(Debug, Serialize)]
struct Report {
    pipeline: String,
    /// False where it only was looked.
    deleted: bool,
    keep_snapshots: usize,
    grace_seconds: i64,
    garbage: Vec<Garbage>,
    /// Half-written files of killed programs: local stores only.
    staged: Sum,
    /// What was removed in the end.
    removed: Sum,
    /// Written again since they were found.
    spared: u64,
}

#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Sum {
    objects: u64,
    bytes: u64,
}

impl From<(u64, u64)> for Sum {
    fn from((objects, bytes): (u64, u64)) -> Self {
        Self { objects, bytes }
    }
}

pub(crate) async fn gc(arguments: Gc) -> anyhow::Result<Exit> {
    let project = project::load(&arguments.pipeline.file, &arguments.pipeline.addresses)?;
    let specification = &project.specification;
    // There must be a database; only then it is opened for writing, which even a look needs, to ask the store's clock.
    Store::open(&specification.store, Access::ReadOnly).await?;
    let store = Store::open(&specification.store, Access::ReadWrite).await?;
    if !arguments.delete {
        return collect(&store, &specification.name, &arguments).await;
    }
    // A run publishes only while it leads, so leading keeps both apart.
    let work = Box::pin(collect(&store, &specification.name, &arguments));
    while_leading(specification, "gc", "nothing is removed", work).await
}

async fn collect(store: &Store, pipeline: &str, arguments: &Gc) -> anyhow::Result<Exit> {
    let grace = arguments.grace_seconds.map_or_else(
        || TimeDelta::hours(arguments.grace.into()),
        |seconds| TimeDelta::seconds(seconds.into()),
    );
    let keep = arguments.keep as usize;
    // Before anything is listed: what is written meanwhile only seems younger than it is.
    let now = store.time().await?;
    let inventory = store.inventory(pipeline).await?;
    let garbage = garbage(&inventory, Limits { now, grace, keep });
    let mut report = Report {
        pipeline: pipeline.to_owned(),
        deleted: arguments.delete,
        keep_snapshots: keep,
        grace_seconds: grace.num_seconds(),
        staged: store.staged(now - grace).await?.into(),
        removed: Sum::default(),
        spared: 0,
        garbage,
    };
    if arguments.delete {
        let removed = store.remove(&report.garbage).await?;
        report.staged = store.sweep_staged(now - grace).await?.into();
        report.removed = Sum {
            objects: removed.objects + report.staged.objects,
            bytes: removed.bytes + report.staged.bytes,
        };
        report.spared = removed.spared;
    }
    answer(arguments.format, &report, table)?;
    Ok(Exit::Done)
}

fn named(reason: Reason) -> &'static str {
    match reason {
        Reason::OldSnapshot => "manifests of old snapshots",
        Reason::OldTable => "tables that no kept snapshot holds",
        Reason::OrphanedResult => "results that nothing names",
        Reason::SpentCheckpoint => "checkpoints of finished tasks",
        Reason::Probe => "leftovers of probes",
    }
}

fn table(report: &Report) -> String {
    let mut by_reason: BTreeMap<Reason, Sum> = BTreeMap::new();
    for garbage in &report.garbage {
        let sum = by_reason.entry(garbage.reason).or_default();
        sum.objects += 1;
        sum.bytes += garbage.bytes;
    }
    let mut rows: Vec<(&str, Sum)> =
        by_reason.into_iter().map(|(reason, sum)| (named(reason), sum)).collect();
    if report.staged.objects > 0 {
        rows.push(("half-written files of killed programs", report.staged));
    }
    let mut text = String::new();
    if rows.is_empty() {
        let _ = writeln!(
            text,
            "Nothing of `{}` is older than {} and needed by nobody.",
            report.pipeline,
            hours(report.grace_seconds)
        );
        return text;
    }
    let _ = writeln!(text, "{:>9}{:>12}  what", "objects", "MB");
    for (what, sum) in rows {
        let _ = writeln!(text, "{:>9}{:>12.1}  {what}", sum.objects, sum.bytes as f64 / 1e6);
    }
    let _ = writeln!(
        text,
        "\nAll are older than {}; the newest {} snapshots stay.",
        hours(report.grace_seconds),
        report.keep_snapshots
    );
    if report.deleted {
        let _ = writeln!(
            text,
            "Removed {} objects, {:.1} MB; {} were written again meanwhile and stay.",
            report.removed.objects,
            report.removed.bytes as f64 / 1e6,
            report.spared
        );
    } else {
        text.push_str("Nothing was removed; `--delete` does that, `--format json` names each object.\n");
    }
    text
}

fn hours(seconds: i64) -> String {
    if seconds % 3_600 == 0 { format!("{} h", seconds / 3_600) } else { format!("{seconds} s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_sums_by_reason_and_says_whether_anything_was_removed() {
        let object = |reason, bytes| Garbage {
            path: "x".to_owned(),
            bytes,
            modified: metad2a_database::now(),
            reason,
        };
        let mut report = Report {
            pipeline: "small".to_owned(),
            deleted: false,
            keep_snapshots: 10,
            grace_seconds: 86_400,
            garbage: vec![
                object(Reason::OldTable, 3_000_000),
                object(Reason::OrphanedResult, 400_000),
                object(Reason::OldTable, 1_000_000),
            ],
            staged: Sum { objects: 1, bytes: 50_000 },
            removed: Sum::default(),
            spared: 0,
        };
        insta::assert_snapshot!(table(&report), @"
          objects          MB  what
                2         4.0  tables that no kept snapshot holds
                1         0.4  results that nothing names
                1         0.1  half-written files of killed programs

        All are older than 24 h; the newest 10 snapshots stay.
        Nothing was removed; `--delete` does that, `--format json` names each object.
        ");
        report.deleted = true;
        report.removed = Sum { objects: 3, bytes: 4_050_000 };
        report.spared = 1;
        assert!(
            table(&report).ends_with("Removed 3 objects, 4.0 MB; 1 were written again meanwhile and stay.\n")
        );
        report.garbage.clear();
        report.staged = Sum::default();
        insta::assert_snapshot!(table(&report), @"Nothing of `small` is older than 24 h and needed by nobody.");
    }
}
