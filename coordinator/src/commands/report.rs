//! `metad2a report`: a published snapshot as a page for people.

use std::path::PathBuf;

use super::output::{print, write_file};
use super::tasks::Known;
use crate::Exit;
use crate::cli::snapshots::{Report, ReportFormat};
use crate::report::figures::{Figures, SetAside};
use crate::report::{Tables, html};
use crate::site::Site;

pub(crate) async fn report(arguments: Report) -> anyhow::Result<Exit> {
    let site = Site::look(&arguments.pipeline.file, &arguments.pipeline.addresses).await?;
    let snapshot = site.snapshot(arguments.snapshot).await?;
    let store = site.needed_store()?;
    let tables = Tables::read_all(store, &snapshot).await?;
    let set_aside = set_aside(Known::read(store).await?, site.pipeline());
    let figures = Figures::new(&snapshot, &tables, set_aside);
    let text = match arguments.format {
        ReportFormat::Html => html::page(&figures),
        ReportFormat::Json => serde_json::to_string_pretty(&figures)?,
    };
    let file = arguments.output.unwrap_or_else(|| {
        PathBuf::from(format!("{}-{}.{}", snapshot.pipeline, snapshot.number, arguments.format.ending()))
    });
    write_file(&file, text.as_bytes())?;
    print(&file.display().to_string())?;
    Ok(Exit::Done)
}

/// Newest first; what a person lets be tried again is not set aside.
fn set_aside(known: Known, pipeline: &str) -> Vec<SetAside> {
    let own = known.stopped.into_iter().filter(|(_, stopped)| {
        stopped.verdict.stops() && stopped.detail.pipeline.as_deref().is_none_or(|name| name == pipeline)
    });
    let mut set_aside: Vec<SetAside> = own
        .map(|(id, stopped)| SetAside {
            id,
            kind: stopped.detail.kind,
            state: stopped.verdict.name().to_owned(),
            at: stopped.decision.at,
            reason: stopped.detail.reasons.last().cloned(),
        })
        .collect();
    set_aside.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.id.cmp(&b.id)));
    set_aside
}
