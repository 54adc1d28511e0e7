//! What a connection hands out: subscriptions, deliveries and feeds.

use std::{collections::VecDeque, fmt, sync::Arc};

use async_trait::async_trait;
use futures::future::BoxFuture;

use super::{
    statements::{ClaimKey, Claimed},
    thread::{Database, Worker},
};
use crate::{Delivery, Message, Result, Subscription, feed::Feed};

#[derive(Debug)]
pub(super) struct SqliteSubscription {
    database: Database,
    lanes: Arc<[String]>,
}

impl SqliteSubscription {
    pub(super) fn new(database: Database, lanes: Vec<String>) -> Self {
        Self { database, lanes: lanes.into() }
    }
}

#[async_trait]
impl Subscription for SqliteSubscription {
    async fn take(&mut self) -> Result<Box<dyn Delivery>> {
        let delivery: SqliteDelivery = self
            .database
            .wait_for(|| {
                let (database, lanes) = (self.database.clone(), Arc::clone(&self.lanes));
                self.database.call("take a message", move |worker| {
                    let claimed = worker.claim(&lanes)?;
                    // Made on the thread: if the taker is gone meanwhile, dropping the delivery gives it back.
                    Ok(claimed.map(|claimed| SqliteDelivery { database, claimed, answered: false }))
                })
            })
            .await?;
        Ok(Box::new(delivery))
    }
}

#[derive(Debug)]
struct SqliteDelivery {
    database: Database,
    claimed: Claimed,
    answered: bool,
}

impl SqliteDelivery {
    async fn answer(
        &mut self,
        action: &'static str,
        answer: impl FnOnce(&mut Worker, ClaimKey) -> rusqlite::Result<bool> + Send + 'static,
    ) -> Result<bool> {
        let key = self.claimed.key;
        let answered = match self.database.call(action, move |worker| answer(worker, key)).await {
            // Closing released the lease.
            Err(crate::Error::Closed) => false,
            other => other?,
        };
        self.answered = true;
        self.database.wake_waiters();
        Ok(answered)
    }
}

#[async_trait]
impl Delivery for SqliteDelivery {
    fn message(&self) -> &Message {
        &self.claimed.message
    }

    fn redelivered(&self) -> bool {
        self.claimed.key.giving > 1
    }

    async fn acknowledge(mut self: Box<Self>) -> Result<bool> {
        self.answer("acknowledge a message", Worker::acknowledge).await
    }

    async fn give_back(mut self: Box<Self>) -> Result<bool> {
        self.answer("give a message back", Worker::give_back).await
    }

    async fn dead_letter(mut self: Box<Self>) -> Result<bool> {
        self.answer("move a message to the dead letters", Worker::dead_letter).await
    }
}

impl Drop for SqliteDelivery {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        let (key, database) = (self.claimed.key, self.database.clone());
        self.database.post(move |worker| {
            if let Err(error) = worker.give_back(key) {
                tracing::warn!(%error, "cannot give a message back; it stays with this process until it ends");
            }
            database.wake_waiters();
        });
    }
}

/// Reads by number, so every listener sees every notice.
#[derive(Debug)]
pub(super) struct SqliteNotices {
    database: Database,
    pipeline: String,
    last: i64,
    read: VecDeque<Vec<u8>>,
}

impl SqliteNotices {
    pub(super) fn new(database: Database, pipeline: String, last: i64) -> Self {
        Self { database, pipeline, last, read: VecDeque::new() }
    }
}

#[async_trait]
impl Feed for SqliteNotices {
    async fn next(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(notice) = self.read.pop_front() {
                return Ok(notice);
            }
            let rows = self
                .database
                .wait_for(|| {
                    let (pipeline, last) = (self.pipeline.clone(), self.last);
                    let read = self
                        .database
                        .call("read notices", move |worker| worker.notices_after(&pipeline, last));
                    async { Ok(Some(read.await?).filter(|rows| !rows.is_empty())) }
                })
                .await?;
            // No await between the reading and this, so a cancelled call reads the same rows again.
            for (seq, notice) in rows {
                self.last = seq;
                self.read.push_back(notice);
            }
        }
    }
}

/// Removes what it reads. The fetch outlives a cancelled call, for what it has removed would be lost with it.
pub(super) struct SqliteEvents {
    database: Database,
    pipeline: String,
    fetch: Option<BoxFuture<'static, Result<Vec<Vec<u8>>>>>,
    read: VecDeque<Vec<u8>>,
}

impl SqliteEvents {
    pub(super) fn new(database: Database, pipeline: String) -> Self {
        Self { database, pipeline, fetch: None, read: VecDeque::new() }
    }

    fn start_fetch(database: Database, pipeline: String) -> BoxFuture<'static, Result<Vec<Vec<u8>>>> {
        Box::pin(async move {
            database
                .wait_for(|| {
                    let pipeline = pipeline.clone();
                    let read = database.call("read events", move |worker| worker.take_events(&pipeline));
                    async { Ok(Some(read.await?).filter(|events| !events.is_empty())) }
                })
                .await
        })
    }
}

#[async_trait]
impl Feed for SqliteEvents {
    async fn next(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(event) = self.read.pop_front() {
                return Ok(event);
            }
            let (database, pipeline) = (&self.database, &self.pipeline);
            let fetch =
                self.fetch.get_or_insert_with(|| Self::start_fetch(database.clone(), pipeline.clone()));
            let fetched = fetch.await;
            self.fetch = None;
            self.read.extend(fetched?);
        }
    }
}

impl fmt::Debug for SqliteEvents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteEvents").field("pipeline", &self.pipeline).finish_non_exhaustive()
    }
}
