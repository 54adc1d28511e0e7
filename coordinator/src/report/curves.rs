//! Learning curves of one dataset's cells.

use std::collections::HashMap;

use metad2a_database::tables::{CandidateRow, CurveRow};
use serde::Serialize;

use super::tables::Tables;

/// The epochs of one training: validation accuracies in [0, 1].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Curve {
    pub(crate) arch_index: i64,
    /// `chosen` or `random`.
    pub(crate) role: String,
    /// Place within the role, from 1.
    pub(crate) rank: i64,
    /// Epoch, from 1, and accuracy; only validated epochs.
    pub(crate) points: Vec<(i64, f64)>,
}

/// The curves of the measured cells of a search: the chosen by rank, then the random ones.
pub(crate) fn of_search(tables: &Tables, search_id: &str) -> Vec<Curve> {
    let trained = |row: &&CandidateRow| row.search_id == search_id && row.unit_id.is_some();
    let measured: Vec<&CandidateRow> = tables.candidates.iter().filter(trained).collect();
    let units = measured.iter().filter_map(|row| row.unit_id.as_deref());
    let mut by_unit: HashMap<&str, Vec<&CurveRow>> = units.map(|unit| (unit, Vec::new())).collect();
    for row in &tables.curves {
        if let Some(rows) = by_unit.get_mut(row.unit_id.as_str()) {
            rows.push(row);
        }
    }
    let mut curves: Vec<Curve> = measured
        .iter()
        .map(|row| {
            let epochs = row.unit_id.as_deref().and_then(|unit| by_unit.get(unit));
            let epochs = epochs.map(Vec::as_slice).unwrap_or_default();
            let mut points: Vec<(i64, f64)> =
                epochs.iter().filter_map(|epoch| Some((epoch.epoch, epoch.valid_accuracy?))).collect();
            points.sort_by_key(|point| point.0);
            Curve { arch_index: row.arch_index, role: row.role.clone(), rank: row.rank, points }
        })
        .filter(|curve| !curve.points.is_empty())
        .collect();
    curves.sort_by(|a, b| a.role.cmp(&b.role).then(a.rank.cmp(&b.rank)));
    curves
}
