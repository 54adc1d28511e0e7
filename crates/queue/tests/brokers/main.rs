//! What only a real RabbitMQ can do to its clients: die, refuse, time out, take queues away.
//!
//! Tests that kill or reconfigure a broker have one of their own, so that none breaks its neighbours;
//! `.config/nextest.toml` runs them one at a time, for a broker needs memory and seconds to start.

#![expect(clippy::unwrap_used, reason = "a failed call fails the test")]

mod broker;
mod faults;
mod restarts;
mod start;
mod tls;
