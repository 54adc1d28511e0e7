//! One channel of a watched connection, and the steps of a conversation on it.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc, Mutex as Lock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{Stream, StreamExt};
use lapin::{Channel, Connection, ConnectionStatus, Event};
use tokio::{sync::watch, time::Instant};

use super::link::Link;
use crate::{Error, Redacted, Result};

const SUCCESS: u16 = 200;

/// How often a connection is looked at: the client library's own events do not tell every end.
const LOOK: Duration = Duration::from_millis(250);

/// How often the readers of a stream check that their channel still lives: a stream need not end when it dies.
pub(super) const LIFE_CHECK: Duration = Duration::from_secs(2);

/// A connection and what is known of it.
#[derive(Clone)]
pub(super) struct Live {
    connection: Arc<Connection>,
    lost: watch::Receiver<bool>,
    declared: Declared,
    /// We end it ourselves: whatever goes wrong with it from then on is no news.
    ended: Arc<AtomicBool>,
}

/// What was declared on this connection already, by name: once is enough until something turns out to be missing.
#[derive(Clone, Debug, Default)]
pub(super) struct Declared(Arc<Lock<HashSet<String>>>);

impl Declared {
    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    pub(super) fn add(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    /// Somebody deleted something.
    pub(super) fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Live {
    /// Watches a new connection from now on.
    pub(super) fn new(connection: Connection, broker: &Redacted) -> Self {
        let (told, lost) = watch::channel(false);
        let (status, events) = (connection.status().clone(), connection.events_listener());
        let (broker, ended) = (broker.clone(), Arc::new(AtomicBool::new(false)));
        let is_ended = Arc::clone(&ended);
        tokio::spawn(async move {
            if let Some(error) = keep_watch(&broker, status, events).await
                && !is_ended.load(Ordering::Relaxed)
            {
                tracing::warn!(%broker, error, "the connection to the broker was lost");
            }
            told.send_replace(true);
        });
        Self { connection: Arc::new(connection), lost, declared: Declared::default(), ended }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }

    /// Says goodbye, but does not wait for a broker that is gone.
    pub(super) async fn close(&self) {
        const GOODBYE: Duration = Duration::from_secs(5);
        self.ended.store(true, Ordering::Relaxed);
        let mut lost = self.lost.clone();
        let goodbye = async {
            tokio::select! {
                closed = self.connection.close(SUCCESS, "OK".into()) => closed,
                _ = lost.wait_for(|lost| *lost) => Ok(()),
            }
        };
        match tokio::time::timeout(GOODBYE, goodbye).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the connection was lost before it was closed"),
            Err(_) => tracing::debug!("the broker did not answer the closing of the connection"),
        }
    }
}

/// Returns when the connection has ended, with the error if it was lost. Tells of alarms meanwhile.
async fn keep_watch(
    broker: &Redacted,
    status: ConnectionStatus,
    mut events: impl Stream<Item = Event> + Unpin,
) -> Option<String> {
    let mut last_error = None;
    // A connection that says goodbye still lives: its last words must be heard.
    while !status.closed() && !status.errored() {
        match tokio::time::timeout(LOOK, events.next()).await {
            Ok(Some(Event::ConnectionBlocked(reason))) => tracing::warn!(
                %broker, %reason,
                "the broker takes no messages: it is short of memory or disk. Publishing waits; free some, or enlarge it"
            ),
            Ok(Some(Event::ConnectionUnblocked)) => {
                tracing::info!(%broker, "the broker takes messages again");
            }
            // Those of single channels, too: whether the connection has ended, its status says.
            Ok(Some(Event::Error(error))) => last_error = Some(error),
            Ok(Some(_)) | Err(_) => {}
            Ok(None) => break,
        }
    }
    status.errored().then(|| last_error.map_or_else(|| "unknown".to_owned(), |error| error.to_string()))
}

/// A channel and the connection that it lives on. Dropping it closes the channel.
#[derive(Clone)]
pub(super) struct Line {
    link: Arc<Link>,
    channel: Channel,
    live: Live,
}

impl Line {
    /// A new channel of a connection.
    pub(super) async fn open(link: &Arc<Link>, live: Live, action: &'static str) -> Result<Self> {
        let create = live.connection.create_channel();
        let channel = link.bounded(action, link.answer_by(), &live.lost, create).await?;
        Ok(Self { link: Arc::clone(link), channel, live })
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(super) fn channel(&self) -> &Channel {
        &self.channel
    }

    pub(super) fn declared(&self) -> &Declared {
        &self.live.declared
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.live.connection.status().blocked()
    }

    /// Whether the channel can still be used.
    pub(super) fn is_alive(&self) -> bool {
        self.channel.status().connected() && !*self.live.lost.borrow()
    }

    /// One step of the conversation, which ends at the latest with the time for an answer.
    pub(super) async fn step<T>(
        &self,
        action: &'static str,
        step: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T> {
        self.step_until(action, self.link.answer_by(), step).await
    }

    pub(super) async fn step_until<T>(
        &self,
        action: &'static str,
        until: Instant,
        step: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T> {
        self.link.bounded(action, until, &self.live.lost, step).await
    }

    /// Returns when the connection is lost.
    pub(super) async fn lost(&self) {
        let mut lost = self.live.lost.clone();
        let _lost = lost.wait_for(|lost| *lost).await;
    }

    pub(super) fn lost_error(&self, action: &'static str) -> Error {
        self.link.lost(action)
    }

    pub(super) async fn close_channel(&self) -> lapin::Result<()> {
        self.channel.close(SUCCESS, "OK".into()).await
    }

    pub(super) async fn close_connection(&self) {
        self.live.close().await;
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line").field("channel", &self.channel.id()).finish_non_exhaustive()
    }
}
