//! The search space of NAS-Bench-201 as data: its 15,625 cells, their names, equivalences, costs and graphs.
//!
//! ```text
//!   "|nor_conv_3x3~0|+|…|"  ⇄  Cell  ⇄  ArchIndex (the benchmark's number, computed)
//!                               │
//!          ┌────────────────────┼──────────────────────┬──────────────────┐
//!   canonical_class(),    live_edges(),          parameters(),      graph(EdgeForm),
//!   representative(),     is_always_zero()       flops()            cell_of_graph()
//!   class(Level)
//! ```
//!
//! Everything here is a pure function of a cell. Tables over the whole space (the benchmark's numbering, the classes of
//! each [`Level`]) are computed once per process, at their first use, and never loaded from a file.
//!
//! **Invariants.** Every value of [`Cell`] is one of the 15,625 cells and every value of [`ArchIndex`] the number of
//! exactly one of them. A cell's text, number, class and costs never change between versions: rows and keys of the
//! database are built from them.
//!
//! Deliberately absent: accuracies (they belong to a data set and a recipe), latencies (they belong to a device),
//! libtorch, and any other search space.
//!
//! Sources: "NAS-Bench-201" (Dong and Yang, ICLR 2020) and "NATS-Bench" for cells, numbering and costs; `MetaD2A`
//! (Lee, Hyung and Hwang, ICLR 2021) for the graph form.

mod canonical;
mod cell;
mod classes;
mod codec;
mod cost;
pub mod graph;
mod index;
mod operation;
mod trained;

pub use canonical::Level;
pub use cell::{CELL_COUNT, Cell, EDGE_COUNT, EDGES};
pub use classes::{CanonicalId, Classes, classes};
pub use codec::CellError;
pub use cost::{MacroShape, flops, parameters};
pub use graph::EdgeForm;
pub use index::{ArchIndex, ArchIndexError};
pub use operation::{Operation, UnknownOperation};
