//! Which rows of a frozen training set models learn from.

use metad2a_database::tables::EvaluationRow;
use metad2a_pipeline::labels::Label;
use metad2a_pipeline::tasks::Kind;
use metad2a_pipeline::training_set::FrozenSet;
use metad2a_search_space::Cell;

use super::models::{commit, decide, evaluation, store_inputs, usual};
use super::*;

/// Rows that teach and rows that select, where a second task `other` holds the first unit of each dataset as a training
/// that was stopped early.
fn taught_beside(other: &str) -> [usize; 2] {
    let mut engine = engine(&format!("stopped beside {other}"));
    let mut set = store_inputs(&engine, usual);
    let cell = Cell::all().find(|cell| !cell.is_always_zero()).unwrap();
    let stopped = |dataset: &str, unit: &str| EvaluationRow {
        status: "stopped".into(),
        ..evaluation(unit, dataset, cell, Some(0.1))
    };
    let rows: Vec<EvaluationRow> =
        set.datasets.iter().map(|dataset| stopped(&dataset.id, &dataset.units[0])).collect();
    let file = engine.runtime.block_on(engine.store.put_rows("evaluations", &rows)).unwrap();
    commit(&engine, Kind::Evaluate, other, file);
    set.evaluations.push(other.to_owned());
    let id = set.id();
    decide(&engine, &id, &FrozenSet::Whole(set));
    let data = engine.training_data(&id, Label::ValidAccuracy).unwrap();
    [data.train.rows.len(), data.valid.rows.len()]
}

#[test]
fn a_stopped_training_teaches_nothing_and_of_two_rows_of_a_unit_that_of_the_smaller_task_counts() {
    // Three datasets of twelve units teach, and three select; the tasks' own id is `bundle-task`.
    assert_eq!(taught_beside("a-smaller-id"), [33, 33]);
    assert_eq!(taught_beside("the-larger-id"), [36, 36]);
}
