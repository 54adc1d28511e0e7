//! Where a queue service runs, and how a test connects to it.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::Arc,
    time::Duration,
};

use metad2a_queue::{
    Class, Faults, Lane, MemoryQueue, Queue, SqliteOptions, SqliteQueue, UnreliableQueue, Urgency,
};

/// A queue service that tests may connect to several times.
pub(crate) trait Site: Send + Sync {
    /// A new connection, as another process would have.
    fn connect(&self) -> impl Future<Output = Arc<dyn Queue>> + Send;
}

pub(crate) struct MemorySite(String);
pub(crate) struct SqliteSite(tempfile::TempDir);
pub(crate) struct QuietSite(MemorySite);
pub(crate) struct RabbitSite(String);

impl MemorySite {
    pub(crate) fn new() -> Self {
        Self(fresh("site"))
    }
}

impl SqliteSite {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary folder"))
    }
}

impl QuietSite {
    pub(crate) fn new() -> Self {
        Self(MemorySite::new())
    }
}

impl RabbitSite {
    pub(crate) fn new() -> Self {
        let variable = "METAD2A_TEST_AMQP_URL";
        Self(
            std::env::var(variable)
                .unwrap_or_else(|_| panic!("set {variable}, or run under scripts/services/with-broker.sh")),
        )
    }
}

impl Site for MemorySite {
    async fn connect(&self) -> Arc<dyn Queue> {
        Arc::new(MemoryQueue::open(&self.0))
    }
}

impl Site for SqliteSite {
    async fn connect(&self) -> Arc<dyn Queue> {
        let options = SqliteOptions { poll: Duration::from_millis(5), ..SqliteOptions::default() };
        Arc::new(SqliteQueue::open(&self.0.path().join("queue.db"), options).await.expect("the file opens"))
    }
}

impl Site for QuietSite {
    async fn connect(&self) -> Arc<dyn Queue> {
        Arc::new(UnreliableQueue::new(self.0.connect().await, Faults::none(1)))
    }
}

impl Site for RabbitSite {
    async fn connect(&self) -> Arc<dyn Queue> {
        metad2a_queue::open(&self.0).await.expect("the broker answers")
    }
}

/// A name that no other test and no earlier run has used: a broker outlives the tests.
pub(crate) fn fresh(name: &str) -> String {
    format!("{name}-{:016x}", RandomState::new().build_hasher().finish())
}

pub(crate) fn fresh_lane() -> Lane {
    Lane::new(fresh("test"), "d1", Class::Gpu, Urgency::Normal)
}

/// A test that hangs fails instead. Generous, for a busy machine; no test measures time.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), work).await.expect("the test ends in time")
}

/// Waits until the lane holds so many messages: a broker settles acknowledgements a moment later.
pub(crate) async fn until_ready(queue: &Arc<dyn Queue>, lane: &Lane, expected: u64) {
    loop {
        let ready = queue.ready(lane).await.expect("depth can be asked");
        if ready == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
