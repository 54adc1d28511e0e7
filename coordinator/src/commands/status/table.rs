//! How a pipeline stands, for a person.

use std::fmt::Write;

use chrono::{DateTime, Utc};

use super::{State, Word};
use crate::commands::tasks::{at_work, short};
use crate::progress::duration;

/// So many busy slots are shown one by one.
const MOST_WORKERS: usize = 20;

pub(super) fn table(state: &State, now: DateTime<Utc>) -> String {
    let mut text = String::new();
    let word = match state.state {
        Word::Running => "running",
        Word::Open => "not finished",
        Word::Finished => "finished",
        Word::Blocked => "blocked",
        Word::Unknown => "unknown",
    };
    let _ = write!(text, "{}: {word}", state.pipeline);
    if let Some(leader) = &state.leader {
        let _ = write!(text, ", led by {leader}");
    }
    if let Some(run) = &state.run {
        let _ = write!(
            text,
            "\nrun {} since {}; its last news is {} old",
            short(&run.run_id),
            run.started_at.format("%Y-%m-%d %H:%M:%S UTC"),
            ago(run.told_at, now)
        );
    }
    text.push('\n');
    if let Some(remark) = &state.remark {
        let _ = writeln!(text, "{remark}");
    }
    stages(&mut text, state);
    workers(&mut text, state, now);
    queue(&mut text, state);
    for snapshot in &state.aside.snapshots {
        let _ = writeln!(
            text,
            "Snapshot {}: published {}, {} evaluations",
            snapshot.number,
            snapshot.published_at.format("%Y-%m-%d %H:%M UTC"),
            snapshot.evaluations
        );
    }
    if state.aside.snapshots.is_empty() {
        text.push_str("No snapshot was published yet.\n");
    }
    text
}

fn ago(then: DateTime<Utc>, now: DateTime<Utc>) -> String {
    duration((now - then).as_seconds_f64().max(0.0))
}

fn stages(text: &mut String, state: &State) {
    if state.stages.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "\n{:<14}{:>8}{:>8}{:>11}{:>9}{:>8}{:>10}{:>10}  unit",
        "stage", "done", "failed", "cancelled", "dropped", "left", "rate", "to go"
    );
    for (stage, hint) in &state.stages {
        let progress = hint.progress;
        let rate = hint.per_second.filter(|_| !progress.is_settled());
        let _ = writeln!(
            text,
            "{:<14}{:>8}{:>8}{:>11}{:>9}{:>8}{:>10}{:>10}  {}",
            stage.name(),
            progress.done,
            progress.failed,
            progress.cancelled,
            progress.dropped,
            progress.left(),
            rate.map_or_else(|| "–".to_owned(), told_rate),
            hint.seconds_left.map_or_else(|| "–".to_owned(), duration),
            stage.unit()
        );
    }
    text.push('\n');
}

/// As a person says it: `2.5/s`, `12/min`, `3.0/h`.
fn told_rate(per_second: f64) -> String {
    if per_second >= 1.0 {
        format!("{per_second:.1}/s")
    } else if per_second * 60.0 >= 1.0 {
        format!("{:.1}/min", per_second * 60.0)
    } else {
        format!("{:.1}/h", per_second * 3_600.0)
    }
}

fn workers(text: &mut String, state: &State, now: DateTime<Utc>) {
    if state.run.is_none() {
        return;
    }
    let busy: Vec<_> =
        state.workers.iter().filter_map(|worker| Some((worker, worker.busy.as_ref()?))).collect();
    let _ = writeln!(
        text,
        "Workers: {} slots heard of, {} busy; tasks in flight: {}",
        state.workers.len(),
        busy.len(),
        state.in_flight_total
    );
    for (worker, task) in busy.iter().take(MOST_WORKERS) {
        let _ = writeln!(
            text,
            "  {} {} at {}, heard {} ago",
            task.task.kind,
            short(&task.task.id),
            at_work(worker, now),
            ago(worker.heard_at, now)
        );
    }
    if busy.len() > MOST_WORKERS {
        let _ = writeln!(text, "  and {} more; `--format json` names all", busy.len() - MOST_WORKERS);
    }
}

fn queue(text: &mut String, state: &State) {
    let queue = &state.queue;
    if let Some(problem) = &queue.problem {
        let _ = writeln!(text, "Queue: cannot be asked: {problem}");
    } else if queue.ready.is_empty() {
        text.push_str("Queue: not there yet\n");
    } else {
        let lanes: Vec<String> =
            queue.ready.iter().map(|(lane, ready)| format!("{ready} in {lane}")).collect();
        let _ = writeln!(text, "Queue: ready {}", lanes.join(", "));
    }
    let retries =
        state.run.as_ref().map_or_else(String::new, |run| format!("; {} retries in this run", run.retries));
    let next = if state.aside.dead_letters > 0 { "; `metad2a dead-letters list` names them" } else { "" };
    let _ = writeln!(
        text,
        "Dead letters: {}, cancelled tasks: {}{retries}{next}",
        state.aside.dead_letters, state.aside.cancelled
    );
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use metad2a_pipeline::planner::{Progress, Stage};

    use super::super::{Aside, QueueState, RunState, SnapshotState};
    use super::*;
    use crate::hint::{Busy, StageHint, TaskHint, WorkerHint};

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    pub(in crate::commands::status) fn running() -> State {
        let task = TaskHint { id: "0123abcd".repeat(8), kind: "evaluate".to_owned() };
        let progress = Progress { done: 40, failed: 1, cancelled: 2, total: 100, ..Progress::default() };
        let busy = Busy { task: task.clone(), since: at(0), progress: Some((3, 20)) };
        State {
            pipeline: "small".to_owned(),
            state: Word::Running,
            remark: None,
            leader: Some("process 7 on ada".to_owned()),
            run: Some(RunState {
                run_id: "77e1c2d3".repeat(4),
                started_at: at(-600),
                told_at: at(58),
                retries: 1,
            }),
            stages: BTreeMap::from([(
                Stage::Evaluations,
                StageHint { progress, per_second: Some(0.1), seconds_left: Some(570.0) },
            )]),
            workers: vec![
                WorkerHint { name: "ada-9/0".to_owned(), heard_at: at(55), busy: Some(busy) },
                WorkerHint { name: "ada-9/1".to_owned(), heard_at: at(50), busy: None },
            ],
            in_flight: vec![task],
            in_flight_total: 1,
            queue: QueueState {
                problem: None,
                ready: BTreeMap::from([("gpu.high".to_owned(), 0), ("gpu.normal".to_owned(), 4)]),
                dead_letters: Some(1),
            },
            aside: Aside {
                dead_letters: 1,
                cancelled: 2,
                snapshots: vec![SnapshotState { number: 12, published_at: at(-90_000), evaluations: 152 }],
            },
        }
    }

    #[test]
    fn a_running_pipeline_shows_stages_workers_queue_and_snapshots() {
        insta::assert_snapshot!(table(&running(), at(60)), @"
        small: running, led by process 7 on ada
        run 77e1c2d377e1 since 2027-01-15 07:50:00 UTC; its last news is 2 s old

        stage             done  failed  cancelled  dropped    left      rate     to go  unit
        evaluations         40       1          2        0      57   6.0/min    10 min  trainings

        Workers: 2 slots heard of, 1 busy; tasks in flight: 1
          evaluate 0123abcd0123 at ada-9/0: 3 of 20, for 60 s, heard 5 s ago
        Queue: ready 0 in gpu.high, 4 in gpu.normal
        Dead letters: 1, cancelled tasks: 2; 1 retries in this run; `metad2a dead-letters list` names them
        Snapshot 12: published 2027-01-14 07:00 UTC, 152 evaluations
        ");
    }

    #[test]
    fn where_nothing_runs_the_store_tells_and_what_cannot_be_asked_is_said() {
        let state = State {
            state: Word::Open,
            remark: Some("nothing is running; `metad2a run` goes on from here".to_owned()),
            leader: None,
            run: None,
            workers: Vec::new(),
            queue: QueueState {
                problem: Some("broker `amqp://broker/`: cannot connect".to_owned()),
                ready: BTreeMap::new(),
                dead_letters: None,
            },
            aside: Aside { dead_letters: 0, cancelled: 0, snapshots: Vec::new() },
            ..running()
        };
        insta::assert_snapshot!(table(&state, at(60)), @"
        small: not finished
        nothing is running; `metad2a run` goes on from here

        stage             done  failed  cancelled  dropped    left      rate     to go  unit
        evaluations         40       1          2        0      57   6.0/min    10 min  trainings

        Queue: cannot be asked: broker `amqp://broker/`: cannot connect
        Dead letters: 0, cancelled tasks: 0
        No snapshot was published yet.
        ");
    }
}
