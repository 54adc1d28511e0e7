//! What can be done with a table known only by its name.

use bytes::Bytes;
use serde::Serialize;

use crate::compare::{Fingerprint, fingerprints};
use crate::publish::{Inspection, inspect};
use crate::tables::{
    ArchitectureRow, CandidateRow, CurveRow, DatasetRow, EvaluationRow, FeatureRow, LatencyRow, ModelRow,
    RunRow, SearchRow, TrainingMetricRow,
};
use crate::{Error, NamedFile, Result, Table, TableRow, merge, tables};

/// The functions of one table's row type.
pub(crate) struct TableOperations {
    pub(crate) name: &'static str,
    pub(crate) table: fn() -> &'static Table,
    pub(crate) merge: fn(&[NamedFile]) -> Result<(Bytes, u64)>,
    pub(crate) inspect: fn(&mut Inspection, &str, Bytes) -> Result<u64>,
    pub(crate) fingerprints: fn(&str, Bytes) -> Result<Vec<Fingerprint>>,
}

const fn of<T: TableRow + Serialize>() -> TableOperations {
    TableOperations {
        name: T::NAME,
        table: T::table,
        merge: merge::<T>,
        inspect: inspect::<T>,
        fingerprints: fingerprints::<T>,
    }
}

static REGISTRY: [TableOperations; 11] = [
    of::<DatasetRow>(),
    of::<ArchitectureRow>(),
    of::<EvaluationRow>(),
    of::<CurveRow>(),
    of::<FeatureRow>(),
    of::<LatencyRow>(),
    of::<ModelRow>(),
    of::<TrainingMetricRow>(),
    of::<SearchRow>(),
    of::<CandidateRow>(),
    of::<RunRow>(),
];

/// Every table, in the order of the data dictionary.
pub(crate) fn tables() -> [&'static Table; 11] {
    REGISTRY.each_ref().map(|operations| (operations.table)())
}

/// The functions of the table of this name.
pub(crate) fn operations(name: &str) -> Result<&'static TableOperations> {
    REGISTRY.iter().find(|operations| operations.name == name).ok_or_else(|| Error::Invalid {
        what: format!("table `{name}`"),
        rule: format!("must be one of {}", tables::all().map(|table| format!("`{}`", table.name)).join(", ")),
    })
}
