//! Sends events beside the work: a task neither starts nor ends later because the broker is slow to take news of it.
//!
//! Events are hints. While the broker is away they pile up to a bound, and then newer ones are dropped; the store tells
//! the coordinator all the same.

use std::sync::Arc;

use metad2a_pipeline::envelope::Event;
use metad2a_queue::Queue;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// More events than a machine's slots make in the time that a broker takes to answer.
const MOST_WAITING: usize = 256;

/// A slot's way to the sender that all slots share.
#[derive(Debug, Clone)]
pub(super) struct Emitter {
    waiting: mpsc::Sender<Vec<u8>>,
}

impl Emitter {
    /// The second value ends when all events are sent that were emitted before the last clone was dropped.
    pub(super) fn start(queue: Arc<dyn Queue>, pipeline: String) -> (Self, JoinHandle<()>) {
        let (waiting, mut events) = mpsc::channel::<Vec<u8>>(MOST_WAITING);
        let sending = tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                if let Err(error) = queue.emit(&pipeline, &event).await {
                    tracing::debug!("cannot emit an event: {error}");
                }
            }
        });
        (Self { waiting }, sending)
    }

    /// Losing an event costs nothing but a fresher display.
    pub(super) fn emit(&self, event: &Event) {
        let Ok(body) = serde_json::to_vec(event) else { return };
        if self.waiting.try_send(body).is_err() {
            tracing::debug!("an event is dropped: the broker is slow or away");
        }
    }
}
