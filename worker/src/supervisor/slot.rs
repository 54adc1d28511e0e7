//! One slot: takes a message, has it worked on, and does what [`crate::attempts`] decides.
//!
//! ```text
//!   take ─► done, cancelled, given up? ──yes──────────────────────────────────────► acknowledge
//!             │ no      (unreadable, or under another task's id ─► decision `failed` ─► dead letter)
//!             ▼
//!           compute ─► finished ─► marker (the only commit point) ─► event ───────► acknowledge
//!                      slice over, or told to stop ─► record ─► continuation ─────► acknowledge
//!                      failed ───► published again, with the reason ──────────────► acknowledge
//!                      failed too often ─► decision `failed` with all reasons ────► dead letter
//!                      store out of reach ─► published again, uncounted ──────────► acknowledge
//!                      told to stop, and no checkpoint in time ───────────────────► give back
//! ```
//!
//! Whatever goes wrong between two arrows, the message is still unacknowledged and comes again.

mod attempt;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use metad2a_database::{Checkpoint, Marker, now, random_id};
use metad2a_pipeline::envelope::{Envelope, Event, dialect};
use metad2a_queue::{Class, Delivery, Lane, Subscription, Urgency};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use self::attempt::Ended;
use crate::attempts::Before;
use crate::protocol::Job;
use crate::slices;
use crate::supervisor::Patience;
use crate::supervisor::child::{Compute, Ready};
use crate::supervisor::desk::{Desk, TaskName, acknowledge, give_back};
use crate::supervisor::shift::Shift;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A compute process that does not get ready so many times in a row never will.
const MOST_FAILED_STARTS: u32 = 5;

pub(super) struct Slot<C> {
    desk: Desk,
    lanes: Vec<Lane>,
    compute: C,
    notices: watch::Receiver<u64>,
    shift: Arc<Shift>,
    patience: Patience,
    stop: CancellationToken,
}

impl<C: Compute> Slot<C> {
    pub(super) fn new(
        desk: Desk,
        compute: C,
        notices: watch::Receiver<u64>,
        shift: Arc<Shift>,
        patience: Patience,
        stop: CancellationToken,
    ) -> Self {
        // In the order of preference.
        let lanes = [
            (Class::Gpu, Urgency::High),
            (Class::Cpu, Urgency::High),
            (Class::Gpu, Urgency::Normal),
            (Class::Cpu, Urgency::Normal),
        ]
        .map(|(class, urgency)| Lane::new(desk.pipeline.clone(), dialect(), class, urgency))
        .to_vec();
        Self { desk, lanes, compute, notices, shift, patience, stop }
    }

    /// Works until told to stop or until the shift is over. Ends with an error only where no waiting helps.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let outcome = self.work().await;
        self.compute.kill().await;
        if let Err(error) = &outcome {
            tracing::error!(slot = self.desk.name, "the slot ends: {error:#}");
        }
        outcome
    }

    async fn work(&mut self) -> anyhow::Result<()> {
        let mut pause = FIRST_PAUSE;
        let mut failed_starts = 0;
        let mut in_doubt = false;
        let mut subscription: Option<Box<dyn Subscription>> = None;
        let shift = self.shift.clone();
        while !self.stop.is_cancelled() && !shift.over().is_cancelled() {
            // Before a task is taken, so that no task waits for it, and none is blamed.
            let ready = tokio::select! {
                ready = self.compute.ready() => ready,
                () = self.stop.cancelled() => break,
                () = shift.over().cancelled() => break,
            };
            let step = match ready {
                Ok(ready) => {
                    failed_starts = 0;
                    self.next_task(&mut subscription, &ready, in_doubt).await
                }
                Err(error) => {
                    // Processes open the store, too: while it is out of reach, none is to blame.
                    let reached = tokio::select! {
                        reached = self.desk.store.check_reachable() => reached.is_ok(),
                        () = self.stop.cancelled() => break,
                    };
                    failed_starts += u32::from(reached);
                    if failed_starts == MOST_FAILED_STARTS {
                        return Err(error);
                    }
                    Err(error)
                }
            };
            match step {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    in_doubt = false;
                }
                Err(error) if is_hopeless(&error) => return Err(error),
                Err(error) => {
                    tracing::warn!(slot = self.desk.name, ?pause, "{error:#}; trying again after a pause");
                    subscription = None;
                    in_doubt = true;
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.stop.cancelled() => break,
                        () = shift.over().cancelled() => break,
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
        Ok(())
    }

    /// After an error (`in_doubt`) the store is asked first: a worker that cannot reach it would take tasks only to
    /// give them back, and brokers count that.
    async fn next_task(
        &mut self,
        subscription: &mut Option<Box<dyn Subscription>>,
        ready: &Ready,
        in_doubt: bool,
    ) -> anyhow::Result<()> {
        if in_doubt {
            tokio::select! {
                reached = self.desk.store.check_reachable() => {
                    reached.context("no task is taken while the store is out of reach")?;
                }
                () = self.stop.cancelled() => return Ok(()),
            }
        }
        let shift = self.shift.clone();
        // Before the queue is asked: what it has in reserve for a slot that may take nothing, another could begin.
        let place = tokio::select! {
            place = shift.place() => place,
            () = self.stop.cancelled() => return Ok(()),
        };
        let Some(place) = place else { return Ok(()) };
        if subscription.is_none() {
            let fresh = self.desk.queue.subscribe(&self.lanes).await;
            *subscription = Some(fresh.context("cannot subscribe to the queue")?);
        }
        let subscribed = subscription.as_mut().context("no subscription")?;
        let delivery = tokio::select! {
            taken = subscribed.take() => taken.context("cannot take a task from the queue")?,
            () = self.stop.cancelled() => return Ok(()),
            () = shift.over().cancelled() => return Ok(()),
        };
        let _at_work = shift.at_work();
        // Every line about the task can be found by the run that it belongs to.
        let trace_id = delivery.message().trace().map(|trace| trace.trace_id()).unwrap_or_default();
        let span = tracing::info_span!("task", trace_id);
        self.handle(delivery, ready.clone()).instrument(span).await?;
        place.used();
        Ok(())
    }

    #[expect(clippy::too_many_lines, reason = "one message from taking to answering, in order")]
    async fn handle(&mut self, delivery: Box<dyn Delivery>, ready: Ready) -> anyhow::Result<()> {
        let message = delivery.message().clone();
        let envelope = match Envelope::decode(&message.body) {
            Ok(envelope) => envelope,
            Err(error) => return self.desk.refuse(delivery, &message.id, &error.to_string()).await,
        };
        let task = TaskName { id: envelope.task.id(), kind: envelope.task.kind().name() };
        if message.id != task.id {
            // Whoever published it waits for another id: work under this one would be in vain, and asked for again.
            let rule = format!(
                "the message holds task {}: coordinator and worker give this task different ids and must be of one build",
                task.id
            );
            return self.desk.refuse(delivery, &message.id, &rule).await;
        }
        match self.desk.standing(&task).await {
            Ok(Before::Work) => {}
            Ok(Before::Skip(why)) => {
                tracing::info!(slot = self.desk.name, task = task.id, kind = task.kind, why, "nothing to do");
                return acknowledge(delivery, &task).await;
            }
            Err(error) => {
                // Dropped in the end anyhow; at once, others get it sooner.
                give_back(delivery, &task).await;
                return Err(error);
            }
        }
        let checkpoints = match self.desk.store.checkpoints(&task.id).await {
            Ok(checkpoints) => checkpoints,
            Err(error) => {
                give_back(delivery, &task).await;
                return Err(error).context("cannot read the checkpoints of a task");
            }
        };
        let begin = slices::begin(envelope.slice, &envelope.failures, checkpoints.newest);
        let envelope = Envelope { slice: begin.slice, failures: begin.failures, ..envelope };
        let attempt = envelope.failures.len() as u32 + 1;
        let (slice, earlier) = (envelope.slice, checkpoints.usable);
        tracing::info!(slot = self.desk.name, task = task.id, kind = task.kind, slice, attempt, "started");
        self.desk.emitter.emit(&Event::Started {
            task: task.id.clone(),
            kind: task.kind.to_owned(),
            worker: self.desk.name.clone(),
        });
        // Over all slices.
        let (started_at, earlier_seconds) =
            earlier.first().map_or((now(), 0.0), |last| (last.started_at, last.seconds));
        let clock = Instant::now();
        let job = Job {
            id: task.id.clone(),
            envelope: envelope.clone(),
            slice_seconds: self.patience.slice.as_secs(),
            checkpoints: earlier.clone(),
        };
        let ended = match self.attempt(&task, &job).await {
            Ok(ended) => ended,
            Err(error) => {
                // Not the task's fault. The process may still be busy with it.
                self.compute.kill().await;
                give_back(delivery, &task).await;
                return Err(error);
            }
        };
        let seconds = earlier_seconds + clock.elapsed().as_secs_f64();
        match ended {
            Ended::Finished(finished) => {
                let marker = Marker {
                    kind: task.kind.to_owned(),
                    id: task.id.clone(),
                    execution_id: random_id(),
                    worker: self.desk.name.clone(),
                    attempt,
                    files: finished.files,
                    units: finished.units,
                    device: ready.device,
                    started_at,
                    finished_at: now(),
                    seconds,
                    summary: serde_json::to_value(&finished.summary).context("a summary has no JSON form")?,
                };
                let has_checkpoints = checkpoints.newest.is_some();
                self.desk.finish(delivery, &task, envelope, &message, &marker, has_checkpoints).await
            }
            Ended::Paused(paused) => {
                let checkpoint = Checkpoint {
                    kind: task.kind.to_owned(),
                    id: task.id.clone(),
                    slice,
                    execution_id: random_id(),
                    worker: self.desk.name.clone(),
                    device: ready.device,
                    files: paused.files,
                    started_at,
                    recorded_at: now(),
                    seconds,
                    done: paused.done,
                    total: paused.total,
                };
                self.desk.hand_over(delivery, &task, envelope, &message, &checkpoint, &earlier).await
            }
            Ended::Failed(failure) => self.desk.failed(delivery, &task, envelope, &message, &failure).await,
            Ended::Interrupted(reason) => {
                self.desk.interrupted(delivery, &task, envelope, &message, reason).await
            }
            Ended::Obsolete(why) => {
                tracing::info!(slot = self.desk.name, task = task.id, why, "abandoned");
                acknowledge(delivery, &task).await
            }
            Ended::Stopped => {
                give_back(delivery, &task).await;
                Ok(())
            }
        }
    }
}

/// Errors of the queue that say themselves that waiting does not help. One of the store may concern a single object.
fn is_hopeless(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<metad2a_queue::Error>())
        .any(|error| !error.is_retryable())
}
