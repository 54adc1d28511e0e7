//! The shared connections: made on demand, watched, and replaced when they are lost.
//!
//! Sending and receiving have a connection each. A broker short of memory or disk blocks connections that publish, and
//! on a shared one it would leave the acknowledgements unread, too, which are what frees its memory.
//!
//! The client library can leave a call without any answer when its connection dies at the wrong moment. So every step
//! of a conversation ends with the connection ([`Line::step`]), and none lasts longer than the time for an answer.

use std::{fmt, sync::Arc};

use lapin::ErrorKind;
use tokio::{sync::Mutex, sync::watch, time::Instant};

use super::{
    RabbitOptions,
    dial::Dialer,
    line::{Line, Live},
    retry::{Pauses, Retry},
};
use crate::{Error, Redacted, Result};

/// What a connection is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    Send,
    Receive,
}

pub(super) struct Link {
    dialer: Dialer,
    options: RabbitOptions,
    send: Mutex<Slot>,
    receive: Mutex<Slot>,
    closed: watch::Sender<bool>,
}

/// Where the connection of one role is, or when it may be tried again.
struct Slot {
    live: Option<Live>,
    pauses: Pauses,
    /// After a failed attempt: until when it is not repeated, and what those get who ask meanwhile. However many tasks
    /// wait, the broker sees one attempt at a time.
    failed: Option<(Instant, Error)>,
}

impl Slot {
    fn empty() -> Self {
        Self { live: None, pauses: Pauses::new(), failed: None }
    }
}

impl Link {
    pub(super) fn new(dialer: Dialer, options: RabbitOptions) -> Self {
        let closed = watch::Sender::new(false);
        let (send, receive) = (Mutex::new(Slot::empty()), Mutex::new(Slot::empty()));
        Self { dialer, options, send, receive, closed }
    }

    pub(super) fn address(&self) -> &Redacted {
        self.dialer.shown()
    }

    pub(super) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    pub(super) fn options(&self) -> RabbitOptions {
        self.options
    }

    /// Connects for the first time. A wrong name, password or certificate is told at once; a broker that is not there
    /// yet gets the time of [`RabbitOptions::start`].
    pub(super) async fn start(&self) -> Result<()> {
        let mut retry = Retry::new(self.options.start);
        let mut told = false;
        loop {
            let error = match self.live(Role::Receive).await {
                Ok(_) => return Ok(()),
                Err(error @ (Error::Broker { .. } | Error::Timeout { .. })) => error,
                Err(hopeless) => return Err(hopeless),
            };
            if !std::mem::replace(&mut told, true) {
                let (seconds, source) = (self.options.start.as_secs(), root(&error));
                tracing::warn!(broker = %self.address(), %source, "the broker does not answer; trying for {seconds} s");
            }
            retry.pause(self, error).await?;
        }
    }

    /// A new channel, on a new connection if the old one is lost. Tried once.
    pub(super) async fn line(self: &Arc<Self>, role: Role, action: &'static str) -> Result<Line> {
        let live = self.live(role).await?;
        Line::open(self, live, action).await
    }

    /// Runs a conversation on a new channel, and again on another one while the broker is at fault.
    /// The conversation must be harmless when repeated.
    pub(super) async fn converse<T, F>(
        self: &Arc<Self>,
        role: Role,
        action: &'static str,
        talk: impl Fn(Line) -> F,
    ) -> Result<T>
    where
        F: Future<Output = lapin::Result<T>>,
    {
        let mut retry = Retry::new(self.options.patience);
        loop {
            let result = match self.line(role, action).await {
                Ok(line) => {
                    let answer = line.step(action, talk(line.clone())).await;
                    if answer.is_err() {
                        line.declared().forget();
                    }
                    answer
                }
                Err(error) => Err(error),
            };
            match result {
                Ok(value) => return Ok(value),
                Err(error) => retry.pause(self, error).await?,
            }
        }
    }

    /// A connection that nobody shares.
    pub(super) async fn own_line(self: &Arc<Self>, purpose: &str, action: &'static str) -> Result<Line> {
        let mut closed = self.closed.subscribe();
        let connection = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => return Err(Error::Closed),
            connected = self.dialer.connect(purpose) => connected?,
        };
        let live = Live::new(connection, self.address());
        Line::open(self, live, action).await
    }

    async fn live(&self, role: Role) -> Result<Live> {
        let (slot, purpose) = match role {
            Role::Send => (&self.send, "sending"),
            Role::Receive => (&self.receive, "receiving"),
        };
        let mut slot = slot.lock().await;
        if *self.closed.borrow() {
            return Err(Error::Closed);
        }
        if let Some(live) = &slot.live
            && live.is_connected()
        {
            return Ok(live.clone());
        }
        if let Some((until, error)) = &slot.failed
            && Instant::now() < *until
            && let Some(error) = error.again()
        {
            return Err(error);
        }
        let mut closed = self.closed.subscribe();
        let connected = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => return Err(Error::Closed),
            connected = self.dialer.connect(purpose) => connected,
        };
        match connected {
            Ok(connection) => {
                tracing::info!(broker = %self.address(), purpose, "connected");
                let live = Live::new(connection, self.address());
                *slot = Slot { live: Some(live.clone()), ..Slot::empty() };
                Ok(live)
            }
            Err(error) => {
                let until = Instant::now() + slot.pauses.next();
                slot.failed = error.again().map(|copy| (until, copy));
                Err(error)
            }
        }
    }

    pub(super) fn answer_by(&self) -> Instant {
        Instant::now() + self.options.answer
    }

    /// Bounds one step by a point in time, by the connection's life and by our closing.
    pub(super) async fn bounded<T>(
        &self,
        action: &'static str,
        until: Instant,
        lost: &watch::Receiver<bool>,
        step: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T> {
        let (mut closed, mut lost) = (self.closed.subscribe(), lost.clone());
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => Err(Error::Closed),
            // Before the loss: what was answered in time counts.
            result = step => result.map_err(|source| self.dialer.classify(action, source)),
            _ = lost.wait_for(|lost| *lost) => Err(self.lost(action)),
            () = tokio::time::sleep_until(until) => Err(self.dialer.timeout(action)),
        }
    }

    pub(super) fn lost(&self, action: &'static str) -> Error {
        let reset = std::io::Error::new(std::io::ErrorKind::ConnectionReset, "the connection was lost");
        self.dialer.classify(action, reset.into())
    }

    /// Returns when this link is closed.
    pub(super) async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        let _closed = closed.wait_for(|closed| *closed).await;
    }

    pub(super) async fn close(&self) {
        self.closed.send_replace(true);
        for slot in [&self.send, &self.receive] {
            let live = slot.lock().await.live.take();
            if let Some(live) = live {
                live.close().await;
            }
        }
    }
}

pub(super) fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

fn root(error: &Error) -> String {
    let mut error: &dyn std::error::Error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Shows no credentials.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("broker", self.address())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Link {
    /// For tests of what needs no broker.
    pub(super) fn to_nowhere() -> Self {
        let url = "amqp://u:secret@127.0.0.1:1".parse().expect("an address");
        let options = RabbitOptions::default();
        let dialer = Dialer::new(url, &super::RabbitAccess::default(), &options).expect("complete");
        Self::new(dialer, options)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn many_who_ask_at_once_cost_one_attempt_and_get_the_same_answer() {
        let link = Arc::new(Link::to_nowhere());
        assert!(!format!("{link:?}").contains("secret"));
        let first = link.line(Role::Send, "test").await.unwrap_err();
        assert!(matches!(first, Error::Broker { .. }), "{first}");
        let (until, _) = link.send.lock().await.failed.take().expect("remembered");
        let marked = Error::Timeout { address: Redacted::new(""), action: "be another error", seconds: 7 };
        link.send.lock().await.failed = Some((until + Duration::from_hours(1), marked));
        let second = link.line(Role::Send, "test").await.unwrap_err();
        assert!(matches!(second, Error::Timeout { seconds: 7, .. }), "the remembered answer, not {second}");
        let other_role = link.line(Role::Receive, "test").await.unwrap_err();
        assert!(matches!(other_role, Error::Broker { .. }), "{other_role}");
    }
}
