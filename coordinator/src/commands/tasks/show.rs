//! `metad2a tasks show` and `metad2a dead-letters show`: all that is known of one task.

use std::fmt::Write;

use metad2a_database::{Decision, Marker, now};
use metad2a_pipeline::ids::resolve;
use metad2a_pipeline::planner::Stage;
use metad2a_pipeline::tasks::{Kind, Task};
use metad2a_pipeline::verdict::Verdict;
use serde::Serialize;

use super::list::at_work;
use super::{Known, Planned};
use crate::cli::TasksShow;
use crate::commands::output::try_answer;
use crate::hint::WorkerHint;
use crate::site::Site;
use crate::{Exit, ledger};

#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    kind: Option<Kind>,
    /// Where the pipeline's plan holds it among the tasks that can run now.
    stage: Option<Stage>,
    state: &'static str,
    /// Who works on it.
    worker: Option<WorkerHint>,
    /// Where it is done.
    marker: Option<Marker>,
    /// Oldest first.
    decisions: Vec<Decision>,
    task: Option<Task>,
}

pub(in crate::commands) async fn show(arguments: TasksShow) -> anyhow::Result<Exit> {
    let site = Site::look(&arguments.pipeline.file, &arguments.pipeline.addresses).await?;
    let store = site.needed_store()?;
    let known = Known::read(store).await?;
    // What can run now is known from the plan alone, whose sources need not be there to show all else.
    let (planned, unplanned) = match Planned::read(&site).await {
        Ok(planned) => (Some(planned), None),
        Err(error) => (None, Some(error)),
    };
    let open: Vec<(String, &Task)> =
        planned.iter().flat_map(|planned| &planned.plan.enqueue).map(|task| (task.id(), task)).collect();
    let found = resolve(&arguments.id, open.iter().map(|(id, _)| id.as_str()).chain(known.ids()));
    if let (Err(_), Some(error)) = (&found, &unplanned) {
        eprintln!("metad2a: tasks that can run now are not looked through: {error:#}");
    }
    let id = found?;
    let wish = known.wish(&id);
    let open = open.into_iter().find(|(open, _)| *open == id).map(|(_, task)| task.clone());
    let kind = open.as_ref().map(Task::kind).or(wish.as_ref().and_then(|wish| wish.kind));
    let marker = match kind {
        Some(kind) => store.marker(kind.name(), &id).await?,
        None => None,
    };
    let queue = site.queue().await;
    let leader = queue.leader(site.pipeline()).await;
    queue.close().await;
    let hint = site.hint(&leader).await?.filter(|hint| hint.outcome.is_none());
    let worker = hint.and_then(|hint| {
        let works = |worker: &WorkerHint| worker.busy.as_ref().is_some_and(|busy| busy.task.id == id);
        hint.workers.into_iter().find(works)
    });
    let decisions = store.decisions(&id).await?;
    let newest = decisions.last().and_then(|decision| Verdict::of(&decision.decision));
    let state = match (&marker, newest.filter(|verdict| verdict.stops())) {
        (Some(_), _) => "done",
        (None, Some(verdict)) => verdict.name(),
        (None, None) if worker.is_some() => "in flight",
        (None, None) => "open",
    };
    let stage = planned.as_ref().zip(open.as_ref()).map(|(planned, task)| Stage::of(&planned.study, task));
    let task = open.or(wish.and_then(|wish| wish.task));
    let shown = Shown { id, kind, stage, state, worker, marker, decisions, task };
    try_answer(arguments.format, &shown, text)?;
    Ok(Exit::Done)
}

fn text(shown: &Shown) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    line("task", &shown.id);
    line("kind", shown.kind.map_or("unknown", Kind::name));
    if let Some(stage) = shown.stage {
        line("stage", stage.name());
    }
    line("state", shown.state);
    if let Some(worker) = &shown.worker {
        line("worker", &at_work(worker, now()));
    }
    if let Some(marker) = &shown.marker {
        let how = format!(
            "{} by {} on {}, attempt {}, {:.1} s",
            marker.finished_at.format("%Y-%m-%d %H:%M:%S UTC"),
            marker.worker,
            marker.device,
            marker.attempt,
            marker.seconds
        );
        line("finished", &how);
        for file in &marker.files {
            line("file", &format!("{} ({} bytes)", file.path, file.bytes));
        }
    }
    for decision in &shown.decisions {
        let detail = ledger::verdict_detail(decision)?;
        let by = detail.by.map_or_else(String::new, |by| format!(" by {by}"));
        let at = decision.at.format("%Y-%m-%d %H:%M:%S UTC");
        line("decision", &format!("{at} {}{by}", decision.decision));
        for (number, reason) in detail.reasons.iter().enumerate() {
            line("", &format!("attempt {}: {reason}", number + 1));
        }
    }
    if let Some(next) = next_step(shown) {
        line("next", &next);
    }
    if let Some(task) = &shown.task {
        let _ = write!(text, "\n{}", serde_json::to_string_pretty(task)?);
    }
    Ok(text)
}

fn next_step(shown: &Shown) -> Option<String> {
    let id = super::short(&shown.id);
    match shown.state {
        "failed" => Some(format!(
            "mend the cause, then `metad2a tasks retry {id}`; or `metad2a dead-letters drop {id}`"
        )),
        "cancelled" | "dropped" => Some(format!("`metad2a tasks retry {id}` lets it be tried again")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_task_is_shown_with_its_whole_history_and_the_next_step() {
        let at = |second: i64| DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap();
        let decision = |number, word: &str, detail| Decision {
            id: "0123abcd".repeat(8),
            number,
            decision: word.to_owned(),
            detail,
            at: at(number.into()),
        };
        let shown = Shown {
            id: "0123abcd".repeat(8),
            kind: Some(Kind::Evaluate),
            stage: None,
            state: "failed",
            worker: None,
            marker: None,
            decisions: vec![
                decision(0, "failed", json!({"kind": "evaluate", "reasons": ["out of memory", "killed"]})),
                decision(1, "retry", json!({"by": "ada on lovelace"})),
                decision(2, "failed", json!({"reasons": ["out of memory"]})),
            ],
            task: None,
        };
        insta::assert_snapshot!(text(&shown).unwrap(), @"
        task       0123abcd0123abcd0123abcd0123abcd0123abcd0123abcd0123abcd0123abcd
        kind       evaluate
        state      failed
        decision   2027-01-15 08:00:00 UTC failed
                   attempt 1: out of memory
                   attempt 2: killed
        decision   2027-01-15 08:00:01 UTC retry by ada on lovelace
        decision   2027-01-15 08:00:02 UTC failed
                   attempt 1: out of memory
        next       mend the cause, then `metad2a tasks retry 0123abcd0123`; or `metad2a dead-letters drop 0123abcd0123`
        ");
    }
}
