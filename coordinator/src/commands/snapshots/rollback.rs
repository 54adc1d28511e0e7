//! `metad2a snapshots rollback`: the content of an old snapshot, published again.

use anyhow::Context;
use metad2a_database::Published;
use serde::Serialize;

use crate::Exit;
use crate::cli::snapshots::SnapshotsRollback;
use crate::commands::leading::while_leading;
use crate::commands::output::answer;
use crate::site::Site;

#[derive(Debug, Serialize)]
struct Report {
    pipeline: String,
    /// Whose content it is.
    restored_from: u32,
    /// The current snapshot now.
    snapshot: u32,
    /// False where the current snapshot had that content already.
    is_new: bool,
}

pub(super) async fn rollback(arguments: SnapshotsRollback) -> anyhow::Result<Exit> {
    let site = Site::change(&arguments.pipeline.file, &arguments.pipeline.addresses).await?;
    let store = site.needed_store()?;
    let (pipeline, number) = (site.pipeline(), arguments.number);
    // Neither a run that publishes nor garbage collection can come in between.
    let work = async {
        let published = store.roll_back(pipeline, number).await;
        let published = published
            .with_context(|| format!("there is no way back to snapshot {number} of `{pipeline}`"))?;
        let (snapshot, is_new) = match published {
            Published::New(snapshot) => (snapshot, true),
            Published::Unchanged(snapshot) => (snapshot, false),
        };
        let report = Report { pipeline: pipeline.to_owned(), restored_from: number, snapshot, is_new };
        answer(arguments.format, &report, table)?;
        Ok(Exit::Done)
    };
    while_leading(&site.project.specification, "snapshots rollback", "nothing is published", work).await
}

fn table(report: &Report) -> String {
    let Report { pipeline, restored_from, snapshot, is_new } = report;
    if !is_new {
        return format!(
            "Snapshot {snapshot} of `{pipeline}`, the current one, has the content of {restored_from} already.\n"
        );
    }
    format!(
        "Snapshot {snapshot} of `{pipeline}` is published: the content of snapshot {restored_from}. Nothing was removed.\n\
         The next run publishes what the pipeline's file asks for, as before: mend what was wrong first.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_says_what_is_current_now_and_what_the_next_run_does() {
        let mut report =
            Report { pipeline: "small".to_owned(), restored_from: 41, snapshot: 44, is_new: true };
        insta::assert_snapshot!(table(&report), @"
        Snapshot 44 of `small` is published: the content of snapshot 41. Nothing was removed.
        The next run publishes what the pipeline's file asks for, as before: mend what was wrong first.
        ");
        report.is_new = false;
        insta::assert_snapshot!(table(&report), @"Snapshot 44 of `small`, the current one, has the content of 41 already.");
    }
}
