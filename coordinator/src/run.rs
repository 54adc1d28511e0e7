//! The event loop: calls the planner, does what it says, waits for news, and calls it again.
//!
//! ```text
//!          ┌──────────────── plan (pure) ◄───────────────┐
//!          ▼                                             │
//!   freeze choices, close rounds, publish tasks ─► wait for an event, or look the tasks in flight up in the store
//! ```
//!
//! Events are hints: one that is lost is made up for by the next look at the store. Deliberately absent: state that
//! must survive. A new process reads the store and goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::future::Either;
use metad2a_database::Store;
use metad2a_pipeline::envelope::{Envelope, Event, SourceAddress};
use metad2a_pipeline::planner::{Existing, Outcome, Plan, Results, plan};
use metad2a_pipeline::study::Study;
use metad2a_pipeline::tasks::Task;
use metad2a_queue::{Class, Events, Lane, Message, Queue, Urgency};
use tokio::time::{Interval, MissedTickBehavior};

use crate::dispatch::Dispatch;
use crate::ledger;
use crate::local_workers::LocalWorker;
use crate::outer_steps::close_round;
use crate::progress::Reporter;

/// Between two looks at the store for the tasks in flight.
const RECONCILE_EVERY: Duration = Duration::from_secs(10);

/// What travels with every task of a pipeline: where its inputs lie today, and how it is tried again.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) pipeline: String,
    pub(crate) sources: BTreeMap<String, SourceAddress>,
    pub(crate) weights: BTreeMap<String, String>,
    pub(crate) max_attempts: u32,
    pub(crate) patience_seconds: u64,
}

impl Delivery {
    pub(crate) fn of(study: &Study) -> Self {
        let specification = &study.specification;
        let sources = study.sources.values();
        Self {
            pipeline: specification.name.clone(),
            sources: sources.map(|source| (source.content_id.clone(), source.address.clone())).collect(),
            weights: BTreeMap::from([(
                study.extractor.weights_sha256.clone(),
                specification.extractor.weights.clone(),
            )]),
            max_attempts: specification.patience.max_attempts,
            patience_seconds: specification.patience.no_progress_seconds,
        }
    }

    fn lane(&self, task: &Task) -> Lane {
        let urgency = if task.kind().is_urgent() { Urgency::High } else { Urgency::Normal };
        Lane::new(self.pipeline.clone(), Class::Gpu, urgency)
    }

    fn message(&self, id: String, task: Task) -> Message {
        let source = match &task {
            Task::ExtractFeatures(task) => Some(&task.source),
            Task::Evaluate(task) => Some(&task.dataset.source),
            Task::TrainEpisodes(_) | Task::Validate(_) | Task::Search(_) => None,
        };
        let sources = source.and_then(|id| Some((id.clone(), self.sources.get(id)?.clone())));
        let weights = match &task {
            Task::ExtractFeatures(_) => self.weights.clone(),
            _ => BTreeMap::new(),
        };
        let envelope = Envelope {
            task,
            sources: sources.into_iter().collect(),
            weights,
            slice: 0,
            failures: Vec::new(),
            max_attempts: self.max_attempts,
            patience_seconds: self.patience_seconds,
        };
        Message { id, body: envelope.encode(), headers: BTreeMap::new() }
    }

    /// Every lane that this pipeline publishes to.
    fn lanes(&self) -> Vec<Lane> {
        let lane = |urgency| Lane::new(self.pipeline.clone(), Class::Gpu, urgency);
        vec![lane(Urgency::High), lane(Urgency::Normal)]
    }
}

/// A leader's link to the queue: publishes a window of open tasks and listens for news.
pub(crate) struct Leader {
    store: Store,
    queue: Arc<dyn Queue>,
    delivery: Delivery,
    dispatch: Dispatch,
    events: Events,
    /// Ticks however many events come in between: one of them may have been lost.
    look: Interval,
    worker: Option<LocalWorker>,
}

/// Something that the leader heard.
enum News {
    Event(Vec<u8>),
    TimeToLook,
}

impl Leader {
    /// Listens first and then purges what an earlier leader left ready, so that no news is missed.
    pub(crate) async fn new(
        store: Store,
        queue: Arc<dyn Queue>,
        delivery: Delivery,
        worker: Option<LocalWorker>,
    ) -> anyhow::Result<Self> {
        let events = queue.events(&delivery.pipeline).await?;
        for lane in delivery.lanes() {
            queue.purge(&lane).await?;
        }
        let mut look = tokio::time::interval(RECONCILE_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { store, queue, delivery, dispatch: Dispatch::default(), events, look, worker })
    }

    /// Publishes those of the open tasks for which there is room and that are not in flight.
    pub(crate) async fn publish(&mut self, open: &[Task]) -> anyhow::Result<()> {
        let mut by_lane: Vec<(Lane, Vec<Message>)> = Vec::new();
        for (id, task) in self.dispatch.next(open) {
            let lane = self.delivery.lane(&task);
            let message = self.delivery.message(id, task);
            match by_lane.iter_mut().find(|(known, _)| *known == lane) {
                Some((_, messages)) => messages.push(message),
                None => by_lane.push((lane, vec![message])),
            }
        }
        for (lane, messages) in by_lane {
            if let Err(error) = self.queue.publish(&lane, &messages).await {
                if !error.is_retryable() {
                    return Err(error.into());
                }
                tracing::warn!(%error, "tasks were not published; they will be tried again");
                for message in &messages {
                    self.dispatch.forget(&message.id);
                }
            }
        }
        Ok(())
    }

    /// Waits for news and enters it into `existing`.
    pub(crate) async fn hear(&mut self, existing: &mut Existing) -> anyhow::Result<()> {
        match self.news().await? {
            News::Event(body) => match serde_json::from_slice(&body) {
                Ok(event) => self.enter(existing, event).await,
                Err(error) => {
                    tracing::debug!(%error, "an event that is none of ours");
                    Ok(())
                }
            },
            News::TimeToLook => {
                for (id, kind) in self.dispatch.in_flight() {
                    self.look_up(existing, kind.name(), &id).await?;
                }
                Ok(())
            }
        }
    }

    async fn news(&mut self) -> anyhow::Result<News> {
        loop {
            let keep_alive = match &mut self.worker {
                Some(worker) => Either::Left(worker.keep_alive()),
                None => Either::Right(std::future::pending()),
            };
            tokio::select! {
                event = self.events.next() => match event {
                    Ok(body) => return Ok(News::Event(body)),
                    Err(error) if error.is_retryable() => {
                        tracing::warn!(%error, "events are not heard; the store is asked instead");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        return Ok(News::TimeToLook);
                    }
                    Err(error) => return Err(error.into()),
                },
                _ = self.look.tick() => return Ok(News::TimeToLook),
                restarted = keep_alive => restarted?,
            }
        }
    }

    async fn enter(&mut self, existing: &mut Existing, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Started { worker, .. } | Event::Progress { worker, .. } | Event::Sliced { worker, .. } => {
                self.dispatch.heard_of(&worker);
                Ok(())
            }
            Event::Finished { task, kind, worker, .. } => {
                self.dispatch.heard_of(&worker);
                self.look_up(existing, &kind, &task).await
            }
            Event::Failed { task, kind, worker, attempt, reason, gave_up } => {
                tracing::warn!(%task, %kind, %worker, attempt, %reason, gave_up, "a task failed");
                if gave_up { self.look_up(existing, &kind, &task).await } else { Ok(()) }
            }
        }
    }

    /// Reads a task's marker or decision, if there is one.
    async fn look_up(&self, existing: &mut Existing, kind: &str, id: &str) -> anyhow::Result<()> {
        if existing.is_done(id) {
            return Ok(());
        }
        if let Some(marker) = self.store.marker(kind, id).await? {
            return ledger::add_marker(existing, marker);
        }
        if let Some(decision) = self.store.decision(id).await? {
            return ledger::add_decision(existing, decision);
        }
        Ok(())
    }

    /// Lets the local worker leave.
    pub(crate) async fn stop(self) {
        if let Some(worker) = self.worker {
            worker.stop().await;
        }
    }
}

/// How a run came to its end.
pub(crate) enum End {
    Finished { results: Box<Results>, problems: Vec<String> },
    Blocked { reason: String, problems: Vec<String>, log: Option<String> },
}

/// Runs a study until nothing is left to do.
pub(crate) async fn to_the_end(
    leader: &mut Leader,
    study: &Study,
    existing: &mut Existing,
    reporter: &mut Reporter,
) -> anyhow::Result<End> {
    loop {
        let plan = plan(study, existing)?;
        reporter.show(&plan.stages);
        match plan.outcome {
            Outcome::Finished(results) => return Ok(End::Finished { results, problems: plan.problems }),
            Outcome::Blocked(reason) => {
                let log = leader.worker.as_ref().map(|worker| worker.log().display().to_string());
                return Ok(End::Blocked { reason, problems: plan.problems, log });
            }
            Outcome::Running => {}
        }
        if write_choices(&leader.store, existing, &plan).await? {
            continue;
        }
        leader.publish(&plan.enqueue).await?;
        leader.hear(existing).await?;
    }
}

/// Writes the choices and closed rounds that the plan asks for; whether there were any.
async fn write_choices(store: &Store, existing: &mut Existing, plan: &Plan) -> anyhow::Result<bool> {
    for freeze in &plan.freeze {
        freeze_choice(store, existing, &freeze.id, freeze.decision, freeze.detail.clone()).await?;
    }
    for merge in &plan.merge {
        let closed = close_round(store, merge).await;
        let closed =
            closed.with_context(|| format!("round {} of the {}", merge.round, merge.model.name()))?;
        freeze_choice(store, existing, &merge.id, "round-closed", serde_json::to_value(closed)?).await?;
    }
    Ok(!(plan.freeze.is_empty() && plan.merge.is_empty()))
}

async fn freeze_choice(
    store: &Store,
    existing: &mut Existing,
    id: &str,
    decision: &str,
    detail: serde_json::Value,
) -> anyhow::Result<()> {
    // Whoever was first holds: a second coordinator continues with the first one's choice.
    let holding = store.decide_once(id, decision, detail).await?.into_decision();
    ledger::add_decision(existing, holding)
}
