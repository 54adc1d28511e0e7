//! Cells around what is good: a step of local search from the best cells that the meta-training datasets know. Pure.
//!
//! ```text
//!   rows of the meta-training datasets ─► mean ranks ─► parents ─► children, keyed by dataset or block
//! ```
//!
//! **Invariants.** Rows of other groups are not asked for. A child differs from a parent in one operation, is the
//! representative of its class, never always zero, and new to its datasets. The same rows give the same cells.
//! The choice depends on results, so it is frozen before it is used: see `planner::around_best`.

use std::collections::{BTreeMap, BTreeSet};

use metad2a_randomness::Key;
use metad2a_search_space::{Cell, EDGE_COUNT, Operation};

/// One training on a meta-training dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// Id of the dataset.
    pub dataset: String,
    pub cell: Cell,
    /// Mean training loss of the last epochs; none where the training came to nothing.
    pub fit_loss: Option<f64>,
}

/// The best share `top` of all cells, at least one of them, the best first: by the mean over datasets of their ranks by
/// training loss within each. A cell's seeds are averaged. None where no training has a loss.
pub fn parents(rows: &[Trained], top: f64) -> Vec<Cell> {
    let mut datasets: BTreeMap<&str, BTreeMap<Cell, Vec<f64>>> = BTreeMap::new();
    for row in rows {
        let losses = datasets.entry(&row.dataset).or_default().entry(row.cell).or_default();
        // A training that came to nothing is worse than any other.
        losses.push(row.fit_loss.filter(|loss| loss.is_finite()).unwrap_or(f64::INFINITY));
    }
    let mut ranks: BTreeMap<Cell, Vec<f64>> = BTreeMap::new();
    for cells in datasets.into_values() {
        let mean = |losses: &Vec<f64>| losses.iter().sum::<f64>() / losses.len() as f64;
        let losses: Vec<(Cell, f64)> = cells.iter().map(|(cell, losses)| (*cell, mean(losses))).collect();
        // A lone cell has no rank.
        let others = losses.len().saturating_sub(1);
        for (cell, loss) in losses.iter().filter(|(_, loss)| loss.is_finite() && others > 0) {
            let worse = losses.iter().filter(|(_, other)| other > loss).count() as f64;
            let equal = losses.iter().filter(|(_, other)| other.total_cmp(loss).is_eq()).count() as f64 - 1.0;
            ranks.entry(*cell).or_default().push((worse + equal / 2.0) / others as f64);
        }
    }
    let mut ranked: Vec<(f64, Cell)> = ranks
        .into_iter()
        .map(|(cell, ranks)| (ranks.iter().sum::<f64>() / ranks.len() as f64, cell))
        .collect();
    ranked.sort_by(|(rank, cell), (other, second)| other.total_cmp(rank).then(cell.cmp(second)));
    let amount = (ranked.len() as f64 * top).ceil() as usize;
    ranked.truncate(amount.max(1));
    ranked.into_iter().map(|(_, cell)| cell).collect()
}

/// `count` cells that differ from a parent in one operation and are not `taken`; fewer where there are fewer. Every
/// change of every parent has the same chance, so that a cell near several of them comes sooner.
pub fn children(parents: &[Cell], taken: &BTreeSet<Cell>, key: &Key, count: usize) -> Vec<Cell> {
    let mut changed: Vec<Cell> = Vec::new();
    for parent in parents {
        for edge in 0..EDGE_COUNT {
            for operation in Operation::ALL {
                let mut operations = parent.operations();
                operations[edge] = operation;
                let child = Cell::new(operations).representative();
                // An operation that the output never sees changes nothing.
                if child != *parent {
                    changed.push(child);
                }
            }
        }
    }
    changed.retain(|child| !child.is_always_zero() && !taken.contains(child));
    key.stream(0).shuffle(&mut changed);
    let mut seen = BTreeSet::new();
    changed.retain(|child| seen.insert(*child));
    changed.truncate(count);
    changed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cells() -> Vec<Cell> {
        Cell::all().filter(|cell| !cell.is_always_zero() && cell.representative() == *cell).collect()
    }

    fn row(dataset: &str, cell: Cell, fit_loss: impl Into<Option<f64>>) -> Trained {
        Trained { dataset: dataset.to_owned(), cell, fit_loss: fit_loss.into() }
    }

    #[test]
    fn parents_have_the_best_mean_rank_whatever_the_scale_of_a_datasets_losses() {
        let cells = cells();
        let [a, b, c, d] = [cells[10], cells[200], cells[3_000], cells[4_000]];
        let rows = [
            row("one", a, 3.0),
            row("one", b, 1.0),
            row("one", c, 2.0),
            row("one", d, None),
            row("two", a, 0.3),
            row("two", b, 0.2),
            row("two", c, 0.1),
            // Two seeds of a cell count as their mean.
            row("three", a, 0.1),
            row("three", a, 0.9),
            row("three", b, 0.2),
            row("three", d, f64::NAN),
        ];
        // b: 1, 1/2, 1; c: 2/3, 1; a: 1/3, 0, 1/2; d came to nothing.
        assert_eq!(parents(&rows, 1.0), [b, c, a]);
        assert_eq!(parents(&rows, 0.34), [b, c]);
        assert_eq!(parents(&rows, 0.01), [b], "one at least");
        let mut turned = rows.to_vec();
        turned.reverse();
        assert_eq!(parents(&turned, 1.0), parents(&rows, 1.0));
        assert_eq!(parents(&[row("one", a, None), row("one", b, None)], 1.0), []);
    }

    proptest! {
        #[test]
        fn children_are_one_step_from_a_parent_new_and_no_cell_twice(
            parents in prop::collection::btree_set(0..5_000_usize, 1..5),
            taken in prop::collection::btree_set(0..5_000_usize, 0..2_000),
            name in 0..1_000_u32,
            count in 0..40_usize,
        ) {
            let cells = cells();
            let pick = |places: &BTreeSet<usize>| -> Vec<Cell> {
                places.iter().map(|place| cells[place % cells.len()]).collect()
            };
            let (parents, taken) = (pick(&parents), pick(&taken).into_iter().collect::<BTreeSet<_>>());
            let key = Key::new(&name.to_string(), "test");
            let found = children(&parents, &taken, &key, count);
            prop_assert!(found.len() <= count);
            prop_assert_eq!(found.iter().collect::<BTreeSet<_>>().len(), found.len());
            for child in &found {
                prop_assert!(!child.is_always_zero() && child.representative() == *child && !taken.contains(child));
                // A child's class holds a cell that differs from a parent in one operation.
                let is_near = parents.iter().any(|parent| {
                    Cell::all().filter(|cell| cell.representative() == *child).any(|cell| {
                        let edges = cell.operations().into_iter().zip(parent.operations());
                        edges.filter(|(one, other)| one != other).count() == 1
                    })
                });
                prop_assert!(is_near, "{}", child);
            }
            // More asked for only adds, and the order of the parents says nothing of which there are.
            let more = children(&parents, &taken, &key, count + 1);
            prop_assert_eq!(&more[..found.len()], &found[..]);
            if more.len() < count + 1 {
                let all: BTreeSet<Cell> = children(&parents, &taken, &Key::new("other", "test"), 10_000).into_iter().collect();
                prop_assert_eq!(more.into_iter().collect::<BTreeSet<_>>(), all);
            }
        }
    }

    #[test]
    fn another_dataset_gets_other_children() {
        let parents = [cells()[1_234], cells()[4_321]];
        let of = |name: &str| children(&parents, &BTreeSet::new(), &Key::new(name, "test"), 8);
        assert_eq!(of("one").len(), 8);
        assert_ne!(of("one"), of("two"));
    }
}
