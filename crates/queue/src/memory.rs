//! A queue within one process, for tests and for trying things out.
//!
//! Queues with the same name share their messages for the life of the process, so a test can close everything
//! and open it again, as after a crash. A [`MemoryQueue`] is one connection to such a named queue.
//!
//! Deliberately absent: leases. A taker in the same process cannot die without dropping its deliveries.

mod connection;
mod state;

use std::{
    collections::HashMap,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use tokio::sync::Notify;

use self::{
    connection::{MemoryEvents, MemoryHold, MemoryNotices, MemorySubscription},
    state::State,
};
use crate::{
    Error, Events, Lane, LeaderGuard, Leadership, Message, Notices, Queue, Result, Subscription, message,
};

/// All named queues of this process. They stay until it ends.
static QUEUES: LazyLock<Mutex<HashMap<String, Arc<Shared>>>> = LazyLock::new(Mutex::default);

static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(0);

/// A queue within one process.
#[derive(Debug)]
pub struct MemoryQueue {
    connection: Arc<Connection>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Wakes every waiter after every change; each looks for itself.
    changed: Notify,
}

#[derive(Debug)]
struct Connection {
    number: u64,
    shared: Arc<Shared>,
}

impl MemoryQueue {
    /// Connects to the queue of this name, creating it if this process has none.
    pub fn open(name: &str) -> Self {
        let mut queues = QUEUES.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = Arc::clone(queues.entry(name.to_owned()).or_default());
        let number = NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed);
        shared.lock().open.insert(number);
        Self { connection: Arc::new(Connection { number, shared }) }
    }
}

impl Shared {
    /// No code panics while it holds the lock half-way through a change, so a poisoned lock is still sound.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Runs one change or look at the state, if the connection is open, and wakes the waiters.
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> Result<T> {
        let mut state = self.shared.lock();
        if !state.open.contains(&self.number) {
            return Err(Error::Closed);
        }
        let result = work(&mut state);
        drop(state);
        self.shared.changed.notify_waiters();
        Ok(result)
    }

    /// Repeats a look until it finds something. Registers for the wake-up before looking, so none is missed.
    async fn wait_for<T>(&self, mut look: impl FnMut(&mut State) -> Option<T>) -> Result<T> {
        loop {
            let changed = self.shared.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.shared.lock();
                if !state.open.contains(&self.number) {
                    return Err(Error::Closed);
                }
                if let Some(found) = look(&mut state) {
                    return Ok(found);
                }
            }
            changed.await;
        }
    }

    fn close(&self) {
        self.shared.lock().disconnect(self.number);
        self.shared.changed.notify_waiters();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    async fn publish(&self, lane: &Lane, messages: &[Message]) -> Result<()> {
        let name = lane.checked_name()?;
        Message::check_all(messages)?;
        self.connection.with(|state| state.publish(name, messages))
    }

    async fn subscribe(&self, lanes: &[Lane]) -> Result<Box<dyn Subscription>> {
        let lanes = lanes
            .iter()
            .map(|lane| Ok((lane.checked_name()?, lane.pipeline.clone())))
            .collect::<Result<Vec<_>>>()?;
        if lanes.is_empty() {
            return Err(Error::NoLanes);
        }
        self.connection.with(|_| ())?;
        Ok(Box::new(MemorySubscription { connection: Arc::clone(&self.connection), lanes }))
    }

    async fn ready(&self, lane: &Lane) -> Result<u64> {
        let name = lane.checked_name()?;
        self.connection.with(|state| state.ready(&name))
    }

    async fn purge(&self, lane: &Lane) -> Result<u64> {
        let name = lane.checked_name()?;
        self.connection.with(|state| state.purge(&name))
    }

    async fn broadcast(&self, pipeline: &str, notice: &[u8]) -> Result<()> {
        Lane::check_pipeline(pipeline)?;
        message::check_news(notice)?;
        self.connection.with(|state| state.broadcast(pipeline, notice))
    }

    async fn listen(&self, pipeline: &str) -> Result<Notices> {
        Lane::check_pipeline(pipeline)?;
        let listener = self.connection.with(|state| state.listen(pipeline))?;
        Ok(Notices::new(MemoryNotices { connection: Arc::clone(&self.connection), listener }))
    }

    async fn emit(&self, pipeline: &str, event: &[u8]) -> Result<()> {
        Lane::check_pipeline(pipeline)?;
        message::check_news(event)?;
        self.connection.with(|state| state.emit(pipeline, event))
    }

    async fn events(&self, pipeline: &str) -> Result<Events> {
        Lane::check_pipeline(pipeline)?;
        self.connection.with(|_| ())?;
        Ok(Events::new(MemoryEvents {
            connection: Arc::clone(&self.connection),
            pipeline: pipeline.to_owned(),
        }))
    }

    async fn dead_letters(&self, pipeline: &str) -> Result<u64> {
        Lane::check_pipeline(pipeline)?;
        self.connection.with(|state| state.dead_letters(pipeline))
    }

    async fn purge_dead_letters(&self, pipeline: &str) -> Result<u64> {
        Lane::check_pipeline(pipeline)?;
        self.connection.with(|state| state.purge_dead_letters(pipeline))
    }

    async fn lead(&self, pipeline: &str, holder: &str) -> Result<Leadership> {
        Lane::check_pipeline(pipeline)?;
        let number = self.connection.number;
        Ok(match self.connection.with(|state| state.lead(pipeline, holder, number))? {
            Err(other) => Leadership::HeldBy(other),
            Ok(term) => {
                let connection = Arc::clone(&self.connection);
                Leadership::Held(LeaderGuard::new(MemoryHold {
                    connection,
                    pipeline: pipeline.to_owned(),
                    term,
                }))
            }
        })
    }

    async fn leader(&self, pipeline: &str) -> Result<Option<String>> {
        Lane::check_pipeline(pipeline)?;
        self.connection.with(|state| state.leader(pipeline))
    }

    async fn close(&self) -> Result<()> {
        self.connection.close();
        Ok(())
    }
}
