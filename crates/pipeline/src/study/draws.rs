//! The keyed draws of a study: groups of classes, classes of a dataset, cells of a dataset. Pure.
//!
//! A pipeline grows: sources come, classes come, counts are raised. **Invariant:** no draw depends on what else there
//! is. A dataset is drawn from its own source alone, its cells are keyed by its own id (or by its block,
//! where datasets share cells), and whatever is drawn for a
//! small count is drawn for a larger one too. So what was computed once stays a part of every larger study.

use metad2a_randomness::Key;
use metad2a_search_space::{Cell, Operation};

use super::IndexedSource;
use crate::ids::content_id;
use crate::specification::{ClassShares, DatasetKind, Evaluations};
use crate::training_set::Group;

/// The labels of `group`, ascending. Classes are ranked by a hash of their names alone: pictures that come move no
/// class to another group, and a class that comes moves at most the few at the borders of the groups.
pub(super) fn classes_of(group: Group, source: &IndexedSource, shares: ClassShares) -> Vec<u32> {
    let mut ranked: Vec<(String, u32)> =
        source.classes.iter().map(|(label, name)| (content_id("class group", 1, name), *label)).collect();
    ranked.sort_unstable();
    let labels: Vec<u32> = ranked.into_iter().map(|(_, label)| label).collect();
    let valid = (labels.len() as f64 * shares.valid).round() as usize;
    let test = (labels.len() as f64 * shares.test).round() as usize;
    let valid = valid.min(labels.len() - test.min(labels.len()));
    let mut chosen = match group {
        Group::MetaTest => labels[..test].to_vec(),
        Group::MetaValid => labels[test..test + valid].to_vec(),
        Group::MetaTrain | Group::Target => labels[test + valid..].to_vec(),
    };
    chosen.sort_unstable();
    chosen
}

/// The classes of dataset `number` of a kind, drawn from the group's classes of one source. A kind is keyed by its name,
/// never by its place in the file.
pub(super) fn classes_of_dataset(
    seed: u64,
    group: Group,
    number: u32,
    pool: &[u32],
    wanted: &DatasetKind,
) -> Vec<u32> {
    let purpose = match &wanted.name {
        Some(kind) => format!("datasets of {}/{kind}", group.name()),
        None => format!("datasets of {}", group.name()),
    };
    let key = Key::new(&seed.to_string(), &purpose);
    let mut stream = key.stream(number.into());
    let most = pool.len().min(wanted.most_classes as usize);
    let least = wanted.least_classes as usize;
    let amount = least + stream.below(most - least + 1);
    let mut drawn = stream.sample(pool, amount);
    drawn.sort_unstable();
    drawn
}

/// Every cell that may be trained, in the order in which anchors are taken.
pub(super) struct CellPool {
    seed: u64,
    cells: Vec<Cell>,
    /// Beside each cell: has it two or more live 3x3 convolutions?
    is_strong: Vec<bool>,
}

impl CellPool {
    pub(super) fn new(seed: u64) -> Self {
        let mut cells: Vec<Cell> =
            Cell::all().filter(|cell| !cell.is_always_zero() && cell.representative() == *cell).collect();
        Key::new(&seed.to_string(), "anchors").stream(0).shuffle(&mut cells);
        let is_strong = cells.iter().map(|cell| live_3x3(*cell) >= 2).collect();
        Self { seed, cells, is_strong }
    }

    /// The cells to be trained on a dataset in the first wave: the anchors, then its own or those of its block, as `key`
    /// says. Every raise of a count only adds cells.
    pub(super) fn of_dataset(&self, key: &str, choice: &Evaluations) -> Vec<Cell> {
        let anchors = self.cells.len().min(choice.anchors as usize);
        let key = Key::new(&format!("{}/{key}", self.seed), "cells");
        let mut order = key.stream(0).permutation(self.cells.len());
        // The anchors are the first of the pool.
        order.retain(|place| *place >= anchors);
        let wanted = (choice.cells_per_dataset - choice.cells_around_best()) as usize;
        let with_3x3 = (f64::from(choice.cells_per_dataset) * choice.with_live_3x3).round() as usize;
        let strong: Vec<usize> =
            order.iter().copied().filter(|place| self.is_strong[*place]).take(with_3x3).collect();
        let mut taken = strong.len();
        order.retain(|place| {
            let is_taken = taken > 0 && self.is_strong[*place];
            taken -= usize::from(is_taken);
            !is_taken
        });
        order.truncate(wanted - strong.len());
        (0..anchors).chain(strong).chain(order).map(|place| self.cells[place]).collect()
    }
}

fn live_3x3(cell: Cell) -> usize {
    let live = cell.live_edges();
    let edges = cell.operations().into_iter().zip(live);
    edges.filter(|(operation, live)| *live && *operation == Operation::NorConv3x3).count()
}
