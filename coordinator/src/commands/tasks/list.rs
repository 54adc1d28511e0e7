//! `metad2a tasks list`.

use std::collections::HashMap;
use std::fmt::Write;

use chrono::{DateTime, Utc};
use metad2a_database::{Marker, Store, now};
use metad2a_pipeline::planner::Stage;
use metad2a_pipeline::tasks::Kind;
use metad2a_pipeline::verdict::Verdict;
use serde::Serialize;

use super::known::Stopped;
use super::{Known, Planned, SHOWN, short};
use crate::Exit;
use crate::cli::{TaskState, TasksList};
use crate::commands::output::answer;
use crate::hint::{Hint, WorkerHint};
use crate::progress::duration;
use crate::site::{Leader, Site};

/// A task as a listing shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Row {
    id: String,
    kind: Option<String>,
    state: TaskState,
    /// Where the pipeline's plan holds the task.
    stage: Option<Stage>,
    /// The pipeline in whose name it was decided, where that was recorded.
    pipeline: Option<String>,
    at: Option<DateTime<Utc>>,
    note: String,
}

#[derive(Debug, Serialize)]
struct Listing {
    tasks: Vec<Row>,
    /// How many there are, shown or not.
    total: usize,
    /// Finished tasks, where they were not asked for.
    done: usize,
}

pub(super) async fn list(arguments: TasksList) -> anyhow::Result<Exit> {
    let site = Site::look(&arguments.pipeline.file, &arguments.pipeline.addresses).await?;
    let known = match &site.store {
        Some(store) => Known::read(store).await?,
        None => Known::default(),
    };
    let wanted = |state: TaskState| arguments.state.is_none_or(|wanted| wanted == state);
    let mut rows = Vec::new();
    if wanted(TaskState::Open) || wanted(TaskState::InFlight) {
        let planned = Planned::read(&site).await?;
        let queue = site.queue().await;
        let leader = queue.leader(site.pipeline()).await;
        queue.close().await;
        let hint = match leader {
            Leader::Holder(_) => site.hint(&leader).await?,
            Leader::Nobody | Leader::Unknown(_) => None,
        };
        rows.extend(planned_rows(&planned, hint.as_ref(), now()));
    }
    rows.extend(known.stopped.iter().filter_map(|(id, stopped)| stopped_row(id, stopped)));
    rows.retain(|row| wanted(row.state));
    if let (Some(TaskState::Done), Some(store)) = (arguments.state, &site.store) {
        rows.extend(done_rows(store, arguments.kind).await?);
    }
    if let Some(kind) = arguments.kind {
        rows.retain(|row| row.kind.as_deref() == Some(kind.name()));
    }
    rows.sort_by(|a, b| a.state.cmp(&b.state).then_with(|| b.at.cmp(&a.at)));
    let total = rows.len();
    if arguments.limit > 0 {
        rows.truncate(arguments.limit);
    }
    let done = if arguments.state == Some(TaskState::Done) { 0 } else { known.done.len() };
    let listing = Listing { tasks: rows, total, done };
    answer(arguments.format, &listing, table)?;
    Ok(Exit::Done)
}

/// The tasks that can run now; those that the leader has handed out are in flight.
fn planned_rows(planned: &Planned, hint: Option<&Hint>, now: DateTime<Utc>) -> Vec<Row> {
    let mut handed_out: HashMap<&str, Option<&WorkerHint>> = HashMap::new();
    if let Some(hint) = hint {
        handed_out.extend(hint.in_flight.iter().map(|task| (task.id.as_str(), None)));
        for worker in &hint.workers {
            handed_out.extend(worker.busy.iter().map(|busy| (busy.task.id.as_str(), Some(worker))));
        }
    }
    let mut rows = Vec::new();
    for task in &planned.plan.enqueue {
        let id = task.id();
        let (state, note) = match handed_out.get(id.as_str()) {
            None => (TaskState::Open, String::new()),
            Some(None) => (TaskState::InFlight, "waits in the queue".to_owned()),
            Some(Some(worker)) => (TaskState::InFlight, at_work(worker, now)),
        };
        rows.push(Row {
            kind: Some(task.kind().name().to_owned()),
            state,
            stage: Some(Stage::of(&planned.study, task)),
            pipeline: None,
            at: None,
            note,
            id,
        });
    }
    rows
}

/// Who works on it, since when, and how far.
pub(in crate::commands) fn at_work(worker: &WorkerHint, now: DateTime<Utc>) -> String {
    let Some(busy) = &worker.busy else { return worker.name.clone() };
    let since = duration((now - busy.since).as_seconds_f64().max(0.0));
    match busy.progress {
        Some((done, total)) => format!("{}: {done} of {total}, for {since}", worker.name),
        None => format!("{}: for {since}", worker.name),
    }
}

fn stopped_row(id: &str, stopped: &Stopped) -> Option<Row> {
    let state = match stopped.verdict {
        Verdict::Failed => TaskState::Failed,
        Verdict::Cancelled => TaskState::Cancelled,
        Verdict::Dropped => TaskState::Dropped,
        Verdict::Retry => return None,
    };
    let by = stopped.detail.by.as_ref().map(|by| format!("by {by}"));
    Some(Row {
        id: id.to_owned(),
        kind: stopped.detail.kind.clone(),
        state,
        stage: None,
        pipeline: stopped.detail.pipeline.clone(),
        at: Some(stopped.decision.at),
        note: by.or_else(|| stopped.detail.reasons.last().cloned()).unwrap_or_default(),
    })
}

async fn done_rows(store: &Store, kind: Option<Kind>) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for kind in kind.map_or_else(|| Kind::ALL.to_vec(), |kind| vec![kind]) {
        rows.extend(store.markers(kind.name()).await?.into_iter().map(done_row));
    }
    Ok(rows)
}

fn done_row(marker: Marker) -> Row {
    let note = format!("{} on {} by {}", duration(marker.seconds), marker.device, marker.worker);
    Row {
        id: marker.id,
        kind: Some(marker.kind),
        state: TaskState::Done,
        stage: None,
        pipeline: None,
        at: Some(marker.finished_at),
        note,
    }
}

/// The word on the command line.
fn name(state: TaskState) -> &'static str {
    match state {
        TaskState::InFlight => "in-flight",
        TaskState::Open => "open",
        TaskState::Failed => "failed",
        TaskState::Cancelled => "cancelled",
        TaskState::Dropped => "dropped",
        TaskState::Done => "done",
    }
}

/// One line, cut so that a table stays a table; `tasks show` and JSON tell it whole.
pub(in crate::commands) fn one_line(text: &str) -> String {
    const LONGEST: usize = 100;
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn table(listing: &Listing) -> String {
    let mut text = String::new();
    if !listing.tasks.is_empty() {
        let _ = writeln!(text, "{:<SHOWN$}  {:<16}  {:<9}  note", "id", "kind", "state");
    }
    for row in &listing.tasks {
        let kind = row.kind.as_deref().unwrap_or("–");
        let line = format!(
            "{:<SHOWN$}  {kind:<16}  {:<9}  {}",
            short(&row.id),
            name(row.state),
            one_line(&row.note)
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if listing.tasks.is_empty() {
        text.push_str("There is no such task.\n");
    }
    if listing.total > listing.tasks.len() {
        let _ = writeln!(text, "\n{} of {}; `--limit 0` shows all.", listing.tasks.len(), listing.total);
    }
    if listing.done > 0 {
        let _ = writeln!(text, "\n{} tasks are done; `--state done` lists them.", listing.done);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hint::{Busy, TaskHint};

    fn row(id: &str, kind: &str, state: TaskState, note: &str) -> Row {
        Row {
            id: id.repeat(8),
            kind: Some(kind.to_owned()),
            state,
            stage: None,
            pipeline: None,
            at: None,
            note: note.to_owned(),
        }
    }

    #[test]
    fn a_listing_says_what_each_task_waits_for_and_what_is_left_out() {
        let at = |second: i64| DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap();
        let worker = WorkerHint {
            name: "ada-7/0".to_owned(),
            heard_at: at(30),
            busy: Some(Busy {
                task: TaskHint { id: "0123abcd".repeat(8), kind: "evaluate".to_owned() },
                since: at(0),
                progress: Some((3, 20)),
            }),
        };
        let reason = format!("no progress for 600 s; its last lines: {}", "epoch 3 | ".repeat(20));
        let listing = Listing {
            tasks: vec![
                row("0123abcd", "evaluate", TaskState::InFlight, &at_work(&worker, at(35))),
                row("9f00aa11", "extract-features", TaskState::Open, ""),
                row("77e1c2d3", "train-episodes", TaskState::Failed, &reason),
            ],
            total: 12,
            done: 400,
        };
        insta::assert_snapshot!(table(&listing), @"
        id            kind              state      note
        0123abcd0123  evaluate          in-flight  ada-7/0: 3 of 20, for 35 s
        9f00aa119f00  extract-features  open
        77e1c2d377e1  train-episodes    failed     no progress for 600 s; its last lines: epoch 3 | epoch 3 | epoch 3 | epoch 3 | epoch 3 | epoch 3 | e…

        3 of 12; `--limit 0` shows all.

        400 tasks are done; `--state done` lists them.
        ");
        insta::assert_snapshot!(table(&Listing { tasks: Vec::new(), total: 0, done: 0 }), @"There is no such task.");
    }
}
