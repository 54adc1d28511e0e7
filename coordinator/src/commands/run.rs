//! `metad2a run`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::anyhow;
use metad2a_database::{Access, Published, Store};
use metad2a_pipeline::planner::Planner;
use metad2a_pipeline::specification::Specification;
use metad2a_pipeline::study::Study;
use metad2a_queue::{Leadership, Queue};

use super::detach;
use super::output::answer;
use crate::cli::{Format, LocalWorkers, Run};
use crate::hint::{self, Outcome as RunOutcome, RunName, Watched};
use crate::ledger::Heads;
use crate::local_workers::{Launch, LocalWorker};
use crate::progress::{Reporter, duration};
use crate::project::Project;
use crate::publication::{RunFacts, publish};
use crate::run::{Delivery, End, Leader, to_the_end, without_workers};
use crate::{Exit, exit_code_of, imports, ledger, project, report, sources};

pub(crate) async fn run(arguments: Run) -> anyhow::Result<Exit> {
    if arguments.leads_socket.is_some() {
        detach::leave_session()?;
    } else if arguments.detach {
        return detach::start(&arguments).await;
    }
    let started = Instant::now();
    let mut facts = RunFacts {
        run_id: metad2a_database::random_id(),
        started_at: metad2a_database::now(),
        tasks_done: 0,
        tasks_failed: 0,
    };
    let project = project::load(&arguments.pipeline.file, &arguments.pipeline.addresses)?;
    let study = sources::design(project.specification.clone()).await?;
    let pipeline = &study.specification.name;
    let store = Store::open(&study.specification.store, Access::ReadWrite).await?;
    let queue = metad2a_queue::open(&study.specification.queue).await?;
    let holder = format!("process {} on {}", std::process::id(), host());
    let guard = match queue.lead(pipeline, &holder).await? {
        Leadership::Held(guard) => guard,
        Leadership::HeldBy(other) => {
            eprintln!(
                "metad2a: pipeline `{pipeline}` is being run by {other}; wait for it, or stop it first"
            );
            return Ok(Exit::NotLeader);
        }
    };
    let writer = hint::begin(
        store.clone(),
        RunName {
            pipeline: pipeline.clone(),
            run_id: facts.run_id.clone(),
            holder,
            started_at: facts.started_at,
        },
    )
    .await;
    if let Some(socket) = &arguments.leads_socket {
        detach::tell(socket, pipeline, &facts.run_id);
    }
    let led = Led { arguments: &arguments, project: &project, study: &study, store: &store, queue: &queue };
    let outcome = led.to_the_end(&mut facts, writer.watched(), started).await;
    writer.end(told(&outcome)).await;
    guard.release().await;
    queue.close().await?;
    outcome
}

/// What others are told of the end.
pub(super) fn told(outcome: &anyhow::Result<Exit>) -> RunOutcome {
    let (exit, message) = match outcome {
        Ok(Exit::Done) => (Exit::Done, "done".to_owned()),
        Ok(Exit::WithDeadLetters) => (
            Exit::WithDeadLetters,
            "done, but some tasks were given up; `metad2a dead-letters list` names them".to_owned(),
        ),
        Ok(exit) => (*exit, "stopped; the same command goes on from there".to_owned()),
        Err(error) => (exit_code_of(error), format!("{error:#}")),
    };
    RunOutcome { exit_code: exit.code(), message }
}

/// A run that leads its pipeline.
struct Led<'a> {
    arguments: &'a Run,
    project: &'a Project,
    study: &'a Study,
    store: &'a Store,
    queue: &'a Arc<dyn Queue>,
}

impl Led<'_> {
    async fn to_the_end(
        &self,
        facts: &mut RunFacts,
        watched: Watched,
        started: Instant,
    ) -> anyhow::Result<Exit> {
        let Self { arguments, project, study, store, queue } = self;
        let pipeline = &study.specification.name;
        let mut reporter = Reporter::new();
        let (existing, heads) = ledger::read_with_heads(store).await?;
        imports::named(store, study, &existing).await?;
        let mut planner = Planner::new(study, existing);
        let text = project.text.clone().into();
        store.put_run_file(pipeline, &facts.run_id, "pipeline.yaml", text).await?;

        let watch = Watch { heads, watched };
        let end = compute(store, queue, &mut planner, &arguments.local, watch, &mut reporter).await?;
        let Some(end) = end else { return Ok(Exit::Failed) };
        match end {
            End::Blocked { reason, problems, log } => {
                for problem in &problems {
                    eprintln!("given up: {problem}");
                }
                let log = log.map_or_else(String::new, |log| format!("; the worker's log is `{log}`"));
                Err(anyhow!("the pipeline cannot go on: {reason}{log}"))
            }
            End::Finished { results, problems } => {
                facts.tasks_failed = problems.len() as u64;
                facts.tasks_done = planner.existing().count_done();
                let published = publish(store, study, planner.existing(), &results, facts).await?;
                let exit = if problems.is_empty() { Exit::Done } else { Exit::WithDeadLetters };
                tell(store, pipeline, published, problems, started, arguments.format).await?;
                Ok(exit)
            }
        }
    }
}

/// What a leader keeps an eye on, and who keeps an eye on it.
pub(super) struct Watch {
    pub(super) heads: Heads,
    pub(super) watched: Watched,
}

/// Does what is left to do, with a local worker where one is wanted and anything is left; none where a person stopped it.
pub(super) async fn compute(
    store: &Store,
    queue: &Arc<dyn Queue>,
    planner: &mut Planner<'_>,
    local: &LocalWorkers,
    watch: Watch,
    reporter: &mut Reporter,
) -> anyhow::Result<Option<End>> {
    if let Some(end) = without_workers(store, planner).await? {
        return Ok(Some(end));
    }
    let study = planner.study();
    let worker = start_worker(&study.specification, local)?;
    if let Some(worker) = &worker {
        reporter.say(&format!("local worker: its log is {}", worker.log().display()));
    }
    let mut leader = Leader::new(store.clone(), queue.clone(), Delivery::of(study), worker).await?;
    leader.follow_decisions(watch.heads);
    leader.be_watched(watch.watched);
    let end = tokio::select! {
        end = to_the_end(&mut leader, planner, reporter) => Some(end),
        () = interrupted() => None,
    };
    leader.stop().await;
    reporter.finish();
    if end.is_none() {
        eprintln!("metad2a: stopped; what is finished is kept, and the same command goes on from there");
    }
    end.transpose()
}

pub(super) async fn tell(
    store: &Store,
    pipeline: &str,
    published: Published,
    problems: Vec<String>,
    started: Instant,
    format: Format,
) -> anyhow::Result<()> {
    let (number, is_new) = match published {
        Published::New(number) => (number, true),
        Published::Unchanged(number) => (number, false),
    };
    let snapshot = store.snapshot(pipeline, number).await?;
    let snapshot = snapshot.ok_or_else(|| anyhow!("snapshot {number} vanished from the store"))?;
    let seconds = started.elapsed().as_secs_f64();
    let tables = report::Tables::read(store, &snapshot).await?;
    let report = report::collect(store, &snapshot, &tables, is_new, problems, seconds)?;
    answer(format, &report, report::table)?;
    if format == Format::Table {
        eprintln!("done in {}", duration(seconds));
    }
    Ok(())
}

/// The local worker, where one is wanted.
fn start_worker(specification: &Specification, local: &LocalWorkers) -> anyhow::Result<Option<LocalWorker>> {
    let embedded = specification.queue.strip_prefix("sqlite:").map(PathBuf::from);
    let wanted = match local.workers {
        Some(slots) => slots > 0,
        None => embedded.is_some(),
    };
    if !wanted {
        return Ok(None);
    }
    // Beside the embedded queue, or wherever temporary files go.
    let folder = match &embedded {
        Some(queue) => queue.parent().unwrap_or(Path::new(".")).join("logs"),
        None => std::env::temp_dir(),
    };
    let launch = Launch {
        queue: specification.queue.clone(),
        store: specification.store.clone(),
        pipeline: specification.name.clone(),
        device: local.device.clone(),
        slots: local.workers,
        log: folder.join("worker.log"),
    };
    LocalWorker::start(launch).map(Some)
}

pub(super) fn host() -> String {
    std::fs::read_to_string("/etc/hostname")
        .map_or_else(|_| "this machine".to_owned(), |name| name.trim().to_owned())
}

/// SIGINT or SIGTERM.
pub(super) async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}
