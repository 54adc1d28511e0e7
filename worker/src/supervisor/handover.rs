//! The end of an unfinished slice: record, continuation, note, acknowledgement, in this order.
//!
//! **Invariant:** a message is acknowledged only after its continuation is in the queue, ours or somebody else's. What is
//! done when is decided by [`crate::slices`].

use std::time::Duration;

use anyhow::Context;
use metad2a_database::{Checkpoint, Recorded};
use metad2a_pipeline::envelope::{Envelope, Event};
use metad2a_queue::{Delivery, Message};

use super::desk::{Desk, TaskName, acknowledge, give_back};
use crate::slices::{AfterRecord, HandOver, after_record, hand_over};

/// A healthy winner publishes and notes it within a fraction of a second.
const NOTE_ATTEMPTS: u32 = 4;
const NOTE_PAUSE: Duration = Duration::from_secs(1);

impl Desk {
    /// Passes the task on behind its checkpoint. `earlier`: its older checkpoints, newest first.
    pub(super) async fn hand_over(
        &self,
        delivery: Box<dyn Delivery>,
        task: &TaskName,
        envelope: Envelope,
        message: &Message,
        checkpoint: &Checkpoint,
        earlier: &[Checkpoint],
    ) -> anyhow::Result<()> {
        let before = match self.standing(task).await {
            Ok(before) => before,
            Err(error) => {
                give_back(delivery, task).await;
                return Err(error);
            }
        };
        match hand_over(!checkpoint.files.is_empty(), before) {
            HandOver::Acknowledge(why) => {
                tracing::info!(slot = self.name, task = task.id, why, "abandoned at the end of a slice");
                return acknowledge(delivery, task).await;
            }
            HandOver::GiveBack => {
                give_back(delivery, task).await;
                return Ok(());
            }
            HandOver::Record => {}
        }
        let recorded = match self.store.record_checkpoint(checkpoint).await {
            Ok(recorded) => recorded,
            Err(error) => {
                give_back(delivery, task).await;
                return Err(error).context("cannot record a checkpoint");
            }
        };
        let won = recorded == Recorded::Won;
        let continued = !won && self.is_continued(checkpoint).await;
        match after_record(checkpoint.slice, won, continued) {
            AfterRecord::Acknowledge(why) => {
                tracing::info!(slot = self.name, task = task.id, slice = checkpoint.slice, why, "abandoned");
                acknowledge(delivery, task).await
            }
            AfterRecord::GiveBack(why) => {
                tracing::warn!(
                    slot = self.name,
                    task = task.id,
                    slice = checkpoint.slice,
                    why,
                    "not abandoned"
                );
                give_back(delivery, task).await;
                Ok(())
            }
            AfterRecord::Continue { slice } => {
                let lane = self.lane_of(&envelope.task);
                let body = Envelope { slice, failures: Vec::new(), ..envelope }.encode();
                let continuation = Message { body, ..message.clone() };
                // Should this fail, the message comes again and goes on behind the record.
                self.queue.publish(&lane, &[continuation]).await.context("cannot publish a continuation")?;
                if let Err(error) = self.store.note_continuation(&checkpoint.id, checkpoint.slice).await {
                    // A rival's message will then go on beside this one's for a slice.
                    tracing::debug!(task = task.id, "a continuation is not noted: {error}");
                }
                acknowledge(delivery, task).await?;
                self.tell(task, checkpoint);
                if let Err(error) = self.store.thin_checkpoints(checkpoint, earlier).await {
                    tracing::debug!(task = task.id, "old checkpoints stay: {error}");
                }
                Ok(())
            }
        }
    }

    /// Whether the winner of a record has passed the task on; it may be about to.
    async fn is_continued(&self, checkpoint: &Checkpoint) -> bool {
        for attempt in 1..=NOTE_ATTEMPTS {
            match self.store.is_continued(&checkpoint.id, checkpoint.slice).await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => {
                    tracing::debug!(task = checkpoint.id, "cannot look for a continuation: {error}");
                }
            }
            if attempt < NOTE_ATTEMPTS {
                tokio::time::sleep(NOTE_PAUSE).await;
            }
        }
        false
    }

    fn tell(&self, task: &TaskName, checkpoint: &Checkpoint) {
        let Checkpoint { slice, done, total, seconds, .. } = *checkpoint;
        tracing::info!(
            slot = self.name,
            task = task.id,
            kind = task.kind,
            slice,
            done,
            total,
            seconds,
            "paused with a checkpoint"
        );
        let (task, kind, worker) = (task.id.clone(), task.kind.to_owned(), self.name.clone());
        self.emitter.emit(&Event::Sliced { task, kind, worker, slice, done, total });
    }

    /// After the commit. What stays behind is removed by garbage collection.
    pub(super) async fn remove_checkpoints(&self, task: &TaskName) {
        if let Err(error) = self.store.remove_checkpoints(&task.id).await {
            tracing::debug!(task = task.id, "checkpoints of a finished task stay: {error}");
        }
    }
}
