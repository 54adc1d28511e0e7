//! What a person or a program is told at the end of a run: per held-out dataset the chosen cells, predicted and
//! measured, and the random cells beside them.

use metad2a_database::tables::{CandidateRow, EvaluationRow, ModelRow, TrainingMetricRow};
use metad2a_database::{Snapshot, Store};
use serde::Serialize;

use super::tables::Tables;

/// The outcome of a run, read from its published snapshot.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    pub(crate) pipeline: String,
    pub(crate) snapshot: u32,
    /// False where nothing had changed since the last snapshot.
    pub(crate) is_new: bool,
    pub(crate) datasets: Vec<DatasetReport>,
    pub(crate) models: Vec<ModelReport>,
    /// What the snapshot says of itself, for instance that an old model stays.
    pub(crate) notes: Vec<String>,
    /// What was given up, one line each.
    pub(crate) problems: Vec<String>,
    /// Networks in the snapshot that were trained here.
    pub(crate) evaluations: u64,
    /// Rows of `evaluations` that were imported.
    pub(crate) imported_evaluations: u64,
    /// Files of `candidates`, for the example query.
    pub(crate) candidates_files: Vec<String>,
    pub(crate) seconds: f64,
}

/// One searched dataset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct DatasetReport {
    pub(crate) name: String,
    pub(crate) classes: i64,
    pub(crate) test_pictures: i64,
    pub(crate) candidates: u64,
    pub(crate) search_seconds: f64,
    /// Best first.
    pub(crate) chosen: Vec<CellReport>,
    pub(crate) random: Vec<CellReport>,
    pub(crate) chosen_test_accuracy: Option<f64>,
    pub(crate) random_test_accuracy: Option<f64>,
    pub(crate) search_id: String,
    pub(crate) dataset_id: String,
}

/// A trained cell. Accuracies lie in [0, 1] and are means over the search's seeds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct CellReport {
    pub(crate) arch_index: i64,
    pub(crate) cell: String,
    pub(crate) predicted_accuracy: Option<f64>,
    pub(crate) predicted_accuracy_sd: Option<f64>,
    pub(crate) valid_accuracy: Option<f64>,
    pub(crate) test_accuracy: Option<f64>,
    pub(crate) params: i64,
    /// Multiply-adds for one picture.
    pub(crate) flops: i64,
}

/// A model's last validation, by metric.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ModelReport {
    pub(crate) model: String,
    pub(crate) rounds: i64,
    /// False where a quorum below all shards could close rounds.
    pub(crate) reproducible: bool,
    pub(crate) metrics: Vec<(String, f64)>,
}

/// The figures of a run that ended with this snapshot.
pub(crate) fn collect(
    store: &Store,
    snapshot: &Snapshot,
    tables: &Tables,
    is_new: bool,
    problems: Vec<String>,
    seconds: f64,
) -> metad2a_database::Result<Report> {
    let imported_evaluations = tables.imported_evaluations();
    Ok(Report {
        pipeline: snapshot.pipeline.clone(),
        snapshot: snapshot.number,
        is_new,
        datasets: searched(tables),
        models: model_reports(&tables.training_metrics, &tables.models),
        notes: snapshot.notes.clone(),
        problems,
        evaluations: snapshot.rows("evaluations") - imported_evaluations,
        imported_evaluations,
        candidates_files: store.table_locations(snapshot, "candidates")?,
        seconds,
    })
}

/// Every searched dataset, by name.
pub(crate) fn searched(tables: &Tables) -> Vec<DatasetReport> {
    let mut reports = Vec::new();
    for search in &tables.searches {
        let own: Vec<&CandidateRow> =
            tables.candidates.iter().filter(|row| row.search_id == search.search_id).collect();
        let cells = |role: &str| {
            let of_role = own.iter().filter(|row| row.role == role);
            of_role.map(|row| cell_report(row, &tables.evaluations)).collect::<Vec<_>>()
        };
        let (chosen, random) = (cells("chosen"), cells("random"));
        let dataset = tables.datasets.iter().find(|row| row.dataset_id == search.dataset_id);
        reports.push(DatasetReport {
            name: search.dataset_name.clone(),
            classes: dataset.map_or(0, |row| row.classes),
            test_pictures: dataset.map_or(0, |row| row.test_pictures),
            candidates: own.iter().filter(|row| row.role != "random").count() as u64,
            search_seconds: search.search_seconds,
            chosen_test_accuracy: mean(chosen.iter().map(|cell| cell.test_accuracy)),
            random_test_accuracy: mean(random.iter().map(|cell| cell.test_accuracy)),
            chosen,
            random,
            search_id: search.search_id.clone(),
            dataset_id: search.dataset_id.clone(),
        });
    }
    reports.sort_by(|a, b| a.name.cmp(&b.name));
    reports
}

fn cell_report(row: &CandidateRow, evaluations: &[EvaluationRow]) -> CellReport {
    // All seeds of the search's recipe: the candidate's own row names the first.
    let recipe = evaluations.iter().find(|training| Some(&training.unit_id) == row.unit_id.as_ref());
    let trainings: Vec<&EvaluationRow> = evaluations
        .iter()
        .filter(|training| {
            recipe.is_some_and(|first| {
                training.dataset_id == first.dataset_id
                    && training.recipe_id == first.recipe_id
                    && training.arch_index == first.arch_index
            })
        })
        .collect();
    CellReport {
        arch_index: row.arch_index,
        cell: row.cell.clone(),
        predicted_accuracy: row.predicted_accuracy,
        predicted_accuracy_sd: row.predicted_accuracy_sd,
        valid_accuracy: mean(trainings.iter().map(|training| training.valid_accuracy)),
        test_accuracy: mean(trainings.iter().map(|training| training.test_accuracy)),
        params: row.params,
        flops: row.flops,
    }
}

/// Each trained model's last validation.
pub(crate) fn model_reports(metrics: &[TrainingMetricRow], models: &[ModelRow]) -> Vec<ModelReport> {
    let mut reports = Vec::new();
    for model in ["generator", "predictor"] {
        let own: Vec<&TrainingMetricRow> = metrics.iter().filter(|row| row.model == model).collect();
        let Some(last) = own.iter().map(|row| row.round).max() else { continue };
        let of_last = own.iter().filter(|row| row.round == last && row.dataset_id.is_none());
        reports.push(ModelReport {
            model: model.to_owned(),
            rounds: last + 1,
            reproducible: models
                .iter()
                .filter(|row| row.model == model)
                .all(|row| row.reproducible.unwrap_or(true)),
            metrics: of_last.map(|row| (row.metric.clone(), row.value)).collect(),
        });
    }
    reports
}

/// The mean of what was measured.
pub(super) fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let measured: Vec<f64> = values.flatten().collect();
    (!measured.is_empty()).then(|| measured.iter().sum::<f64>() / measured.len() as f64)
}
