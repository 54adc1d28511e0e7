//! The tables that analysts see. Each is defined once, here: see the data dictionary in `docs/DATA.md`.
//!
//! Units stand in the column names; accuracies lie in [0, 1]; ids are stable; `arch_index` is the order of
//! NATS-Bench; seeds are rows, never averaged away.

mod evaluations;
mod latencies;
mod models;
pub(crate) mod registry;
mod searches;
mod sources;

use std::ops::RangeInclusive;

pub use evaluations::{COMPLETED, CurveRow, DIVERGED, EvaluationRow, FAILED, STOPPED};
pub use latencies::LatencyRow;
pub use models::{ModelRow, RunRow, TrainingMetricRow};
pub use searches::{CandidateRow, SearchRow};
pub use sources::{ArchitectureRow, DatasetRow, FeatureRow};

use crate::Table;

/// Of accuracies and other shares.
const SHARE: RangeInclusive<f64> = 0.0..=1.0;
/// Of counts, seconds and losses.
pub(crate) const NOT_NEGATIVE: RangeInclusive<f64> = 0.0..=f64::MAX;
/// Of counts that cannot be nothing.
const AT_LEAST_ONE: RangeInclusive<f64> = 1.0..=f64::MAX;
/// Of figures that may have either sign, but must be numbers.
const FINITE: RangeInclusive<f64> = f64::MIN..=f64::MAX;
/// Of indices of the 15,625 cells.
const ARCH_INDEX: RangeInclusive<f64> = 0.0..=15_624.0;

/// Every table, in the order of the data dictionary.
pub fn all() -> [&'static Table; 11] {
    registry::tables()
}
