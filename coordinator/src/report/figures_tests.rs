use chrono::DateTime;
use metad2a_database::tables::{CandidateRow, CurveRow, DatasetRow, ModelRow, SearchRow, TrainingMetricRow};

use super::*;

const CELL: &str =
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|skip_connect~1|skip_connect~2|";

pub(crate) fn snapshot() -> Snapshot {
    Snapshot {
        pipeline: "small".to_owned(),
        number: 3,
        inputs_id: "inputs".to_owned(),
        execution_id: "e".to_owned(),
        published_at: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
        tables: BTreeMap::new(),
        imported_rows: BTreeMap::new(),
        models: BTreeMap::new(),
        sources: BTreeMap::new(),
        notes: Vec::new(),
        restored_from: None,
    }
}

fn dataset(id: &str, group: &str, labels: &[i64]) -> DatasetRow {
    DatasetRow {
        dataset_id: id.to_owned(),
        name: format!("{id}'s"),
        class_group: group.to_owned(),
        source: "clothes".to_owned(),
        class_labels: labels.to_vec(),
        classes: labels.len() as i64,
        test_pictures: 400,
        provenance: (group == "imported").then(|| "theirs".to_owned()),
        ..DatasetRow::default()
    }
}

fn training(unit: &str, dataset: &str, arch_index: i64, accuracy: f64) -> EvaluationRow {
    EvaluationRow {
        unit_id: unit.to_owned(),
        dataset_id: dataset.to_owned(),
        arch_index,
        recipe_id: "r".to_owned(),
        status: "completed".to_owned(),
        valid_accuracy: Some(accuracy),
        test_accuracy: Some(accuracy),
        train_seconds: 900.0,
        device: "cpu".to_owned(),
        ..EvaluationRow::default()
    }
}

fn candidate(
    role: &str,
    rank: i64,
    arch_index: i64,
    predicted: Option<f64>,
    unit: Option<&str>,
) -> CandidateRow {
    CandidateRow {
        search_id: "s".to_owned(),
        dataset_id: "target".to_owned(),
        role: role.to_owned(),
        rank,
        arch_index,
        cell: CELL.to_owned(),
        predicted_accuracy: predicted,
        params: 1_000,
        flops: 1_000 * arch_index,
        unit_id: unit.map(str::to_owned),
        ..CandidateRow::default()
    }
}

/// One searched dataset: two chosen cells, a random one that was ranked too, and a candidate that was not trained.
pub(crate) fn tables() -> Tables {
    let epoch = |unit: &str, epoch: i64, accuracy: Option<f64>| CurveRow {
        unit_id: unit.to_owned(),
        epoch,
        valid_accuracy: accuracy,
        ..CurveRow::default()
    };
    let metric = |round: i64, value: f64, dataset: Option<&str>| TrainingMetricRow {
        model: "predictor".to_owned(),
        round,
        metric: "valid_spearman".to_owned(),
        dataset_id: dataset.map(str::to_owned),
        value,
        ..TrainingMetricRow::default()
    };
    Tables {
        datasets: vec![dataset("target", "target", &[0, 1]), dataset("base", "meta-train", &[2])],
        evaluations: vec![
            training("u1", "target", 40, 0.9),
            training("u2", "target", 30, 0.7),
            training("u3", "target", 20, 0.8),
            training("u4", "base", 20, 0.5),
        ],
        candidates: vec![
            candidate("chosen", 1, 40, Some(0.99), Some("u1")),
            candidate("chosen", 2, 30, Some(0.95), Some("u2")),
            candidate("candidate", 3, 20, Some(0.6), None),
            candidate("random", 1, 20, None, Some("u3")),
        ],
        searches: vec![SearchRow {
            search_id: "s".to_owned(),
            dataset_id: "target".to_owned(),
            dataset_name: "clothes".to_owned(),
            ..SearchRow::default()
        }],
        models: vec![ModelRow {
            model: "predictor".to_owned(),
            training_id: Some(String::new()),
            round: 1,
            ..ModelRow::default()
        }],
        training_metrics: vec![metric(1, 0.5, None), metric(0, 0.25, None), metric(0, 0.9, Some("v"))],
        curves: vec![epoch("u1", 4, Some(0.9)), epoch("u1", 2, Some(0.6)), epoch("u1", 1, None)],
        ..Tables::default()
    }
}

#[test]
fn a_search_is_shown_with_fronts_and_the_prediction_of_random_cells_that_were_ranked_too() {
    let figures = Figures::new(&snapshot(), &tables(), Vec::new());
    let target = &figures.targets[0];
    let measured: Vec<(bool, Option<f64>)> =
        target.measured.iter().map(|cell| (cell.chosen, cell.predicted_accuracy)).collect();
    assert_eq!(measured, [(true, Some(0.99)), (true, Some(0.95)), (false, Some(0.6))]);
    assert_eq!(target.measured_front, [2, 0], "chosen 2 costs more than the random cell and gains less");
    assert_eq!(target.predicted_front, [2, 1, 0]);
    assert_eq!(target.spearman, Some(0.5));
    assert!((target.difference().unwrap() - 0.0).abs() < 1e-12);
    assert_eq!(target.curves.len(), 1);
    assert_eq!(target.curves[0].points, [(2, 0.6), (4, 0.9)], "validated epochs in their order");
}

#[test]
fn device_hours_statuses_and_problems_are_those_of_our_own_trainings() {
    let mut tables = tables();
    tables.evaluations[3].status = "diverged".to_owned();
    tables.evaluations[3].status_reason = Some("a loss of inf in epoch 2".to_owned());
    tables.evaluations[2].protocol = Some("theirs@12".to_owned());
    let figures = Figures::new(&snapshot(), &tables, Vec::new());
    assert_eq!((figures.evaluations, figures.imported_evaluations), (3, 1));
    assert!((figures.training_hours() - 0.75).abs() < 1e-12);
    assert_eq!(figures.by_status, BTreeMap::from([("completed".to_owned(), 2), ("diverged".to_owned(), 1)]));
    assert_eq!(figures.problems.len(), 1);
    assert_eq!(figures.problems[0].reason, "a loss of inf in epoch 2");
}

#[test]
fn datasets_stand_in_the_order_of_their_use_with_the_figures_of_their_trainings() {
    let figures = Figures::new(&snapshot(), &tables(), Vec::new());
    let groups: Vec<&str> = figures.datasets.iter().map(|dataset| dataset.group.as_str()).collect();
    assert_eq!(groups, ["meta-train", "target"]);
    assert_eq!(figures.datasets[1].best_valid_accuracy, Some(0.9));
}

#[test]
fn a_model_is_followed_by_round_over_all_datasets() {
    let figures = Figures::new(&snapshot(), &tables(), Vec::new());
    let model = &figures.models[0];
    assert_eq!(model.by_round["valid_spearman"], [(1, 0.25), (2, 0.5)]);
    assert_eq!(model.published_round, Some(2));
    let mut tables = tables();
    tables.models[0].training_id = Some("an older training".to_owned());
    let figures = Figures::new(&snapshot(), &tables, Vec::new());
    assert_eq!(figures.models[0].published_round, None);
}

#[test]
fn imported_accuracies_are_compared_on_the_same_classes_of_the_same_source_only() {
    let mut tables = tables();
    tables.datasets.push(dataset("theirs", "imported", &[1, 0]));
    for (unit, arch_index, accuracy) in [("i1", 40, 0.4), ("i2", 30, 0.3), ("i3", 20, 0.2), ("i4", 7, 0.1)] {
        let row = training(unit, "theirs", arch_index, accuracy);
        tables.evaluations.push(EvaluationRow { protocol: Some("theirs@12".to_owned()), ..row });
    }
    let figures = Figures::new(&snapshot(), &tables, Vec::new());
    assert_eq!(figures.agreements.len(), 1, "the other dataset has other classes");
    let found = &figures.agreements[0];
    assert_eq!((found.cells, found.spearman), (3, Some(0.5)));
}
