//! An embedded queue in one SQLite file, for the processes of one machine.
//!
//! ```text
//!  async callers ──jobs──► one thread per connection ──► FILE (write-ahead log)
//!                               │ every third of a lease: renews what we hold
//! ```
//!
//! A message that is given out carries a lease. Its connection's thread renews it, whatever the async runtime
//! does; [`Queue::close`] (or dropping the last handle) releases it at once; after a crash it ends by itself and
//! the message is given again. Every giving-out raises a counter, so the answer of an older one changes nothing.
//!
//! Other processes' changes are found by asking every [`SqliteOptions::poll`]; changes of the same connection at once.
//! The leader of a pipeline holds a lock of the operating system on `FILE.<pipeline>.leader`, which ends with the process.
//!
//! Deliberately absent: network file systems. Neither the write-ahead log nor the locks work there.

mod connection;
mod leader;
mod schema;
mod statements;
mod thread;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;

use self::{
    connection::{SqliteEvents, SqliteNotices, SqliteSubscription},
    leader::Leaders,
    thread::Database,
};
use crate::{
    Events, Lane, Leadership, Message, Notices, Queue, Result, Subscription, message,
    sqlite::statements::{News, Stored},
};

/// Times of a connection. The defaults suit production; tests shorten them.
#[derive(Clone, Copy, Debug)]
pub struct SqliteOptions {
    /// How long a message stays with a taker that gives no sign of life.
    pub lease: Duration,
    /// How often a waiting taker or reader looks for changes of other processes.
    pub poll: Duration,
    /// How long to wait for another process's transaction before an error.
    pub busy: Duration,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            poll: Duration::from_millis(50),
            busy: Duration::from_secs(10),
        }
    }
}

/// A queue in one SQLite file.
#[derive(Debug)]
pub struct SqliteQueue {
    database: Database,
    leaders: Leaders,
}

impl SqliteQueue {
    /// Opens the file, creating it and its folder if they are missing.
    pub async fn open(path: &Path, options: SqliteOptions) -> Result<Self> {
        let database = Database::open(path.to_owned(), options).await?;
        Ok(Self { leaders: Leaders::new(path.to_owned()), database })
    }

    /// Where the queue lies.
    pub fn path(&self) -> PathBuf {
        self.database.path().to_owned()
    }
}

#[async_trait]
impl Queue for SqliteQueue {
    async fn publish(&self, lane: &Lane, messages: &[Message]) -> Result<()> {
        let (name, pipeline) = (lane.checked_name()?, lane.pipeline.clone());
        Message::check_all(messages)?;
        let messages: Vec<Stored> = messages.iter().map(Stored::from).collect();
        self.database.call("publish", move |worker| worker.publish(&name, &pipeline, &messages)).await?;
        self.database.wake_waiters();
        Ok(())
    }

    async fn subscribe(&self, lanes: &[Lane]) -> Result<Box<dyn Subscription>> {
        let lanes = Lane::checked_names(lanes)?;
        self.database.call("subscribe", |_| Ok(())).await?;
        Ok(Box::new(SqliteSubscription::new(self.database.clone(), lanes)))
    }

    async fn ready(&self, lane: &Lane) -> Result<u64> {
        let name = lane.checked_name()?;
        self.database.call("count messages", move |worker| worker.ready(&name)).await
    }

    async fn purge(&self, lane: &Lane) -> Result<u64> {
        let name = lane.checked_name()?;
        self.database.call("purge", move |worker| worker.purge(&name)).await
    }

    async fn broadcast(&self, pipeline: &str, notice: &[u8]) -> Result<()> {
        self.tell(News::Notices, pipeline, notice).await
    }

    async fn listen(&self, pipeline: &str) -> Result<Notices> {
        Lane::check_pipeline(pipeline)?;
        let last = self.database.call("listen", thread::Worker::last_notice).await?;
        Ok(Notices::new(SqliteNotices::new(self.database.clone(), pipeline.to_owned(), last)))
    }

    async fn emit(&self, pipeline: &str, event: &[u8]) -> Result<()> {
        self.tell(News::Events, pipeline, event).await
    }

    async fn events(&self, pipeline: &str) -> Result<Events> {
        Lane::check_pipeline(pipeline)?;
        self.database.call("read events", |_| Ok(())).await?;
        Ok(Events::new(SqliteEvents::new(self.database.clone(), pipeline.to_owned())))
    }

    async fn dead_letters(&self, pipeline: &str) -> Result<u64> {
        Lane::check_pipeline(pipeline)?;
        let pipeline = pipeline.to_owned();
        self.database.call("count dead letters", move |worker| worker.dead_letters(&pipeline)).await
    }

    async fn purge_dead_letters(&self, pipeline: &str) -> Result<u64> {
        Lane::check_pipeline(pipeline)?;
        let pipeline = pipeline.to_owned();
        self.database.call("purge dead letters", move |worker| worker.purge_dead_letters(&pipeline)).await
    }

    async fn lead(&self, pipeline: &str, holder: &str) -> Result<Leadership> {
        Lane::check_pipeline(pipeline)?;
        self.leaders.lead(pipeline, holder).await
    }

    async fn leader(&self, pipeline: &str) -> Result<Option<String>> {
        Lane::check_pipeline(pipeline)?;
        self.leaders.present(pipeline).await
    }

    async fn close(&self) -> Result<()> {
        self.leaders.close();
        self.database.close().await;
        Ok(())
    }
}

impl SqliteQueue {
    async fn tell(&self, news: News, pipeline: &str, item: &[u8]) -> Result<()> {
        Lane::check_pipeline(pipeline)?;
        message::check_news(item)?;
        let (pipeline, item) = (pipeline.to_owned(), item.to_vec());
        self.database.call("tell news", move |worker| worker.add_news(news, &pipeline, &item)).await?;
        self.database.wake_waiters();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Class, Urgency};

    #[tokio::test]
    async fn a_taker_that_gives_no_sign_of_life_loses_its_message_and_cannot_answer_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("queue.db");
        let short = SqliteOptions { lease: Duration::from_millis(60), ..SqliteOptions::default() };
        let hung = SqliteQueue::open(&path, short).await.unwrap();
        let other = SqliteQueue::open(&path, SqliteOptions::default()).await.unwrap();
        let lane = Lane::new("p", "d1", Class::Gpu, Urgency::Normal);
        hung.publish(&lane, &[Message::new("task", [])]).await.unwrap();
        let first = hung.subscribe(std::slice::from_ref(&lane)).await.unwrap().take().await.unwrap();
        // As a stopped process: its thread does nothing until told to go on.
        let (go_on, stopped) = std::sync::mpsc::channel::<()>();
        hung.database.post(move |_| {
            let _told = stopped.recv();
        });
        let second = other.subscribe(std::slice::from_ref(&lane)).await.unwrap().take().await.unwrap();
        assert!(second.redelivered());
        go_on.send(()).unwrap();
        assert!(!first.acknowledge().await.unwrap(), "the message belongs to the other taker");
        assert!(second.acknowledge().await.unwrap());
        assert_eq!(other.ready(&lane).await.unwrap(), 0);
    }
}
