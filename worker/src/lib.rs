//! The worker: a supervisor that speaks to queue and store, and one compute process per slot that does the work.
//!
//! ```text
//!            take / publish / ack            Order, one JSON line
//!   queue ◄───────────────────► supervisor ────────────────────► compute process ──► data files ─┐
//!                                │   ▲                            (tensors, one thread)           ▼
//!        marker, checkpoint, decision└──────────────────────────────────┘                       store
//!                                ▼        Report: progress, pause, outcome
//!                              store
//! ```
//!
//! The supervisor holds no tensors, so nothing that a task does can take it down: a compute process that dies, hangs
//! or runs out of memory is one failed *attempt*, and the next task gets a fresh process. A lost supervisor, machine
//! or connection is no attempt: the queue gives the message to somebody else.
//!
//! **Invariant:** data first, marker second, acknowledgement last. Whatever dies between two of these, the task is
//! done again or found done, never lost and never counted twice.

pub mod attempts;
pub mod cli;
pub mod compute;
pub mod device;
pub mod protocol;
pub mod slices;
pub mod supervisor;
