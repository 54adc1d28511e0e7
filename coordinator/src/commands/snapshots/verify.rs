//! `metad2a snapshots verify`: is it still what was published?

use std::fmt::Write;

use metad2a_database::Verified;
use serde::Serialize;

use crate::Exit;
use crate::cli::snapshots::SnapshotsVerify;
use crate::commands::output::answer;
use crate::site::Site;

#[derive(Debug, Serialize)]
struct Report {
    pipeline: String,
    snapshot: u32,
    #[serde(flatten)]
    verified: Verified,
}

pub(super) async fn verify(arguments: SnapshotsVerify) -> anyhow::Result<Exit> {
    let site = Site::look(&arguments.pipeline.file, &arguments.pipeline.addresses).await?;
    let snapshot = site.snapshot(arguments.snapshot).await?;
    let report = Report {
        pipeline: snapshot.pipeline.clone(),
        snapshot: snapshot.number,
        verified: site.needed_store()?.verify(&snapshot).await?,
    };
    answer(arguments.format, &report, table)?;
    Ok(if report.verified.broken.is_empty() { Exit::Done } else { Exit::Failed })
}

fn table(report: &Report) -> String {
    let Verified { files, bytes, rows, broken } = &report.verified;
    let name = format!("Snapshot {} of `{}`", report.snapshot, report.pipeline);
    if broken.is_empty() {
        return format!("{name} is whole: {files} files, {:.1} MB, {rows} rows.\n", *bytes as f64 / 1e6);
    }
    let mut text = format!("{name} is broken:\n");
    for broken in broken {
        let _ = writeln!(text, "  {broken}");
    }
    if broken.iter().any(|broken| broken.file.is_some()) {
        text.push_str(
            "\nWhat refers to rows of a broken file was not checked. Restore such files from a copy of the store, or go \
             back to a whole snapshot: `metad2a snapshots rollback NUMBER`.\n",
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use metad2a_database::Broken;

    use super::*;

    #[test]
    fn a_whole_snapshot_is_one_line_and_a_broken_one_names_everything() {
        let mut report = Report {
            pipeline: "small".to_owned(),
            snapshot: 3,
            verified: Verified { files: 13, bytes: 1_250_000, rows: 31_402, broken: Vec::new() },
        };
        insta::assert_snapshot!(table(&report), @"Snapshot 3 of `small` is whole: 13 files, 1.2 MB, 31402 rows.");
        report.verified.broken = vec![
            Broken {
                file: Some("small/tables/curves/0a.parquet".to_owned()),
                rule: "is missing from the store".to_owned(),
            },
            Broken { file: None, rule: "`evaluations` has 12 rows, the manifest says 13".to_owned() },
        ];
        insta::assert_snapshot!(table(&report), @"
        Snapshot 3 of `small` is broken:
          `small/tables/curves/0a.parquet` is missing from the store
          `evaluations` has 12 rows, the manifest says 13

        What refers to rows of a broken file was not checked. Restore such files from a copy of the store, or go back to a whole snapshot: `metad2a snapshots rollback NUMBER`.
        ");
    }
}
