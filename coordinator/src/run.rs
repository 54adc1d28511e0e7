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

use futures::future::Either;
use futures::{FutureExt, StreamExt, TryStreamExt};
use metad2a_database::{Folding, Store};
use metad2a_pipeline::envelope::{Envelope, Event, SourceAddress, dialect};
use metad2a_pipeline::planner::{Flight, Outcome, Planner, Results};
use metad2a_pipeline::study::Study;
use metad2a_pipeline::tasks::Task;
use metad2a_pipeline::verdict::Verdict;
use metad2a_queue::{Class, Events, Lane, Message, Queue, TraceContext, Urgency};
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::choices;
use crate::dispatch::Dispatch;
use crate::hint::Watched;
use crate::ledger::{self, Heads};
use crate::local_workers::LocalWorker;
use crate::outage::until_the_store_answers;
use crate::progress::Reporter;
use crate::work::{Found, Work, look_up};

/// Between two looks at the store for the tasks in flight.
const RECONCILE_EVERY: Duration = Duration::from_secs(10);
/// Events taken in before the next plan, where many wait.
const EVENTS_AT_ONCE: usize = 256;
/// What a worker's last word may be late by.
const LATENESS: Duration = Duration::from_secs(20);
/// Requests to the store at a time.
const CONCURRENT_REQUESTS: usize = 16;

/// What travels with every task of a pipeline: where its inputs lie today, and how it is tried again.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) pipeline: String,
    pub(crate) sources: BTreeMap<String, SourceAddress>,
    pub(crate) weights: BTreeMap<String, String>,
    pub(crate) max_attempts: u32,
    pub(crate) patience_seconds: u64,
    pub(crate) measure_latency: bool,
    /// The run's; each message has a span of its own in it.
    pub(crate) trace: TraceContext,
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
            measure_latency: specification.evaluations.latency,
            trace: TraceContext::start(),
        }
    }

    fn lane(&self, task: &Task) -> Lane {
        let urgency = if task.kind().is_urgent() { Urgency::High } else { Urgency::Normal };
        Lane::new(self.pipeline.clone(), dialect(), Class::Gpu, urgency)
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
            measure_latency: self.measure_latency,
        };
        Message::new(id, envelope.encode()).with_trace(&self.trace.child())
    }

    /// Every lane that this pipeline publishes to.
    fn lanes(&self) -> Vec<Lane> {
        lanes_of(&self.pipeline)
    }
}

/// Every lane that a pipeline's coordinator publishes to.
pub(crate) fn lanes_of(pipeline: &str) -> Vec<Lane> {
    let lane = |urgency| Lane::new(pipeline, dialect(), Class::Gpu, urgency);
    vec![lane(Urgency::High), lane(Urgency::Normal)]
}

/// A leader's link to the queue: publishes a window of open tasks and listens for news.
pub(crate) struct Leader {
    store: Store,
    queue: Arc<dyn Queue>,
    delivery: Delivery,
    dispatch: Dispatch,
    /// Markers that were read since the start, so that the next one finds them folded.
    folding: Folding,
    events: Events,
    /// Ticks however many events come in between: one of them may have been lost.
    look: Interval,
    /// The decisions that were read, where those of other people are followed.
    decided: Option<Heads>,
    /// Whether somebody said that there are new ones.
    has_news_of_decisions: bool,
    watched: Option<Watched>,
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
        let (dispatch, folding) = (Dispatch::default(), Folding::new(&store));
        Ok(Self {
            store,
            queue,
            delivery,
            dispatch,
            folding,
            events,
            look,
            decided: None,
            has_news_of_decisions: false,
            watched: None,
            worker,
        })
    }

    /// Hears of tasks that people cancel, drop or lift, from the decisions after these.
    pub(crate) fn follow_decisions(&mut self, heads: Heads) {
        self.decided = Some(heads);
    }

    /// Lets others see what this leader knows.
    pub(crate) fn be_watched(&mut self, watched: Watched) {
        self.watched = Some(watched);
    }

    /// Publishes those of the open tasks for which there is room and that are not in flight, and the overdue ones once
    /// more.
    ///
    /// What could not be published is tried again with the next plan, at the latest when it is time to look.
    pub(crate) async fn publish(&mut self, work: &mut impl Work, overdue: &[String]) -> anyhow::Result<()> {
        self.dispatch.changed(work.take_changes(), work);
        let mut repeated = Vec::new();
        for (id, task) in overdue.iter().filter_map(|id| self.dispatch.once_more(id, work)) {
            tracing::warn!(task = %id, "a task is not done at its deadline, and is published again");
            repeated.push((id, task));
        }
        for id in self.send(repeated).await?.published {
            self.dispatch.was_repeated(&id, Instant::now());
        }
        let fresh = self.dispatch.next(work, Instant::now());
        if let Some(watched) = &self.watched {
            watched.in_flight(self.dispatch.in_flight());
        }
        for id in self.send(fresh).await?.refused {
            self.dispatch.forget(&id);
        }
        Ok(())
    }

    async fn send(&self, tasks: Vec<(String, Task)>) -> anyhow::Result<Sent> {
        let mut by_lane: Vec<(Lane, Vec<Message>)> = Vec::new();
        for (id, task) in tasks {
            let lane = self.delivery.lane(&task);
            let message = self.delivery.message(id, task);
            match by_lane.iter_mut().find(|(known, _)| *known == lane) {
                Some((_, messages)) => messages.push(message),
                None => by_lane.push((lane, vec![message])),
            }
        }
        let mut sent = Sent::default();
        for (lane, messages) in by_lane {
            let ids = messages.iter().map(|message| message.id.clone());
            match self.queue.publish(&lane, &messages).await {
                Ok(()) => sent.published.extend(ids),
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, "tasks were not published; they will be tried again");
                    sent.refused.extend(ids);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(sent)
    }

    /// Forgets, so that they are published again, the tasks that neither wait nor are worked on. A broker that lost
    /// its disk has lost them, or it set them aside as given out too often.
    async fn forget_the_lost(&mut self) {
        // Workers end what makes no progress for its patience, so the living are heard of before.
        let after = 2 * Duration::from_secs(self.delivery.patience_seconds) + LATENESS;
        let silent = self.dispatch.silent(after, Instant::now());
        if silent.is_empty() || !self.is_nothing_waiting().await {
            return;
        }
        for id in silent {
            tracing::warn!(task = %id, ?after, "a task was lost: nobody tells of it and none waits; it is published again");
            self.dispatch.forget(&id);
        }
    }

    /// `false` also where the queue does not say.
    async fn is_nothing_waiting(&self) -> bool {
        for lane in self.delivery.lanes() {
            if !matches!(self.queue.ready(&lane).await, Ok(0)) {
                return false;
            }
        }
        true
    }

    /// Waits for news, and tells what the store turned out to hold.
    pub(crate) async fn hear(&mut self, work: &mut impl Work) -> anyhow::Result<()> {
        let mut asked: Vec<(String, String)> = Vec::new();
        match self.news().await? {
            News::Event(body) => {
                asked.extend(self.note(&body));
                // Those that wait already cost no plan of their own.
                for _ in 1..EVENTS_AT_ONCE {
                    let Some(Ok(body)) = self.events.next().now_or_never() else { break };
                    asked.extend(self.note(&body));
                }
            }
            News::TimeToLook => {
                self.forget_the_lost().await;
                self.has_news_of_decisions = true;
                let due = self.dispatch.due(Instant::now());
                asked.extend(due.into_iter().map(|(id, kind)| (kind.name().to_owned(), id)));
            }
        }
        asked.retain(|(_, id)| !work.is_done(id));
        let store = &self.store;
        let found: Vec<Found> = futures::stream::iter(asked)
            .map(|(kind, id)| async move { until_the_store_answers(|| look_up(store, &kind, &id)).await })
            .buffer_unordered(CONCURRENT_REQUESTS)
            .try_collect()
            .await?;
        for found in found {
            match found {
                Found::Done(fresh) => {
                    let marker = self.folding.add(*fresh).await;
                    work.learn(ledger::fact_of_marker(marker)?);
                }
                Found::Decided(fact) => work.learn(fact),
                Found::Nothing => {}
            }
        }
        if std::mem::take(&mut self.has_news_of_decisions) {
            self.read_decisions(work).await?;
        }
        Ok(())
    }

    /// Reads the decisions that are news: one listing where there are none.
    async fn read_decisions(&mut self, work: &mut impl Work) -> anyhow::Result<()> {
        let Some(heads) = &self.decided else { return Ok(()) };
        let store = &self.store;
        let read = async || {
            let mut heads = heads.clone();
            Ok((ledger::news(store, &mut heads).await?, heads))
        };
        let (news, heads) = until_the_store_answers(read).await?;
        self.decided = Some(heads);
        for decision in news {
            if Verdict::of(&decision.decision).is_some() {
                // Whatever became of its message, a lifted task is published again.
                self.dispatch.forget(&decision.id);
            }
            if let Some(fact) = ledger::fact_of_decision(decision)? {
                work.learn(fact);
            }
        }
        Ok(())
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

    /// Takes note of an event; the kind and id of a task that is to be looked up.
    fn note(&mut self, body: &[u8]) -> Option<(String, String)> {
        let event = serde_json::from_slice(body);
        if let (Some(watched), Ok(event)) = (&self.watched, &event) {
            watched.heard(event);
        }
        match event {
            Ok(
                Event::Started { task, worker, .. }
                | Event::Progress { task, worker, .. }
                | Event::Sliced { task, worker, .. },
            ) => {
                self.dispatch.heard_of(&worker);
                self.dispatch.is_alive(&task, Instant::now());
                None
            }
            Ok(Event::Finished { task, kind, worker, .. }) => {
                self.dispatch.heard_of(&worker);
                Some((kind, task))
            }
            Ok(Event::Failed { task, kind, worker, attempt, reason, gave_up }) => {
                tracing::warn!(%task, %kind, %worker, attempt, %reason, gave_up, "a task failed");
                gave_up.then_some((kind, task))
            }
            Ok(Event::Decided) => {
                self.has_news_of_decisions = true;
                None
            }
            Err(error) => {
                tracing::debug!(%error, "an event that is none of ours");
                None
            }
        }
    }

    /// Lets the local worker leave.
    pub(crate) async fn stop(self) {
        self.folding.finish().await;
        if let Some(worker) = self.worker {
            worker.stop().await;
        }
    }
}

/// What became of messages.
#[derive(Default)]
struct Sent {
    published: Vec<String>,
    refused: Vec<String>,
}

/// How a run came to its end.
pub(crate) enum End {
    Finished { results: Box<Results>, problems: Vec<String> },
    Blocked { reason: String, problems: Vec<String>, log: Option<String> },
}

/// Goes as far as no task is needed: the end of a run that had only choices left to write, or none where there is work.
pub(crate) async fn without_workers(store: &Store, planner: &mut Planner<'_>) -> anyhow::Result<Option<End>> {
    loop {
        let step = planner.step(&Flight::default())?;
        match step.outcome {
            Outcome::Finished(results) => {
                return Ok(Some(End::Finished { results, problems: planner.problems() }));
            }
            Outcome::Blocked(reason) => {
                return Ok(Some(End::Blocked { reason, problems: planner.problems(), log: None }));
            }
            Outcome::Running => {}
        }
        if planner.open_places().next().is_some() || !choices::write(store, planner, step).await? {
            return Ok(None);
        }
    }
}

/// Runs a study until nothing is left to do.
pub(crate) async fn to_the_end(
    leader: &mut Leader,
    planner: &mut Planner<'_>,
    reporter: &mut Reporter,
) -> anyhow::Result<End> {
    loop {
        let step = planner.step(&leader.dispatch.flight(Instant::now()))?;
        reporter.show(&step.stages);
        if let Some(watched) = &leader.watched {
            watched.stages(&step.stages);
        }
        match step.outcome {
            Outcome::Finished(results) => {
                return Ok(End::Finished { results, problems: planner.problems() });
            }
            Outcome::Blocked(reason) => {
                let log = leader.worker.as_ref().map(|worker| worker.log().display().to_string());
                return Ok(End::Blocked { reason, problems: planner.problems(), log });
            }
            Outcome::Running => {}
        }
        let overdue = step.overdue.clone();
        if choices::write(&leader.store, planner, step).await? {
            continue;
        }
        leader.publish(planner, &overdue).await?;
        leader.hear(planner).await?;
    }
}

#[cfg(test)]
mod tests;
