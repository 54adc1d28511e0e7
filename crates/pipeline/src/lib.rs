//! What a pipeline is and what is to be done next: specification, tasks, ids, study and planner.
//!
//! ```text
//!   pipeline.yaml ─► specification ─► study ─┐
//!                                            ├─► planner ─► tasks to enqueue, choices to freeze, rounds to merge
//!   markers, decisions (what exists) ────────┘
//! ```
//!
//! **Invariant:** nothing here does I/O, reads a clock or draws a random number that is not keyed. The shells in the
//! coordinator and the worker list the store, call this crate, and do what it says.

pub mod around_best;
pub mod envelope;
pub mod halving;
pub mod ids;
pub mod imports;
pub mod labels;
pub mod model_gate;
pub mod planner;
pub mod rounds;
pub mod source_changes;
pub mod specification;
pub mod study;
pub mod tasks;
pub mod training_set;
pub mod verdict;
