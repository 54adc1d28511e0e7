//! Hands tasks from the coordinator to the workers, and small news between them.
//!
//! ```text
//!  coordinator ──publish──► lane ──take──► worker ──acknowledge──► gone
//!                            ▲               │  │
//!                            └──give back────┘  └──dead letter──► dead letters
//!              ──broadcast──► every listener (notices)
//!              ◄────events─── bounded, may drop the oldest ◄──emit── worker
//! ```
//!
//! # The contract
//!
//! Every back-end keeps these promises; one conformance suite checks them all.
//!
//! 1. **Confirmed.** When [`Queue::publish`] returns `Ok`, every message is stored as durably as the back-end can.
//!    When it fails, any part of the batch may be stored: publish the same messages again, under the same ids.
//! 2. **At least once.** A message is given to one taker at a time. It leaves the queue only by
//!    [`Delivery::acknowledge`] or [`Delivery::dead_letter`] (or [`Queue::purge`]). Whatever else happens to
//!    the taker (a crash, a lost connection, a dropped [`Delivery`]), the message is given again.
//!    A message may therefore be given twice, and its effects must be safe to repeat.
//! 3. **Redelivered.** [`Delivery::redelivered`] is true when the message may have been given out before.
//!    It can be true for a message that nobody has worked on.
//! 4. **No look-ahead.** A subscription reserves at most the one message that its next [`Subscription::take`]
//!    will return. Lanes are asked in the order in which they were named, so put the urgent ones first.
//!    Within a lane the order is first in, first out, until something is given back; then nothing is promised.
//! 5. **Stale answers are visible.** Acknowledging a delivery that is no longer ours (its lease ended, its
//!    connection was lost) returns `Ok(false)`: the message is, or will be, given to someone again.
//! 6. **Notices and events are hints.** A notice reaches those who listen at that moment. An event waits in a
//!    bounded buffer (the newest [`EVENT_CAPACITY`]) and is given to one reader, at most once.
//! 7. **One leader.** [`Queue::lead`] is held by at most one holder of a pipeline, and ends with its process.
//!    It serves liveness only: nothing may rely on it for safety.
//!
//! # Deliberately absent
//!
//! No look-up, listing, or delete of single messages, no priorities within a lane, no delays, no deduplication:
//! AMQP cannot do them everywhere, and the store (not the queue) is the truth about what exists.
//!
//! # Back-ends
//!
//! | address | back-end | meant for |
//! |---|---|---|
//! | `sqlite:PATH` | [`SqliteQueue`] | one machine, several processes, a local disk |
//! | `amqp://…`, `amqps://…` | [`RabbitQueue`] | a cluster |
//! | `memory:NAME` | [`MemoryQueue`] | one process; tests |
//! | `unreliable:SEED:ADDRESS` | [`UnreliableQueue`] around another | tests of whole systems |

mod address;
mod contract;
mod error;
mod feed;
mod lane;
mod leadership;
mod memory;
mod message;
mod rabbitmq;
mod sqlite;
mod trace;
mod unreliable;

use std::{sync::Arc, time::Duration};

pub use address::{Address, Redacted};
pub use contract::{Delivery, Queue, Subscription};
pub use error::{Error, Result};
pub use feed::{Events, Notices};
pub use lane::{Class, Lane, PROTOCOL, Urgency};
pub use leadership::{LeaderGuard, Leadership};
pub use memory::MemoryQueue;
pub use message::{LARGEST_BODY, Message};
pub use rabbitmq::{BrokerVersion, RabbitAccess, RabbitOptions, RabbitQueue};
pub use sqlite::{SqliteOptions, SqliteQueue};
pub use trace::{NoTraceContext, TRACEPARENT, TraceContext};
pub use unreliable::{Faults, UnreliableQueue};

/// How many events of a pipeline are kept for a reader; older ones are dropped.
pub const EVENT_CAPACITY: u32 = 10_000;

/// Opens the queue at an address (see the table of back-ends).
///
/// What an `amqp` or `amqps` address leaves out comes from the variables of [`RabbitAccess::from_environment`].
pub async fn open(url: &str) -> Result<Arc<dyn Queue>> {
    open_address(url.parse()?, RabbitOptions::default()).await
}

/// As [`open`], for a taker that keeps deliveries unanswered for up to `longest_hold`: warns where the broker is known to
/// grant less.
pub async fn open_for(url: &str, longest_hold: Duration) -> Result<Arc<dyn Queue>> {
    let options = RabbitOptions { longest_hold: Some(longest_hold), ..RabbitOptions::default() };
    open_address(url.parse()?, options).await
}

async fn open_address(address: Address, options: RabbitOptions) -> Result<Arc<dyn Queue>> {
    Ok(match address {
        Address::Sqlite(path) => Arc::new(SqliteQueue::open(&path, SqliteOptions::default()).await?),
        Address::Amqp(url) => {
            Arc::new(RabbitQueue::connect(url, options, &RabbitAccess::from_environment()).await?)
        }
        Address::Memory(name) => Arc::new(MemoryQueue::open(&name)),
        Address::Unreliable { seed, inner } => {
            let inner = Box::pin(open_address(*inner, options)).await?;
            Arc::new(UnreliableQueue::new(inner, Faults::rough(seed)))
        }
    })
}
