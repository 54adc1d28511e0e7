//! The traits. The promises that hold for all of them together are in the crate's page.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::{Events, Lane, Leadership, Message, Notices, Result};

/// A connection to one queue service. All methods may be called from many tasks at once.
#[async_trait]
pub trait Queue: Debug + Send + Sync {
    /// Stores messages in a lane, in this order, and returns when all are confirmed.
    ///
    /// A message over the limits is refused before anything is sent. After any other error a part of the
    /// batch may be stored; publishing the whole batch again is right.
    async fn publish(&self, lane: &Lane, messages: &[Message]) -> Result<()>;

    /// Prepares to take from these lanes, the first ones first.
    async fn subscribe(&self, lanes: &[Lane]) -> Result<Box<dyn Subscription>>;

    /// How many messages wait in the lane; those that are given out do not count.
    async fn ready(&self, lane: &Lane) -> Result<u64>;

    /// Removes the messages that wait in the lane and says how many; those that are given out stay.
    async fn purge(&self, lane: &Lane) -> Result<u64>;

    /// Sends a notice to all who listen to the pipeline now. Nobody listening is no error.
    async fn broadcast(&self, pipeline: &str, notice: &[u8]) -> Result<()>;

    /// Listens from the moment of its return.
    async fn listen(&self, pipeline: &str) -> Result<Notices>;

    /// Adds an event to the pipeline's bounded buffer.
    async fn emit(&self, pipeline: &str, event: &[u8]) -> Result<()>;

    /// Reads the buffer of events, from the oldest that is still there.
    async fn events(&self, pipeline: &str) -> Result<Events>;

    /// How many messages were put aside for good.
    async fn dead_letters(&self, pipeline: &str) -> Result<u64>;

    /// Removes the dead letters and says how many.
    async fn purge_dead_letters(&self, pipeline: &str) -> Result<u64>;

    /// Becomes the leader of the pipeline, or learns who is. `holder` is a name for people: host, process, start.
    async fn lead(&self, pipeline: &str, holder: &str) -> Result<Leadership>;

    /// The name that the pipeline's present leader gave, or none where nobody leads. Disturbs no leadership.
    async fn leader(&self, pipeline: &str) -> Result<Option<String>>;

    /// Gives back everything that this connection took, and ends its leaderships. Calls afterwards return
    /// [`Error::Closed`](crate::Error::Closed). A program must call this before it ends: without it, messages
    /// come back only when the lease ends or the broker notices.
    async fn close(&self) -> Result<()>;
}

/// A place in the line of takers.
#[async_trait]
pub trait Subscription: Debug + Send {
    /// Waits for a message. Back-ends that lost their connection reconnect here.
    ///
    /// Cancel safe: a dropped future loses nothing. At most one message may stay reserved for the next `take`;
    /// dropping the subscription gives it back. Deliveries outlive the subscription.
    async fn take(&mut self) -> Result<Box<dyn Delivery>>;
}

/// A message that is ours for now. Dropping it gives it back, at once or when its lease ends.
#[async_trait]
pub trait Delivery: Debug + Send + Sync {
    fn message(&self) -> &Message;

    /// Whether the message may have been given out before.
    fn redelivered(&self) -> bool;

    /// Removes the message for good. `Ok(false)`: it was no longer ours, and will be given again.
    async fn acknowledge(self: Box<Self>) -> Result<bool>;

    /// Returns the message to its lane for anyone, unworked. `Ok(false)`: it was no longer ours.
    async fn give_back(self: Box<Self>) -> Result<bool>;

    /// Moves the message to the pipeline's dead letters. `Ok(false)`: it was no longer ours.
    async fn dead_letter(self: Box<Self>) -> Result<bool>;
}
