//! A queue that misbehaves on purpose, within the contract, by a plan that a seed repeats.
//!
//! It wraps any other queue and does what networks and brokers do: it fails calls before or after their effect,
//! gives messages twice, loses acknowledgements, and delays. Whoever survives it survives a real one.
//! The decision of the n-th call is a function of (seed, n); which call is the n-th may depend on the scheduler.
//!
//! Deliberately absent: anything the contract forbids. It loses no message, and confirms nothing that is not stored.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use metad2a_randomness::{Key, Stream};

use crate::{Delivery, Error, Events, Lane, Leadership, Message, Notices, Queue, Result, Subscription};

/// How often each thing goes wrong, as probabilities in [0, 1].
#[derive(Clone, Debug)]
pub struct Faults {
    /// Seeds the plan.
    pub seed: u64,
    /// A call fails before it had any effect.
    pub fail_before: f64,
    /// A call fails although it took effect. For a batch: perhaps only its first part did.
    pub fail_after: f64,
    /// A message is given once more after it was acknowledged.
    pub duplicate: f64,
    /// An acknowledgement reports success or staleness, but the message comes again.
    pub lose_acknowledgement: f64,
    /// A call waits before it starts, for a time up to `longest_delay`.
    pub delay: f64,
    pub longest_delay: Duration,
}

impl Faults {
    /// Nothing goes wrong.
    pub fn none(seed: u64) -> Self {
        Self {
            seed,
            fail_before: 0.0,
            fail_after: 0.0,
            duplicate: 0.0,
            lose_acknowledgement: 0.0,
            delay: 0.0,
            longest_delay: Duration::ZERO,
        }
    }

    /// Much goes wrong, and still all work gets done soon.
    pub fn rough(seed: u64) -> Self {
        Self {
            seed,
            fail_before: 0.1,
            fail_after: 0.1,
            duplicate: 0.1,
            lose_acknowledgement: 0.1,
            delay: 0.2,
            longest_delay: Duration::from_millis(5),
        }
    }
}

/// A queue around another that misbehaves within the contract.
#[derive(Debug)]
pub struct UnreliableQueue {
    inner: Arc<dyn Queue>,
    plan: Arc<Plan>,
}

impl UnreliableQueue {
    pub fn new(inner: Arc<dyn Queue>, faults: Faults) -> Self {
        let key = Key::new(&faults.seed.to_string(), "queue faults");
        Self { inner, plan: Arc::new(Plan { faults, key, calls: AtomicU64::new(0) }) }
    }
}

#[derive(Debug)]
struct Plan {
    faults: Faults,
    key: Key,
    calls: AtomicU64,
}

impl Plan {
    fn next(&self) -> Stream {
        self.key.stream(self.calls.fetch_add(1, Ordering::Relaxed))
    }

    /// What happens before a call: perhaps a wait, perhaps a failure.
    async fn before(&self, call: &mut Stream) -> Result<()> {
        if call.chance(self.faults.delay) {
            tokio::time::sleep(self.faults.longest_delay.mul_f64(call.uniform())).await;
        }
        if call.chance(self.faults.fail_before) {
            return Err(Error::Injected { what: "the call failed before its effect" });
        }
        Ok(())
    }

    fn after(&self, call: &mut Stream) -> Result<()> {
        if call.chance(self.faults.fail_after) {
            return Err(Error::Injected { what: "the call failed after its effect" });
        }
        Ok(())
    }

    /// Surrounds a call whose repetition is harmless.
    async fn around<T: Send>(&self, call: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let mut fate = self.next();
        self.before(&mut fate).await?;
        let result = call.await?;
        self.after(&mut fate)?;
        Ok(result)
    }
}

#[async_trait]
impl Queue for UnreliableQueue {
    async fn publish(&self, lane: &Lane, messages: &[Message]) -> Result<()> {
        let mut fate = self.plan.next();
        self.plan.before(&mut fate).await?;
        if fate.chance(self.plan.faults.fail_after) {
            // The connection broke somewhere in the batch. All limits are checked before anything is sent.
            Message::check_all(messages)?;
            let part = fate.below(messages.len() + 1);
            self.inner.publish(lane, &messages[..part]).await?;
            return Err(Error::Injected { what: "the connection broke while publishing" });
        }
        self.inner.publish(lane, messages).await
    }

    async fn subscribe(&self, lanes: &[Lane]) -> Result<Box<dyn Subscription>> {
        let inner = self.inner.subscribe(lanes).await?;
        Ok(Box::new(UnreliableSubscription { inner, plan: Arc::clone(&self.plan), again: Arc::default() }))
    }

    async fn ready(&self, lane: &Lane) -> Result<u64> {
        self.plan.around(self.inner.ready(lane)).await
    }

    async fn purge(&self, lane: &Lane) -> Result<u64> {
        self.plan.around(self.inner.purge(lane)).await
    }

    async fn broadcast(&self, pipeline: &str, notice: &[u8]) -> Result<()> {
        self.plan.around(self.inner.broadcast(pipeline, notice)).await
    }

    async fn listen(&self, pipeline: &str) -> Result<Notices> {
        self.inner.listen(pipeline).await
    }

    async fn emit(&self, pipeline: &str, event: &[u8]) -> Result<()> {
        self.plan.around(self.inner.emit(pipeline, event)).await
    }

    async fn events(&self, pipeline: &str) -> Result<Events> {
        self.inner.events(pipeline).await
    }

    async fn dead_letters(&self, pipeline: &str) -> Result<u64> {
        self.plan.around(self.inner.dead_letters(pipeline)).await
    }

    async fn purge_dead_letters(&self, pipeline: &str) -> Result<u64> {
        self.plan.around(self.inner.purge_dead_letters(pipeline)).await
    }

    async fn lead(&self, pipeline: &str, holder: &str) -> Result<Leadership> {
        self.inner.lead(pipeline, holder).await
    }

    async fn leader(&self, pipeline: &str) -> Result<Option<String>> {
        self.inner.leader(pipeline).await
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

/// Messages that this subscription will give again although they are gone from the queue.
type Again = Arc<Mutex<VecDeque<Message>>>;

#[derive(Debug)]
struct UnreliableSubscription {
    inner: Box<dyn Subscription>,
    plan: Arc<Plan>,
    again: Again,
}

#[async_trait]
impl Subscription for UnreliableSubscription {
    async fn take(&mut self) -> Result<Box<dyn Delivery>> {
        let mut fate = self.plan.next();
        self.plan.before(&mut fate).await?;
        let again = self.again.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        if let Some(message) = again {
            return Ok(Box::new(Repeated { message }));
        }
        let inner = self.inner.take().await?;
        if fate.chance(self.plan.faults.fail_after) {
            // The connection broke with the message in hand: dropping it gives it back.
            drop(inner);
            return Err(Error::Injected { what: "the connection broke while taking" });
        }
        Ok(Box::new(UnreliableDelivery {
            inner,
            fate,
            plan: Arc::clone(&self.plan),
            again: Arc::clone(&self.again),
        }))
    }
}

#[derive(Debug)]
struct UnreliableDelivery {
    inner: Box<dyn Delivery>,
    fate: Stream,
    plan: Arc<Plan>,
    again: Again,
}

#[async_trait]
impl Delivery for UnreliableDelivery {
    fn message(&self) -> &Message {
        self.inner.message()
    }

    fn redelivered(&self) -> bool {
        self.inner.redelivered()
    }

    async fn acknowledge(mut self: Box<Self>) -> Result<bool> {
        let faults = &self.plan.faults;
        self.plan.before(&mut self.fate).await?;
        if self.fate.chance(faults.lose_acknowledgement) {
            // As when the answer is written to a connection that breaks: it looks done, and is not.
            self.inner.give_back().await?;
            return Ok(self.fate.chance(0.5));
        }
        if self.fate.chance(faults.duplicate) {
            let message = self.inner.message().clone();
            self.again.lock().unwrap_or_else(PoisonError::into_inner).push_back(message);
        }
        let result = self.inner.acknowledge().await?;
        self.plan.after(&mut self.fate)?;
        Ok(result)
    }

    async fn give_back(self: Box<Self>) -> Result<bool> {
        self.plan.around(self.inner.give_back()).await
    }

    async fn dead_letter(self: Box<Self>) -> Result<bool> {
        self.plan.around(self.inner.dead_letter()).await
    }
}

/// A second giving of a message that was acknowledged: nothing that happens to it matters any more.
#[derive(Debug)]
struct Repeated {
    message: Message,
}

#[async_trait]
impl Delivery for Repeated {
    fn message(&self) -> &Message {
        &self.message
    }

    fn redelivered(&self) -> bool {
        true
    }

    async fn acknowledge(self: Box<Self>) -> Result<bool> {
        Ok(false)
    }

    async fn give_back(self: Box<Self>) -> Result<bool> {
        Ok(false)
    }

    async fn dead_letter(self: Box<Self>) -> Result<bool> {
        Ok(false)
    }
}
