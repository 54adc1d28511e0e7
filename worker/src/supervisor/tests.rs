//! The whole life of a message on the memory back-ends, with computes that need no process.

mod brokers;
mod leaving;
mod outage;
mod refused;
mod slices;
mod upgrades;

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;

use async_trait::async_trait;
use metad2a_pipeline::envelope::{Envelope, Event, dialect};
use metad2a_pipeline::tasks::{Blob, Constraints, Look, Mode, ModelSettings, Search, Summary, Task};
use metad2a_queue::{Class, Lane, Message, Urgency};
use serde_json::json;

use super::*;
use crate::protocol::{Finished, Job};
use crate::supervisor::child::{Ready, Signal};

/// Says what the script says; after its end it is silent, like a process that hangs.
struct Scripted {
    signals: VecDeque<Signal>,
    jobs: Arc<std::sync::Mutex<Vec<Job>>>,
    /// Called when a job starts: what happens elsewhere meanwhile.
    meanwhile: Option<Meanwhile>,
    /// None: deaf.
    when_asked_to_pause: Option<Signal>,
}

type Meanwhile = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

#[async_trait]
impl Compute for Scripted {
    async fn ready(&mut self) -> anyhow::Result<Ready> {
        Ok(Ready { device: "cpu".into(), gpu: false })
    }

    async fn start(&mut self, job: &Job) -> anyhow::Result<()> {
        self.jobs.lock().unwrap().push(job.clone());
        if let Some(meanwhile) = &self.meanwhile {
            meanwhile().await;
        }
        Ok(())
    }

    async fn pause(&mut self) {
        if let Some(answer) = self.when_asked_to_pause.take() {
            self.signals.push_back(answer);
        }
    }

    async fn signal(&mut self) -> Signal {
        match self.signals.pop_front() {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    }

    async fn kill(&mut self) -> Vec<String> {
        vec!["the last line".into()]
    }
}

/// A worker with one slot on its own queue and store.
struct World {
    queue: Arc<dyn Queue>,
    store: Store,
    jobs: Arc<std::sync::Mutex<Vec<Job>>>,
}

const PIPELINE: &str = "test";

fn lane(urgency: Urgency) -> Lane {
    Lane::new(PIPELINE, dialect(), Class::Gpu, urgency)
}

impl World {
    async fn new() -> Self {
        // Every test has its own queue: a memory queue is shared by name.
        let queue = metad2a_queue::open(&format!("memory:{}", metad2a_database::random_id())).await.unwrap();
        let store = Store::open("memory:", Access::ReadWrite).await.unwrap();
        Self { queue, store, jobs: Arc::default() }
    }

    async fn publish(&self, envelope: &Envelope) {
        let message = Message::new(envelope.task.id(), envelope.encode());
        self.queue.publish(&lane(Urgency::Normal), &[message]).await.unwrap();
    }

    fn compute(&self, signals: impl IntoIterator<Item = Signal>) -> Scripted {
        Scripted {
            signals: signals.into_iter().collect(),
            jobs: self.jobs.clone(),
            meanwhile: None,
            when_asked_to_pause: None,
        }
    }

    fn team(&self) -> Team {
        Team {
            queue: self.queue.clone(),
            store: self.store.clone(),
            pipeline: PIPELINE.into(),
            name: "worker".into(),
            limits: Limits::default(),
            patience: Patience { slice: Duration::from_mins(10), grace: Duration::from_secs(25) },
        }
    }

    /// Works until an event of `wanted` kind, then stops; returns all events.
    async fn work_until(&self, compute: Scripted, wanted: fn(&Event) -> bool) -> Vec<Event> {
        let stop = CancellationToken::new();
        let working = tokio::spawn(self.team().work(vec![compute], stop.clone()));
        let mut events = self.queue.events(PIPELINE).await.unwrap();
        let mut seen = Vec::new();
        loop {
            let event: Event = serde_json::from_slice(&events.next().await.unwrap()).unwrap();
            let is_last = wanted(&event);
            seen.push(event);
            if is_last {
                break;
            }
        }
        self.settle().await;
        stop.cancel();
        working.await.unwrap().unwrap();
        seen
    }

    /// Lets the slot reach its next wait: time is paused, so this passes only when nothing else can run.
    async fn settle(&self) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    async fn next_message(&self) -> Option<(Message, bool)> {
        let lanes = [lane(Urgency::High), lane(Urgency::Normal)];
        let mut subscription = self.queue.subscribe(&lanes).await.unwrap();
        let taken = tokio::time::timeout(Duration::from_secs(1), subscription.take()).await.ok()?;
        let delivery = taken.unwrap();
        Some((delivery.message().clone(), delivery.redelivered()))
    }
}

fn is_finished(event: &Event) -> bool {
    matches!(event, Event::Finished { .. })
}

fn is_failed(event: &Event) -> bool {
    matches!(event, Event::Failed { .. })
}

fn envelope(max_attempts: u32) -> Envelope {
    let settings = ModelSettings {
        mode: Mode::Default,
        label: metad2a_pipeline::labels::Label::ValidAccuracy,
        feature_width: 8,
        hidden: 4,
        latent: 4,
        batch_size: 2,
        learning_rate: 1e-3,
        images_per_class: 2,
        classes_per_dataset: 2,
        top_fraction: 0.5,
        ranking_weight: 0.5,
    };
    let blob = Blob { path: "results/x/00/00".into(), sha256: "00".repeat(32), bytes: 1 };
    let task = Task::Search(Search {
        dataset: "d".into(),
        source: "s".into(),
        classes: vec![0, 1],
        look: Look::default(),
        features: vec!["f".into()],
        generator: blob.clone(),
        generator_settings: settings.clone(),
        predictor: blob,
        predictor_settings: settings,
        candidates: 3,
        sets: 1,
        seed: 0,
        constraints: Constraints::default(),
        channels: 4,
        cells_per_stage: 1,
        image_size: 8,
    });
    Envelope {
        task,
        sources: BTreeMap::new(),
        weights: BTreeMap::new(),
        slice: 0,
        failures: Vec::new(),
        max_attempts,
        patience_seconds: 60,
        measure_latency: false,
    }
}

fn success() -> Signal {
    let summary = Summary::Search { drawn: 3, valid: 3, distinct: 2, ranked: Vec::new() };
    Signal::Finished(Box::new(Finished { files: Vec::new(), units: Vec::new(), summary }))
}

fn crash() -> Signal {
    Signal::Died { how: "was killed by signal 9".into(), last_lines: vec!["epoch 3".into()] }
}

#[tokio::test(start_paused = true)]
async fn a_success_is_committed_and_then_acknowledged() {
    let world = World::new().await;
    let envelope = envelope(3);
    world.publish(&envelope).await;
    let events = world
        .work_until(world.compute([Signal::Progress { done: 1, total: 3 }, success()]), is_finished)
        .await;

    let marker = world.store.marker("search", &envelope.task.id()).await.unwrap().unwrap();
    assert_eq!(marker.attempt, 1);
    assert_eq!(marker.worker, "worker/0");
    assert_eq!(marker.device, "cpu");
    assert_eq!(marker.summary["distinct"], 2);
    assert!(matches!(events[0], Event::Started { .. }));
    assert!(matches!(events[1], Event::Progress { done: 1, total: 3, .. }));
    assert!(world.next_message().await.is_none(), "the message is gone");
}

#[tokio::test(start_paused = true)]
async fn a_crash_puts_the_message_back_with_its_reason() {
    let world = World::new().await;
    let envelope = envelope(3);
    world.publish(&envelope).await;
    // The first attempt dies, the second hangs until the stop and is given back.
    world.work_until(world.compute([crash()]), is_failed).await;

    let jobs = world.jobs.lock().unwrap().clone();
    let reason = "the compute process was killed by signal 9; its last lines: epoch 3";
    assert_eq!(jobs.len(), 2);
    assert_eq!(jobs[1].envelope.failures, [reason]);
    let (message, _) = world.next_message().await.expect("the second attempt was given back");
    assert_eq!(message.id, envelope.task.id());
    assert_eq!(Envelope::decode(&message.body).unwrap().failures, [reason]);
    assert!(world.store.decision(&envelope.task.id()).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_search_stays_urgent_in_its_next_attempt() {
    let world = World::new().await;
    world.publish(&envelope(3)).await;
    world.work_until(world.compute([crash()]), is_failed).await;
    assert_eq!(world.queue.ready(&lane(Urgency::High)).await.unwrap(), 1);
    assert_eq!(world.queue.ready(&lane(Urgency::Normal)).await.unwrap(), 0);
}

#[tokio::test(start_paused = true)]
async fn after_the_last_attempt_the_failure_is_decided_and_the_message_is_a_dead_letter() {
    let world = World::new().await;
    let envelope = envelope(2);
    let id = envelope.task.id();
    world.publish(&envelope).await;
    let gave_up = |event: &Event| matches!(event, Event::Failed { gave_up: true, .. });
    world.work_until(world.compute([crash(), crash()]), gave_up).await;

    let decision = world.store.decision(&id).await.unwrap().unwrap();
    assert_eq!(decision.decision, "failed");
    assert_eq!(decision.detail["kind"], "search");
    assert_eq!(decision.detail["reasons"].as_array().unwrap().len(), 2);
    let task: Task = serde_json::from_value(decision.detail["task"].clone()).unwrap();
    assert_eq!(task.id(), id);
    assert_eq!(world.queue.dead_letters(PIPELINE).await.unwrap(), 1);
    assert!(world.next_message().await.is_none());
    assert!(world.store.marker("search", &id).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_failure_after_a_retry_gets_a_decision_of_its_own() {
    let world = World::new().await;
    let envelope = envelope(1);
    let id = envelope.task.id();
    world.store.decide(&id, "failed", json!({})).await.unwrap();
    world.store.decide(&id, "retry", json!({})).await.unwrap();
    world.publish(&envelope).await;
    world.work_until(world.compute([crash()]), is_failed).await;
    let decision = world.store.decision(&id).await.unwrap().unwrap();
    assert_eq!((decision.number, decision.decision.as_str()), (2, "failed"));
}

#[tokio::test(start_paused = true)]
async fn bad_input_is_given_up_at_once() {
    let world = World::new().await;
    let envelope = envelope(3);
    world.publish(&envelope).await;
    let failed = Signal::Failed { reason: "class 3 has 2 pictures".into(), permanent: true };
    let events = world.work_until(world.compute([failed]), is_failed).await;
    assert!(matches!(events.last(), Some(Event::Failed { attempt: 1, gave_up: true, .. })));
    let decision = world.store.decision(&envelope.task.id()).await.unwrap().unwrap();
    assert_eq!(decision.detail["reasons"], json!(["class 3 has 2 pictures"]));
    assert_eq!(world.queue.dead_letters(PIPELINE).await.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_result_whose_data_is_not_in_the_store_is_never_committed() {
    let world = World::new().await;
    let envelope = envelope(1);
    world.publish(&envelope).await;
    let Signal::Finished(mut finished) = success() else { panic!("a success") };
    let sha256 = "00".repeat(32);
    let path = format!("results/features/00/{sha256}.parquet");
    finished.files.push(metad2a_database::FileRef { path, sha256, bytes: 1, rows: None });
    let events = world.work_until(world.compute([Signal::Finished(finished)]), is_failed).await;
    let Some(Event::Failed { reason, gave_up: true, .. }) = events.last() else { panic!("{events:?}") };
    assert!(reason.contains("results/features"), "{reason}");
    assert!(world.store.marker("search", &envelope.task.id()).await.unwrap().is_none());
    assert_eq!(world.store.decision(&envelope.task.id()).await.unwrap().unwrap().decision, "failed");
}

#[tokio::test(start_paused = true)]
async fn a_task_without_progress_is_killed_after_its_patience() {
    let world = World::new().await;
    world.publish(&envelope(1)).await;
    // Progress renews the patience; then nothing comes.
    let started = tokio::time::Instant::now();
    let events = world.work_until(world.compute([Signal::Progress { done: 1, total: 9 }]), is_failed).await;
    let Some(Event::Failed { reason, .. }) = events.last() else { panic!("{events:?}") };
    assert_eq!(reason, "no progress for 60 s; the compute process was killed; its last lines: the last line");
    assert!(started.elapsed() >= Duration::from_mins(1));
}

#[tokio::test(start_paused = true)]
async fn a_done_task_is_acknowledged_unworked() {
    let world = World::new().await;
    let (done, open) = (envelope(3), envelope(4));
    let marker = marker_of_another_worker(&done.task.id());
    world.store.commit(&marker).await.unwrap();
    world.publish(&done).await;
    world.settle().await;
    let stop = CancellationToken::new();
    let working = tokio::spawn(world.team().work(vec![world.compute([])], stop.clone()));
    world.settle().await;
    stop.cancel();
    working.await.unwrap().unwrap();
    assert!(world.jobs.lock().unwrap().is_empty());
    assert!(world.next_message().await.is_none());
    assert_eq!(done.task.id(), open.task.id(), "patience and attempts are no part of a task");
}

#[tokio::test(start_paused = true)]
async fn the_loser_of_a_race_acknowledges_all_the_same() {
    let world = World::new().await;
    let envelope = envelope(3);
    let id = envelope.task.id();
    world.publish(&envelope).await;
    let mut compute = world.compute([success()]);
    let (store, winner) = (world.store.clone(), marker_of_another_worker(&id));
    compute.meanwhile = Some(Box::new(move || {
        let (store, winner) = (store.clone(), winner.clone());
        Box::pin(async move {
            store.commit(&winner).await.unwrap();
        })
    }));
    world.work_until(compute, is_finished).await;
    let marker = world.store.marker("search", &id).await.unwrap().unwrap();
    assert_eq!(marker.worker, "another");
    assert!(world.next_message().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_task_is_not_committed() {
    let world = World::new().await;
    let envelope = envelope(3);
    let id = envelope.task.id();
    world.publish(&envelope).await;
    let mut compute = world.compute([success()]);
    let (store, task) = (world.store.clone(), id.clone());
    compute.meanwhile = Some(Box::new(move || {
        let (store, task) = (store.clone(), task.clone());
        Box::pin(async move {
            store.decide(&task, "cancelled", json!({})).await.unwrap();
        })
    }));
    world.work_until(compute, |event| matches!(event, Event::Started { .. })).await;
    assert!(world.store.marker("search", &id).await.unwrap().is_none());
    assert!(world.next_message().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_notice_of_a_cancellation_ends_a_running_task() {
    let world = World::new().await;
    let envelope = envelope(3);
    world.publish(&envelope).await;
    let mut compute = world.compute([]);
    let (store, queue, task) = (world.store.clone(), world.queue.clone(), envelope.task.id());
    compute.meanwhile = Some(Box::new(move || {
        let (store, queue, task) = (store.clone(), queue.clone(), task.clone());
        Box::pin(async move {
            store.decide(&task, "cancelled", json!({})).await.unwrap();
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(5)).await;
                queue.broadcast(PIPELINE, b"cancelled").await.unwrap();
            });
        })
    }));
    let started = tokio::time::Instant::now();
    world.work_until(compute, |event| matches!(event, Event::Started { .. })).await;
    assert!(world.next_message().await.is_none(), "acknowledged");
    assert!(started.elapsed() < Duration::from_mins(1), "not by its patience");
}

#[tokio::test(start_paused = true)]
async fn a_stop_gives_the_task_back_and_counts_nothing() {
    let world = World::new().await;
    let envelope = envelope(1);
    world.publish(&envelope).await;
    world.work_until(world.compute([]), |event| matches!(event, Event::Started { .. })).await;
    let (message, redelivered) = world.next_message().await.expect("given back");
    assert!(redelivered);
    assert!(Envelope::decode(&message.body).unwrap().failures.is_empty());
    assert!(world.store.decision(&envelope.task.id()).await.unwrap().is_none());
}

fn marker_of_another_worker(id: &str) -> metad2a_database::Marker {
    metad2a_database::Marker {
        kind: "search".into(),
        id: id.into(),
        execution_id: metad2a_database::random_id(),
        worker: "another".into(),
        attempt: 1,
        files: Vec::new(),
        units: Vec::new(),
        device: "cpu".into(),
        started_at: metad2a_database::now(),
        finished_at: metad2a_database::now(),
        seconds: 1.0,
        summary: serde_json::Value::Null,
    }
}
