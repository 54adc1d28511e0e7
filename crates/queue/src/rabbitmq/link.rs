//! The shared connection: made on demand, replaced when it is lost.

use std::{
    fmt,
    hash::{BuildHasher, Hasher, RandomState},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use lapin::{Channel, Connection, ConnectionProperties, ErrorKind};
use tokio::{sync::Mutex, sync::watch, time::Instant};
use url::Url;

use super::RabbitOptions;
use crate::{Error, Redacted, Result};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How often the readers of a stream check that their channel still lives: a stream need not end when it dies.
pub(super) const LIFE_CHECK: Duration = Duration::from_secs(2);

/// AMQP's reply codes.
const ACCESS_REFUSED: u16 = 403;
const PRECONDITION_FAILED: u16 = 406;
const NOT_ALLOWED: u16 = 530;
const SUCCESS: u16 = 200;

pub(super) struct Link {
    /// With credentials and heartbeat.
    url: Url,
    shown: Redacted,
    options: RabbitOptions,
    connection: Mutex<Option<Arc<Connection>>>,
    closed: watch::Sender<bool>,
}

impl Link {
    pub(super) async fn connect(url: Url, options: RabbitOptions) -> Result<Arc<Self>> {
        let shown = Redacted::new(url.as_str());
        let url = complete(url, options.heartbeat)?;
        let link =
            Self { url, shown, options, connection: Mutex::default(), closed: watch::Sender::new(false) };
        *link.connection.lock().await = Some(Arc::new(link.new_connection("tasks").await?));
        Ok(Arc::new(link))
    }

    pub(super) fn address(&self) -> &Redacted {
        &self.shown
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) fn options(&self) -> RabbitOptions {
        self.options
    }

    /// A connection of its own, tried once.
    pub(super) async fn new_connection(&self, purpose: &str) -> Result<Connection> {
        let name = format!("metad2a {purpose}, process {}", std::process::id());
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        self.within("connect", Connection::connect(self.url.as_str(), properties)).await
    }

    /// Bounds one step by the time the broker has for an answer, and by our closing.
    pub(super) async fn within<T>(
        &self,
        action: &'static str,
        step: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T> {
        let mut closed = self.closed.subscribe();
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => Err(Error::Closed),
            answer = tokio::time::timeout(self.options.answer, step) => match answer {
                Ok(result) => result.map_err(|source| self.classify(action, source)),
                Err(_) => Err(Error::Timeout {
                    address: self.shown.clone(),
                    action,
                    seconds: self.options.answer.as_secs(),
                }),
            },
        }
    }

    /// A new channel, on a new connection if the old one is lost. Tried once.
    pub(super) async fn channel(&self, action: &'static str) -> Result<Channel> {
        let connection = {
            let mut slot = self.connection.lock().await;
            if *self.closed.borrow() {
                return Err(Error::Closed);
            }
            match &*slot {
                Some(connection) if connection.status().connected() => Arc::clone(connection),
                _ => {
                    let connection = Arc::new(self.new_connection("tasks").await?);
                    tracing::info!(broker = %self.shown, "connected to the broker again");
                    Arc::clone(slot.insert(connection))
                }
            }
        };
        self.within(action, connection.create_channel()).await
    }

    /// Runs a conversation on a new channel, and again on another one while the connection is at fault.
    /// The conversation must be harmless when repeated.
    pub(super) async fn converse<T, F>(&self, action: &'static str, talk: impl Fn(Channel) -> F) -> Result<T>
    where
        F: Future<Output = lapin::Result<T>>,
    {
        let mut retry = Retry::new(self.options.patience);
        loop {
            let result = match self.channel(action).await {
                Ok(channel) => self.within(action, talk(channel)).await,
                Err(error) => Err(error),
            };
            match result {
                Err(error) if error.is_retryable() => retry.pause(self, error).await?,
                done => return done,
            }
        }
    }

    pub(super) fn classify(&self, action: &'static str, source: lapin::Error) -> Error {
        let address = self.shown.clone();
        match reply_code(&source) {
            Some(ACCESS_REFUSED | NOT_ALLOWED) => Error::Refused { address, action, source },
            Some(PRECONDITION_FAILED) => Error::Topology { address, action, source },
            _ if matches!(source.kind(), ErrorKind::AuthProviderError(_)) => {
                Error::Refused { address, action, source }
            }
            _ => Error::Broker { address, action, source },
        }
    }

    /// Returns when this link is closed.
    pub(super) async fn closed(&self) {
        let mut closed = self.closed.subscribe();
        let _closed = closed.wait_for(|closed| *closed).await;
    }

    pub(super) async fn close(&self) {
        self.closed.send_replace(true);
        let connection = self.connection.lock().await.take();
        if let Some(connection) = connection {
            close_connection(&connection).await;
        }
    }
}

/// Says goodbye, but does not wait for a broker that is gone.
pub(super) async fn close_connection(connection: &Connection) {
    const GOODBYE: Duration = Duration::from_secs(5);
    match tokio::time::timeout(GOODBYE, connection.close(SUCCESS, "OK".into())).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(%error, "the connection to the broker was lost before it was closed");
        }
        Err(_) => tracing::debug!("the broker did not answer the closing of the connection"),
    }
}

pub(super) async fn close_channel(channel: &Channel) -> lapin::Result<()> {
    channel.close(SUCCESS, "OK".into()).await
}

pub(super) fn reply_code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// Growing, jittered pauses until the patience ends.
pub(super) struct Retry {
    until: Instant,
    next: Duration,
}

impl Retry {
    pub(super) fn new(patience: Duration) -> Self {
        Self { until: Instant::now() + patience, next: FIRST_PAUSE }
    }

    /// Waits after this error, or returns it when the patience has ended.
    pub(super) async fn pause(&mut self, link: &Link, error: Error) -> Result<()> {
        let pause = self.next_pause();
        if Instant::now() + pause > self.until {
            return Err(error);
        }
        tracing::warn!(%error, source = ?std::error::Error::source(&error), "trying the broker again");
        tokio::select! {
            biased;
            () = link.closed() => Err(Error::Closed),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    /// Between half and the whole of a doubling time, so that many workers do not come back in step.
    fn next_pause(&mut self) -> Duration {
        let jitter = (RandomState::new().build_hasher().finish() % 1000) as f64 / 1000.0;
        let pause = self.next.mul_f64(0.5 + jitter / 2.0);
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        pause
    }
}

/// Adds what the address leaves out: credentials from the environment, the heartbeat, the default virtual host.
fn complete(mut url: Url, heartbeat: u16) -> Result<Url> {
    const FILE: &str = "METAD2A_QUEUE_PASSWORD_FILE";
    let fixed = |rule| Error::Address { address: Redacted::new(""), rule };
    if url.username().is_empty()
        && let Ok(name) = std::env::var("METAD2A_QUEUE_USERNAME")
    {
        url.set_username(&name).map_err(|()| fixed("it cannot hold a user name"))?;
    }
    if url.password().is_none() {
        let password = match std::env::var(FILE) {
            Ok(path) => {
                let path = PathBuf::from(path);
                let text = std::fs::read_to_string(&path).map_err(|source| Error::Credentials {
                    variable: FILE,
                    path,
                    source,
                })?;
                // Editors end files with a line break, which is no part of the password.
                Some(text.trim_end_matches(['\r', '\n']).to_owned())
            }
            Err(_) => std::env::var("METAD2A_QUEUE_PASSWORD").ok(),
        };
        if let Some(password) = password {
            url.set_password(Some(&password)).map_err(|()| fixed("it cannot hold a password"))?;
        }
    }
    if url.path() == "/" {
        // The client library would take it for the virtual host with the empty name, which no broker has.
        url.set_path("/%2f");
    }
    if !url.query_pairs().any(|(key, _)| key == "heartbeat") {
        url.query_pairs_mut().append_pair("heartbeat", &heartbeat.to_string());
    }
    Ok(url)
}

/// Shows no credentials.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("broker", &self.shown)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_completed_and_what_it_says_is_kept() {
        let complete = |text: &str| complete(text.parse().unwrap(), 30).unwrap().to_string();
        assert_eq!(complete("amqp://u:p@host"), "amqp://u:p@host?heartbeat=30");
        assert_eq!(complete("amqp://u:p@host/"), "amqp://u:p@host/%2f?heartbeat=30");
        assert_eq!(complete("amqps://u:p@host:1/v?heartbeat=5"), "amqps://u:p@host:1/v?heartbeat=5");
    }

    #[test]
    fn pauses_grow_to_a_limit_and_are_jittered() {
        let mut retry = Retry::new(Duration::from_mins(1));
        for (round, whole) in [100, 200, 400, 800, 1600, 3200, 5000, 5000].into_iter().enumerate() {
            let pause = retry.next_pause().as_millis();
            assert!((whole / 2..=whole).contains(&pause), "pause {round}: {pause} ms");
        }
    }

    #[tokio::test]
    async fn a_retry_ends_with_the_patience_and_with_the_link() {
        let link = Link {
            url: "amqp://u:secret@host".parse().unwrap(),
            shown: Redacted::new("amqp://u:secret@host"),
            options: RabbitOptions::default(),
            connection: Mutex::default(),
            closed: watch::Sender::new(false),
        };
        assert!(!format!("{link:?}").contains("secret"));
        let fault = || Error::Injected { what: "test" };
        let ended = Retry::new(Duration::ZERO).pause(&link, fault()).await;
        assert!(matches!(ended, Err(Error::Injected { .. })));
        link.close().await;
        let closed = Retry::new(Duration::from_hours(1)).pause(&link, fault()).await;
        assert!(matches!(closed, Err(Error::Closed)));
    }
}
