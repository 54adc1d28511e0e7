//! What a connection hands out: subscriptions, deliveries, feeds and leaderships.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Connection, state::State};
use crate::{Delivery, Message, Result, Subscription, feed::Feed, leadership::Hold};

#[derive(Debug)]
pub(super) struct MemorySubscription {
    pub(super) connection: Arc<Connection>,
    /// Name of the lane and of its pipeline.
    pub(super) lanes: Vec<(String, String)>,
}

#[async_trait]
impl Subscription for MemorySubscription {
    async fn take(&mut self) -> Result<Box<dyn Delivery>> {
        let connection = &self.connection;
        let (taken, pipeline) = connection
            .wait_for(|state| {
                self.lanes.iter().find_map(|(lane, pipeline)| {
                    let taken = state.take(connection.number, lane)?;
                    Some((taken, pipeline.clone()))
                })
            })
            .await?;
        Ok(Box::new(MemoryDelivery {
            connection: Arc::clone(connection),
            pipeline,
            number: taken.number,
            message: taken.message,
            redelivered: taken.redelivered,
            answered: false,
        }))
    }
}

#[derive(Debug)]
struct MemoryDelivery {
    connection: Arc<Connection>,
    pipeline: String,
    number: u64,
    message: Message,
    redelivered: bool,
    answered: bool,
}

impl MemoryDelivery {
    fn answer(&mut self, answer: impl FnOnce(&mut State, u64) -> bool) -> bool {
        self.answered = true;
        // On a closed connection everything was given back already.
        self.connection.with(|state| answer(state, self.number)).unwrap_or(false)
    }
}

#[async_trait]
impl Delivery for MemoryDelivery {
    fn message(&self) -> &Message {
        &self.message
    }

    fn redelivered(&self) -> bool {
        self.redelivered
    }

    async fn acknowledge(mut self: Box<Self>) -> Result<bool> {
        Ok(self.answer(State::acknowledge))
    }

    async fn give_back(mut self: Box<Self>) -> Result<bool> {
        Ok(self.answer(State::give_back))
    }

    async fn dead_letter(mut self: Box<Self>) -> Result<bool> {
        let pipeline = std::mem::take(&mut self.pipeline);
        Ok(self.answer(|state, number| state.dead_letter(number, &pipeline)))
    }
}

impl Drop for MemoryDelivery {
    fn drop(&mut self) {
        if !self.answered {
            self.answer(State::give_back);
        }
    }
}

#[derive(Debug)]
pub(super) struct MemoryNotices {
    pub(super) connection: Arc<Connection>,
    pub(super) listener: u64,
}

#[async_trait]
impl Feed for MemoryNotices {
    async fn next(&mut self) -> Result<Vec<u8>> {
        self.connection.wait_for(|state| state.next_notice(self.listener)).await
    }
}

impl Drop for MemoryNotices {
    fn drop(&mut self) {
        self.connection.shared.lock().stop_listening(self.listener);
    }
}

#[derive(Debug)]
pub(super) struct MemoryEvents {
    pub(super) connection: Arc<Connection>,
    pub(super) pipeline: String,
}

#[async_trait]
impl Feed for MemoryEvents {
    async fn next(&mut self) -> Result<Vec<u8>> {
        self.connection.wait_for(|state| state.next_event(&self.pipeline)).await
    }
}

#[derive(Debug)]
pub(super) struct MemoryHold {
    pub(super) connection: Arc<Connection>,
    pub(super) pipeline: String,
    pub(super) term: u64,
}

#[async_trait]
impl Hold for MemoryHold {
    async fn lost(&self) {
        // An error means that the connection was closed, which ends the leadership too.
        let _closed =
            self.connection.wait_for(|state| (!state.leads(&self.pipeline, self.term)).then_some(())).await;
    }

    async fn release(self: Box<Self>) {
        drop(self);
    }
}

impl Drop for MemoryHold {
    fn drop(&mut self) {
        let _closed = self.connection.with(|state| state.resign(&self.pipeline, self.term));
    }
}
