//! `metad2a status` and `metad2a watch`: how a pipeline stands.
//!
//! While a run goes on, its leader's hint tells most; the store tells the rest, and all where nothing runs. What cannot
//! be asked (a broker that is away, sources that are elsewhere) is said, and the rest is shown.

mod table;
mod watch;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use metad2a_database::now;
use metad2a_pipeline::planner::{Outcome, Stage};
use metad2a_pipeline::verdict::Verdict;
use serde::Serialize;

pub(crate) use self::watch::watch;
use super::dead_letters::is_bundle;
use super::output::answer;
use super::tasks::{Known, Planned, Wish};
use crate::Exit;
use crate::cli::Status;
use crate::hint::{Hint, StageHint, TaskHint, WorkerHint};
use crate::run::lanes_of;
use crate::site::{Leader, Reached, Site};

/// So many of the newest snapshots are shown.
const SNAPSHOTS: usize = 3;

/// How a pipeline stands, as far as it can be told.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the name in the JSON form")]
struct State {
    pipeline: String,
    state: Word,
    /// Where nothing runs or can be asked: why, or what to do.
    remark: Option<String>,
    /// Who leads, by the queue's word.
    leader: Option<String>,
    run: Option<RunState>,
    stages: BTreeMap<Stage, StageHint>,
    workers: Vec<WorkerHint>,
    in_flight: Vec<TaskHint>,
    in_flight_total: u64,
    queue: QueueState,
    #[serde(flatten)]
    aside: Aside,
}

/// What the store tells beside the plan. Costs listings of all tasks, so a watch reads it only where it may be news.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Aside {
    /// Given up and not yet seen to, by the store's records.
    dead_letters: usize,
    cancelled: usize,
    /// Newest first.
    snapshots: Vec<SnapshotState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Running,
    /// Nothing runs, and something is left to do.
    Open,
    Finished,
    Blocked,
    /// The plan could not be made.
    Unknown,
}

/// The run that goes on.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct RunState {
    run_id: String,
    started_at: DateTime<Utc>,
    /// When its leader last had something new to tell.
    told_at: DateTime<Utc>,
    retries: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct QueueState {
    /// Why it cannot be asked.
    problem: Option<String>,
    /// Tasks that wait, by lane.
    ready: BTreeMap<String, u64>,
    /// Copies put aside.
    dead_letters: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct SnapshotState {
    number: u32,
    published_at: DateTime<Utc>,
    evaluations: u64,
}

pub(crate) async fn status(arguments: Status) -> anyhow::Result<Exit> {
    let site = Site::look(&arguments.pipeline.file, &arguments.pipeline.addresses).await?;
    let queue = site.queue().await;
    let state = async { gather(&site, &queue, Aside::read(&site).await?).await }.await;
    queue.close().await;
    let state = state?;
    answer(arguments.format, &state, |state| table::table(state, now()))?;
    Ok(Exit::Done)
}

async fn gather(site: &Site, queue: &Reached, aside: Aside) -> anyhow::Result<State> {
    let pipeline = site.pipeline();
    let leader = queue.leader(pipeline).await;
    let hint = site.hint(&leader).await?;
    let mut state = State {
        pipeline: pipeline.to_owned(),
        state: Word::Unknown,
        remark: None,
        leader: None,
        run: None,
        stages: BTreeMap::new(),
        workers: Vec::new(),
        in_flight: Vec::new(),
        in_flight_total: 0,
        queue: ask(queue, pipeline).await,
        aside,
    };
    #[expect(clippy::match_same_arms, reason = "in the order in which they are tried")]
    match (leader, hint) {
        (Leader::Holder(holder), hint) => {
            state.state = Word::Running;
            state.leader = Some(holder);
            match hint {
                Some(hint) => add_hint(&mut state, hint),
                None => state.remark = Some("its leader has not told anything yet".to_owned()),
            }
        }
        (Leader::Nobody, _) => add_plan(&mut state, site).await,
        (Leader::Unknown(_), Some(hint)) if hint.outcome.is_none() => {
            state.remark = Some(
                "the queue does not tell whether a run goes on; what follows is the last that one told"
                    .to_owned(),
            );
            add_hint(&mut state, hint);
        }
        (Leader::Unknown(_), _) => add_plan(&mut state, site).await,
    }
    Ok(state)
}

fn add_hint(state: &mut State, hint: Hint) {
    state.run = Some(RunState {
        run_id: hint.run_id,
        started_at: hint.started_at,
        told_at: hint.written_at,
        retries: hint.retries,
    });
    state.stages = hint.stages;
    state.workers = hint.workers;
    state.in_flight = hint.in_flight;
    state.in_flight_total = hint.in_flight_total;
}

/// What the store alone tells.
async fn add_plan(state: &mut State, site: &Site) {
    let planned = match Planned::read(site).await {
        Ok(planned) => planned,
        Err(error) => {
            state.remark =
                Some(format!("nothing is running; what is left cannot be planned here: {error:#}"));
            return;
        }
    };
    let still = |progress| StageHint { progress, per_second: None, seconds_left: None };
    state.stages = planned.plan.stages.iter().map(|(stage, progress)| (*stage, still(*progress))).collect();
    let (word, remark) = match planned.plan.outcome {
        Outcome::Running => (Word::Open, "nothing is running; `metad2a run` goes on from here".to_owned()),
        Outcome::Finished(_) => (Word::Finished, "nothing is running, and nothing is left to do".to_owned()),
        Outcome::Blocked(reason) => {
            (Word::Blocked, format!("nothing is running, nor can it go on: {reason}"))
        }
    };
    (state.state, state.remark) = (word, Some(remark));
}

impl Aside {
    async fn read(site: &Site) -> anyhow::Result<Self> {
        let known = match &site.store {
            Some(store) => Known::read(store).await?,
            None => Known::default(),
        };
        let failed = known.of_pipeline(Verdict::Failed, site.pipeline());
        let asks = |wish: &&Wish| !is_bundle(wish.task.as_ref());
        Ok(Self {
            dead_letters: failed.iter().filter(asks).count(),
            cancelled: known.of_pipeline(Verdict::Cancelled, site.pipeline()).len(),
            snapshots: snapshots(site).await?,
        })
    }
}

async fn snapshots(site: &Site) -> anyhow::Result<Vec<SnapshotState>> {
    let Some(store) = &site.store else { return Ok(Vec::new()) };
    let newest = store.newest_snapshots(site.pipeline(), SNAPSHOTS).await?;
    Ok(newest
        .into_iter()
        .map(|snapshot| SnapshotState {
            number: snapshot.number,
            published_at: snapshot.published_at,
            evaluations: snapshot.rows("evaluations"),
        })
        .collect())
}

async fn ask(queue: &Reached, pipeline: &str) -> QueueState {
    let mut state = QueueState { problem: None, ready: BTreeMap::new(), dead_letters: None };
    let open = match queue {
        Reached::Open(open) => open,
        Reached::NotThereYet => return state,
        Reached::Unreachable(why) => {
            state.problem = Some(why.clone());
            return state;
        }
    };
    for lane in lanes_of(pipeline) {
        match open.ready(&lane).await {
            Ok(ready) => {
                state.ready.insert(format!("{}.{}", lane.class, lane.urgency), ready);
            }
            Err(error) => state.problem = Some(error.to_string()),
        }
    }
    match open.dead_letters(pipeline).await {
        Ok(count) => state.dead_letters = Some(count),
        Err(error) => state.problem = Some(error.to_string()),
    }
    state
}
