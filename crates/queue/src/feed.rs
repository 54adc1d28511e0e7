//! Streams of small news: notices to all workers, events to the coordinator.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::Result;

/// Where a back-end's news come from. `next` must be cancel safe: readers poll it in `select!` loops.
#[async_trait]
pub(crate) trait Feed: Debug + Send {
    async fn next(&mut self) -> Result<Vec<u8>>;
}

/// Broadcasts to a pipeline since the call of [`Queue::listen`](crate::Queue::listen).
#[derive(Debug)]
pub struct Notices(Box<dyn Feed>);

/// Events of a pipeline; each goes to one reader, at most once.
#[derive(Debug)]
pub struct Events(Box<dyn Feed>);

impl Notices {
    pub(crate) fn new(feed: impl Feed + 'static) -> Self {
        Self(Box::new(feed))
    }

    /// Waits for the next notice. Cancel safe.
    pub async fn next(&mut self) -> Result<Vec<u8>> {
        self.0.next().await
    }
}

impl Events {
    pub(crate) fn new(feed: impl Feed + 'static) -> Self {
        Self(Box::new(feed))
    }

    /// Waits for the next event. Cancel safe.
    pub async fn next(&mut self) -> Result<Vec<u8>> {
        self.0.next().await
    }
}
