//! What a person or a program is told at the end of a run: per held-out dataset the chosen cells, predicted and
//! measured, and the random cells beside them.

use std::fmt::Write;

use metad2a_database::tables::{
    CandidateRow, DatasetRow, EvaluationRow, ModelRow, SearchRow, TrainingMetricRow,
};
use metad2a_database::{Snapshot, Store};
use serde::Serialize;

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

/// Reads the figures of a snapshot.
pub(crate) async fn read(
    store: &Store,
    snapshot: &Snapshot,
    is_new: bool,
    problems: Vec<String>,
    seconds: f64,
) -> anyhow::Result<Report> {
    let candidates: Vec<CandidateRow> = store.read_table(snapshot).await?;
    let datasets: Vec<DatasetRow> = store.read_table(snapshot).await?;
    let searches: Vec<SearchRow> = store.read_table(snapshot).await?;
    let evaluations: Vec<EvaluationRow> = store.read_table(snapshot).await?;
    let metrics: Vec<TrainingMetricRow> = store.read_table(snapshot).await?;
    let models: Vec<ModelRow> = store.read_table(snapshot).await?;
    let mut reports = Vec::new();
    for search in &searches {
        let own: Vec<&CandidateRow> =
            candidates.iter().filter(|row| row.search_id == search.search_id).collect();
        let cells = |role: &str| {
            let of_role = own.iter().filter(|row| row.role == role);
            of_role.map(|row| cell_report(row, &evaluations)).collect::<Vec<_>>()
        };
        let (chosen, random) = (cells("chosen"), cells("random"));
        let dataset = datasets.iter().find(|row| row.dataset_id == search.dataset_id);
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
        });
    }
    reports.sort_by(|a, b| a.name.cmp(&b.name));
    let imported_evaluations = evaluations.iter().filter(|row| row.protocol.is_some()).count() as u64;
    Ok(Report {
        pipeline: snapshot.pipeline.clone(),
        snapshot: snapshot.number,
        is_new,
        datasets: reports,
        models: model_reports(&metrics, &models),
        notes: snapshot.notes.clone(),
        problems,
        evaluations: snapshot.rows("evaluations") - imported_evaluations,
        imported_evaluations,
        candidates_files: store.table_locations(snapshot, "candidates")?,
        seconds,
    })
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
    }
}

fn model_reports(metrics: &[TrainingMetricRow], models: &[ModelRow]) -> Vec<ModelReport> {
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
fn mean(values: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    let measured: Vec<f64> = values.flatten().collect();
    (!measured.is_empty()).then(|| measured.iter().sum::<f64>() / measured.len() as f64)
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.1}", share * 100.0))
}

/// The table for a person, as it is printed at the end of a run.
pub(crate) fn table(report: &Report) -> String {
    let mut text = String::new();
    for dataset in &report.datasets {
        dataset_table(&mut text, dataset);
    }
    let state = if report.is_new { "published" } else { "unchanged" };
    let imported = match report.imported_evaluations {
        0 => String::new(),
        rows => format!(", {rows} imported rows"),
    };
    let _ = writeln!(
        text,
        "Snapshot {} of `{}` {state}: {} trained networks{imported}.",
        report.snapshot, report.pipeline, report.evaluations
    );
    for model in report.models.iter().filter(|model| !model.reproducible) {
        let _ = writeln!(text, "The {} is not reproducible: a quorum could close its rounds.", model.model);
    }
    for note in &report.notes {
        let _ = writeln!(text, "Note: {note}");
    }
    for problem in &report.problems {
        let _ = writeln!(text, "Given up: {problem}");
    }
    let _ = writeln!(text, "\nQuery it, for instance with DuckDB:\n  {}", query(report));
    text
}

fn dataset_table(text: &mut String, dataset: &DatasetReport) {
    let _ = writeln!(
        text,
        "{}: {} classes, never seen in training; {} candidates ranked in {:.1} s; accuracies in %, \
         measured on {} test pictures",
        dataset.name, dataset.classes, dataset.candidates, dataset.search_seconds, dataset.test_pictures
    );
    let all = dataset.chosen.iter().chain(&dataset.random);
    let width = all.map(|cell| cell.cell.len()).max().unwrap_or_default();
    let _ =
        writeln!(text, "  {:<10}{:>6}  {:<width$}{:>14}{:>10}", "", "index", "cell", "predicted", "measured");
    for (role, cells) in [("chosen", &dataset.chosen), ("random", &dataset.random)] {
        for (position, cell) in cells.iter().enumerate() {
            let predicted = match (cell.predicted_accuracy, cell.predicted_accuracy_sd) {
                (Some(mean), Some(sd)) => format!("{:.1} ± {:.1}", mean * 100.0, sd * 100.0),
                _ => String::new(),
            };
            let _ = writeln!(
                text,
                "  {:<10}{:>6}  {:<width$}{predicted:>14}{:>10}",
                format!("{role} {}", position + 1),
                cell.arch_index,
                cell.cell,
                percent(cell.test_accuracy)
            );
        }
    }
    let difference = match (dataset.chosen_test_accuracy, dataset.random_test_accuracy) {
        (Some(chosen), Some(random)) => format!(" ({:+.1})", (chosen - random) * 100.0),
        _ => String::new(),
    };
    let _ = writeln!(
        text,
        "  mean of the chosen {}, of as many random cells {}{difference}\n",
        percent(dataset.chosen_test_accuracy),
        percent(dataset.random_test_accuracy)
    );
}

/// One line that reads the published tables.
fn query(report: &Report) -> String {
    let files: Vec<String> = report.candidates_files.iter().map(|file| format!("'{file}'")).collect();
    format!(
        "duckdb -c \"SELECT dataset_id, role, rank, cell, predicted_accuracy, test_accuracy FROM \
         read_parquet([{}]) WHERE test_accuracy IS NOT NULL ORDER BY ALL\"",
        files.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(name: &str, predicted: Option<f64>, test: f64) -> CellReport {
        CellReport {
            arch_index: 857,
            cell: name.to_owned(),
            predicted_accuracy: predicted,
            predicted_accuracy_sd: predicted.map(|_| 0.004),
            valid_accuracy: Some(test),
            test_accuracy: Some(test),
            params: 1_000,
        }
    }

    #[test]
    fn the_report_sets_chosen_and_random_cells_side_by_side() {
        let dataset = DatasetReport {
            name: "clothes".to_owned(),
            classes: 10,
            test_pictures: 5_535,
            candidates: 500,
            search_seconds: 0.14,
            chosen: vec![
                cell("|a~0|+|b~0|c~1|", Some(0.834), 0.815),
                cell("|a~0|+|b~0|b~1|", Some(0.83), 0.805),
            ],
            random: vec![cell("|a~0|+|none~0|c~1|", None, 0.79)],
            chosen_test_accuracy: Some(0.81),
            random_test_accuracy: Some(0.79),
        };
        let report = Report {
            pipeline: "small".to_owned(),
            snapshot: 3,
            is_new: true,
            datasets: vec![dataset],
            models: [("generator", false), ("predictor", true)]
                .map(|(model, reproducible)| ModelReport {
                    model: model.to_owned(),
                    rounds: 6,
                    reproducible,
                    metrics: Vec::new(),
                })
                .into(),
            notes: vec!["the predictor is that of snapshot 2".to_owned()],
            problems: vec!["evaluate task `x` failed: out of memory".to_owned()],
            evaluations: 152,
            imported_evaluations: 4_152,
            candidates_files: vec!["/store/candidates.parquet".to_owned()],
            seconds: 200.0,
        };
        insta::assert_snapshot!(table(&report), @r#"
        clothes: 10 classes, never seen in training; 500 candidates ranked in 0.1 s; accuracies in %, measured on 5535 test pictures
                     index  cell                   predicted  measured
          chosen 1     857  |a~0|+|b~0|c~1|       83.4 ± 0.4      81.5
          chosen 2     857  |a~0|+|b~0|b~1|       83.0 ± 0.4      80.5
          random 1     857  |a~0|+|none~0|c~1|                    79.0
          mean of the chosen 81.0, of as many random cells 79.0 (+2.0)

        Snapshot 3 of `small` published: 152 trained networks, 4152 imported rows.
        The generator is not reproducible: a quorum could close its rounds.
        Note: the predictor is that of snapshot 2
        Given up: evaluate task `x` failed: out of memory

        Query it, for instance with DuckDB:
          duckdb -c "SELECT dataset_id, role, rank, cell, predicted_accuracy, test_accuracy FROM read_parquet(['/store/candidates.parquet']) WHERE test_accuracy IS NOT NULL ORDER BY ALL"
        "#);
    }
}
