//! What a person reads at the end of a run.

use std::fmt::Write;

use super::outcome::{DatasetReport, Report};

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

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.1}", share * 100.0))
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
    use super::super::outcome::{CellReport, ModelReport};
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
            flops: 20_000,
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
            search_id: String::new(),
            dataset_id: String::new(),
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
