//! Tables from outside become rows of ours, and rows of ours become tables for others. Pure: bytes in, rows out.
//!
//! ```text
//!   CSV, Parquet, JSON ─► sheet ─► evaluations · features · latencies ─► rows of the database's tables
//!   what a person declares ────────┘                     └► or every problem at once: file, row, column, rule
//!
//!   rows of a snapshot ─► nats_bench ─► one row a cell, in the order of NATS-Bench
//! ```
//!
//! **Invariant:** a file is imported whole or not at all, and every imported row says where it comes from. Deliberately
//! absent: the store (the coordinator writes data first and the marker second), guesses of units, and pickled files.

mod cells;
mod datasets;
mod declaration;
mod evaluations;
mod features;
mod latencies;
mod nats_bench;
mod problems;
mod sheet;

pub use datasets::TaskClasses;
pub use declaration::{
    AccuracyUnit, DatasetDefinition, DatasetDefinitions, NetworkShape, Protocol, RowRange, Split,
    class_source_id, import_id,
};
pub use evaluations::{EvaluationsDeclaration, ImportedEvaluations, Stamp, evaluations};
pub use features::{FeaturesDeclaration, ImportedFeatures, features};
pub use latencies::{ImportedLatencies, LatenciesDeclaration, latencies};
pub use nats_bench::{CellTable, cell_table};
pub use problems::{Error, Problem};
pub use sheet::SourceFile;
