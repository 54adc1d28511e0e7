//! What a slot writes when a task ends: markers, decisions, events, and its answers to the queue. See [`super::handover`]
//! for tasks that go on.
//!
//! **Invariant:** a message is acknowledged or put aside only after what replaces it exists: the marker, its successor
//! in the queue, or the decision `failed`.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use metad2a_database::{Commit, Marker, Store};
use metad2a_pipeline::envelope::{Envelope, Event, dialect};
use metad2a_pipeline::ids::Id;
use metad2a_pipeline::tasks::{Kind, Task};
use metad2a_queue::{Class, Delivery, Lane, Message, Queue, Urgency};
use serde_json::{Value, json};

use crate::attempts::{Before, Failure, Standing, Verdict, before, judge};
use crate::supervisor::emitter::Emitter;

const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A result may have cost an hour: worth more patience with the store than starting again.
const COMMIT_ATTEMPTS: u32 = 8;
/// How often a task may be interrupted without a counted attempt. The store answered before each of them.
const MOST_INTERRUPTIONS: u32 = 20;
/// The header that counts them.
const INTERRUPTIONS: &str = "interruptions";

/// A task as everything but its computation sees it.
pub(super) struct TaskName {
    pub(super) id: String,
    pub(super) kind: &'static str,
}

/// Queue and store in the name of one slot.
pub(super) struct Desk {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) store: Store,
    pub(super) pipeline: String,
    /// Worker's name and slot number.
    pub(super) name: String,
    pub(super) emitter: Emitter,
}

impl Desk {
    pub(super) async fn standing(&self, task: &TaskName) -> anyhow::Result<Before> {
        let is_done = self.store.marker(task.kind, &task.id).await.context("cannot read a marker")?.is_some();
        let decision = self.store.decision(&task.id).await.context("cannot read a decision")?;
        Ok(before(is_done, Standing::of(decision.as_ref().map(|decision| decision.decision.as_str()))))
    }

    /// Marker, event, acknowledgement, in this order.
    pub(super) async fn finish(
        &self,
        delivery: Box<dyn Delivery>,
        task: &TaskName,
        envelope: Envelope,
        message: &Message,
        marker: &Marker,
        has_checkpoints: bool,
    ) -> anyhow::Result<()> {
        match self.commit(task, marker).await {
            Ok(Some(Commit::Won)) => {
                tracing::info!(
                    slot = self.name,
                    task = task.id,
                    kind = task.kind,
                    seconds = marker.seconds,
                    "finished"
                );
            }
            Ok(Some(Commit::AlreadyDone(winner))) => {
                tracing::info!(
                    slot = self.name,
                    task = task.id,
                    by = winner.worker,
                    "another worker was first"
                );
            }
            Ok(None) => {
                tracing::info!(
                    slot = self.name,
                    task = task.id,
                    "cancelled or given up while it was computed"
                );
                return acknowledge(delivery, task).await;
            }
            Err(error) if error.is_retryable() => {
                give_back(delivery, task).await;
                return Err(error).context("cannot commit a finished task");
            }
            Err(error) => {
                // Such as a data file that vanished: this result is lost, another attempt may succeed.
                let failure =
                    Failure::Reported { reason: format!("cannot commit: {error}"), permanent: false };
                return self.failed(delivery, task, envelope, message, &failure).await;
            }
        }
        self.emitter.emit(&Event::Finished {
            task: task.id.clone(),
            kind: task.kind.to_owned(),
            worker: self.name.clone(),
            seconds: marker.seconds,
        });
        acknowledge(delivery, task).await?;
        if has_checkpoints {
            self.remove_checkpoints(task).await;
        }
        Ok(())
    }

    /// `None` where a decision stands in the way.
    async fn commit(
        &self,
        task: &TaskName,
        marker: &Marker,
    ) -> Result<Option<Commit>, metad2a_database::Error> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 0;
        loop {
            attempt += 1;
            let outcome = async {
                let decision = self.store.decision(&task.id).await?;
                let standing = Standing::of(decision.as_ref().map(|decision| decision.decision.as_str()));
                if standing != Standing::Open {
                    return Ok(None);
                }
                self.store.commit(marker).await.map(Some)
            }
            .await;
            match outcome {
                Err(error) if error.is_retryable() && attempt < COMMIT_ATTEMPTS => {
                    tracing::warn!(
                        slot = self.name,
                        task = task.id,
                        attempt,
                        "cannot commit: {error}; trying again"
                    );
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                other => return other,
            }
        }
    }

    /// Does what the verdict says; the message is given up only after its successor or the decision exists.
    pub(super) async fn failed(
        &self,
        delivery: Box<dyn Delivery>,
        task: &TaskName,
        envelope: Envelope,
        message: &Message,
        failure: &Failure,
    ) -> anyhow::Result<()> {
        let attempt = envelope.failures.len() as u32 + 1;
        let reason = failure.reason();
        let verdict = judge(&envelope.failures, envelope.max_attempts, failure);
        let gave_up = matches!(verdict, Verdict::GiveUp { .. });
        tracing::warn!(
            slot = self.name,
            task = task.id,
            kind = task.kind,
            attempt,
            gave_up,
            "failed: {reason}"
        );
        match verdict {
            Verdict::TryAgain { failures } => {
                let lane = self.lane_of(&envelope.task);
                let body = Envelope { failures, ..envelope }.encode();
                let again = Message { body, ..message.clone() };
                self.queue
                    .publish(&lane, &[again])
                    .await
                    .context("cannot publish a task for its next attempt")?;
                acknowledge(delivery, task).await?;
            }
            Verdict::GiveUp { reasons } => {
                self.give_up(task, &envelope.task, &reasons).await?;
                delivery.dead_letter().await.context("cannot hand over a dead letter")?;
            }
        }
        let (task, kind) = (task.id.clone(), task.kind.to_owned());
        self.emitter.emit(&Event::Failed { task, kind, worker: self.name.clone(), attempt, reason, gave_up });
        Ok(())
    }

    /// Puts a task back that the store kept from being done; no attempt, and no return that a broker counts. Always an
    /// error, so that the slot pauses. A task that is interrupted again and again while the store answers others has
    /// a fault of its own, and in the end that counts.
    pub(super) async fn interrupted(
        &self,
        delivery: Box<dyn Delivery>,
        task: &TaskName,
        envelope: Envelope,
        message: &Message,
        reason: String,
    ) -> anyhow::Result<()> {
        let earlier =
            message.headers.get(INTERRUPTIONS).and_then(|count| count.parse().ok()).unwrap_or(0_u32);
        let mut again = message.clone();
        if earlier == MOST_INTERRUPTIONS {
            again.headers.remove(INTERRUPTIONS);
            let failure = Failure::Reported { reason, permanent: false };
            return self.failed(delivery, task, envelope, &again, &failure).await;
        }
        again.headers.insert(INTERRUPTIONS.to_owned(), (earlier + 1).to_string());
        let lane = self.lane_of(&envelope.task);
        self.queue.publish(&lane, &[again]).await.context("cannot publish an interrupted task again")?;
        acknowledge(delivery, task).await?;
        bail!("task {} was interrupted, which is no attempt: {reason}", task.id)
    }

    /// The lane of a task's next attempt: the one that the coordinator gave it. People wait for searches.
    pub(super) fn lane_of(&self, task: &Task) -> Lane {
        let urgency = if task.kind().is_urgent() { Urgency::High } else { Urgency::Normal };
        Lane::new(self.pipeline.clone(), dialect(), Class::Gpu, urgency)
    }

    /// A message that no worker of this build can work on, as its lane says nothing of: bad input. The task that its
    /// publisher waits for is given up, or it would be published again and again; it can be retried like any other. An id
    /// that is no task's is waited for by nobody.
    pub(super) async fn refuse(
        &self,
        delivery: Box<dyn Delivery>,
        id: &str,
        rule: &str,
    ) -> anyhow::Result<()> {
        tracing::error!(slot = self.name, message = id, "{rule}; it goes to the dead letters");
        if Id::parse(id).is_some()
            && let Err(error) = self.give_up_unworked(id, rule).await
        {
            // It comes again in any case; so, others get it sooner.
            let _ = delivery.give_back().await;
            return Err(error);
        }
        delivery.dead_letter().await.context("cannot hand over a dead letter")?;
        Ok(())
    }

    async fn give_up_unworked(&self, id: &str, rule: &str) -> anyhow::Result<()> {
        if self.is_done(id).await? {
            return Ok(());
        }
        let reason = format!("a message cannot be worked on: {rule}");
        let detail = json!({ "pipeline": self.pipeline, "reasons": [reason] });
        self.record_failure(id, detail).await?;
        self.emitter.emit(&Event::Decided);
        Ok(())
    }

    /// Whether a task of any kind has this id.
    async fn is_done(&self, id: &str) -> anyhow::Result<bool> {
        for kind in Kind::ALL {
            if self.store.marker(kind.name(), id).await.context("cannot read a marker")?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// With the task itself, which no other place keeps.
    async fn give_up(&self, task: &TaskName, value: &Task, reasons: &[String]) -> anyhow::Result<()> {
        let detail = json!({
            "kind": task.kind,
            "pipeline": self.pipeline,
            "reasons": reasons,
            "task": value,
        });
        self.record_failure(&task.id, detail).await
    }

    /// Freezes a failure, unless a decision stands already. After a retry it needs a new number.
    async fn record_failure(&self, id: &str, detail: Value) -> anyhow::Result<()> {
        let newest = self.store.decision(id).await.context("cannot read a decision")?;
        match newest {
            None => self.store.decide_once(id, "failed", detail).await.map(|_| ()),
            Some(decision) if Standing::of(Some(&decision.decision)) == Standing::Open => {
                self.store.decide(id, "failed", detail).await.map(|_| ())
            }
            Some(_) => Ok(()),
        }
        .context("cannot record that a task failed")
    }
}

/// Too late is no harm: the effect exists, and whoever has the message now finds it done.
pub(super) async fn acknowledge(delivery: Box<dyn Delivery>, task: &TaskName) -> anyhow::Result<()> {
    if !delivery.acknowledge().await.context("cannot acknowledge a task")? {
        tracing::info!(task = task.id, "acknowledged too late: the message was given to another worker");
    }
    Ok(())
}

/// A message that cannot be given back comes again by itself, only later.
pub(super) async fn give_back(delivery: Box<dyn Delivery>, task: &TaskName) {
    match delivery.give_back().await {
        Ok(_) => tracing::info!(task = task.id, "given back"),
        Err(error) => tracing::warn!(task = task.id, "cannot give a task back: {error}"),
    }
}
