//! What a search found, as points of its pictures.

use metad2a_search_space::{ArchIndex, Cell};
use serde::Serialize;

use super::curves::{Curve, of_search};
use super::outcome::{CellReport, DatasetReport};
use super::statistics::{pareto_front, spearman};
use super::tables::Tables;

/// A searched dataset, with what its pictures show.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Target {
    pub(crate) outcome: DatasetReport,
    /// Every ranked cell, best first.
    pub(crate) ranked: Vec<Ranked>,
    /// Places in `ranked`, cheapest first: predicted accuracy against multiply-adds.
    pub(crate) predicted_front: Vec<usize>,
    /// Cells with a test accuracy, the chosen first.
    pub(crate) measured: Vec<Measured>,
    /// Places in `measured`, cheapest first: test accuracy against multiply-adds.
    pub(crate) measured_front: Vec<usize>,
    /// Rank correlation of predicted and measured accuracy over the measured cells that were ranked too.
    pub(crate) spearman: Option<f64>,
    pub(crate) curves: Vec<Curve>,
}

/// A cell that the predictor ranked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Ranked {
    pub(crate) arch_index: i64,
    pub(crate) predicted_accuracy: f64,
    pub(crate) params: i64,
    pub(crate) flops: i64,
    /// Whether it was trained.
    pub(crate) chosen: bool,
}

/// A cell that was trained on the dataset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Measured {
    pub(crate) arch_index: i64,
    pub(crate) chosen: bool,
    /// Place within its role, from 1.
    pub(crate) rank: usize,
    /// Also of a random cell, where the search ranked one that computes the same function.
    pub(crate) predicted_accuracy: Option<f64>,
    pub(crate) test_accuracy: f64,
    pub(crate) flops: i64,
}

impl Target {
    pub(crate) fn new(tables: &Tables, outcome: DatasetReport) -> Self {
        let rows = tables.candidates.iter().filter(|row| row.search_id == outcome.search_id);
        let mut ranked: Vec<Ranked> = rows
            .filter_map(|row| {
                Some(Ranked {
                    arch_index: row.arch_index,
                    predicted_accuracy: row.predicted_accuracy?,
                    params: row.params,
                    flops: row.flops,
                    chosen: row.role == "chosen",
                })
            })
            .collect();
        ranked.sort_by(|a, b| b.predicted_accuracy.total_cmp(&a.predicted_accuracy));
        let chosen = outcome.chosen.iter().enumerate().map(|cell| (true, cell));
        let random = outcome.random.iter().enumerate().map(|cell| (false, cell));
        let measured: Vec<Measured> = chosen
            .chain(random)
            .filter_map(|(chosen, (place, cell))| measured(&ranked, cell, chosen, place + 1))
            .collect();
        let costs = |cells: &[(i64, f64)]| {
            pareto_front(&cells.iter().map(|(flops, gain)| (*flops as f64, *gain)).collect::<Vec<_>>())
        };
        let pairs: Vec<(f64, f64)> =
            measured.iter().filter_map(|cell| Some((cell.predicted_accuracy?, cell.test_accuracy))).collect();
        Self {
            predicted_front: costs(
                &ranked.iter().map(|cell| (cell.flops, cell.predicted_accuracy)).collect::<Vec<_>>(),
            ),
            measured_front: costs(
                &measured.iter().map(|cell| (cell.flops, cell.test_accuracy)).collect::<Vec<_>>(),
            ),
            spearman: spearman(&pairs),
            curves: of_search(tables, &outcome.search_id),
            ranked,
            measured,
            outcome,
        }
    }

    /// Test accuracy of the chosen less that of the random cells, in the mean.
    pub(crate) fn difference(&self) -> Option<f64> {
        Some(self.outcome.chosen_test_accuracy? - self.outcome.random_test_accuracy?)
    }
}

fn measured(ranked: &[Ranked], cell: &CellReport, chosen: bool, rank: usize) -> Option<Measured> {
    let class = representative(cell.arch_index);
    let same = ranked.iter().find(|other| representative(other.arch_index) == class);
    Some(Measured {
        arch_index: cell.arch_index,
        chosen,
        rank,
        predicted_accuracy: cell.predicted_accuracy.or(same.map(|same| same.predicted_accuracy)),
        test_accuracy: cell.test_accuracy?,
        flops: cell.flops,
    })
}

/// The number of the cell that is trained for this one.
pub(super) fn representative(arch_index: i64) -> Option<ArchIndex> {
    let index = ArchIndex::try_from(u32::try_from(arch_index).ok()?).ok()?;
    Some(Cell::from_index(index).representative().index())
}
