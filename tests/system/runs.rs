//! Calm runs.

use metad2a_tests::{DETERMINISTIC_TABLES, Project, deterministic_tables};
use serde_json::Value;

fn json(project: &Project, arguments: &[&str]) -> Value {
    let output = project.run(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}\n{}", output.status, project.worker_log());
    serde_json::from_slice(&output.stdout).expect("one JSON document on standard output")
}

#[test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
fn a_pipeline_runs_to_its_end_and_running_it_again_changes_nothing() {
    let project = Project::new();
    let report = json(&project, &["run", "--format", "json"]);
    assert_eq!(report["is_new"], true);
    assert_eq!(report["snapshot"], 1);
    let [target] = report["datasets"].as_array().unwrap().as_slice() else { panic!("{report}") };
    assert_eq!(target["name"], "others");
    for role in ["chosen", "random"] {
        let cells = target[role].as_array().unwrap();
        assert_eq!(cells.len(), 2, "{role}: {report}");
        for cell in cells {
            let measured = cell["test_accuracy"].as_f64().expect("every cell was measured");
            assert!((0.0..=1.0).contains(&measured));
        }
    }

    let again = json(&project, &["run", "--format", "json"]);
    assert_eq!(again["is_new"], false);
    assert_eq!(again["datasets"], report["datasets"]);

    let plan = json(&project, &["plan", "--format", "json"]);
    assert_eq!(plan["state"], "finished");
    assert_eq!(plan["open_tasks"], serde_json::json!({}));
}

#[tokio::test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
async fn more_cells_compute_only_what_is_missing() {
    let project = Project::new();
    json(&project, &["run", "--format", "json"]);
    let before = deterministic_tables(&project.store()).await;
    project.edit("cells_per_dataset: 2", "cells_per_dataset: 3");
    let plan = json(&project, &["plan", "--format", "json"]);
    let evaluations = &plan["stages"]["evaluations"];
    assert_eq!((&evaluations["done"], &evaluations["total"]), (&12.into(), &15.into()));
    let report = json(&project, &["run", "--format", "json"]);
    assert_eq!(report["snapshot"], 2);
    let after = deterministic_tables(&project.store()).await;
    assert_eq!(after.len(), DETERMINISTIC_TABLES);
    let kept = before["evaluations"].iter().filter(|row| after["evaluations"].contains(row)).count();
    assert!(kept >= 12, "rows of the first run are the second's too: {kept}");
}

#[test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
fn a_search_names_cells_for_a_dataset_of_the_users() {
    let project = Project::new();
    json(&project, &["run", "--format", "json"]);
    project.write("mine-images", &metad2a_tests::idx_images(3, 20));
    project.write("mine-labels", &metad2a_tests::idx_labels(3, 20));
    let search = [
        "search",
        "--dataset",
        "mine-images",
        "mine-labels",
        "--dataset-format",
        "idx",
        "--candidates",
        "6",
        "--top",
        "3",
        "--format",
        "json",
    ];
    let found = json(&project, &search);
    let ranked = found["ranked"].as_array().unwrap();
    assert!((1..=3).contains(&ranked.len()), "{found}");
    let predicted: Vec<f64> =
        ranked.iter().map(|cell| cell["predicted_accuracy"].as_f64().unwrap()).collect();
    assert!(predicted.is_sorted_by(|better, worse| better >= worse), "{predicted:?}");
    assert_eq!(json(&project, &search), found, "the same search gives the same cells");
}

#[test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
fn a_dataset_that_cannot_be_drawn_is_given_up_at_once_and_the_run_says_so() {
    let project = Project::new();
    // Four pictures of each class: far fewer training pictures than a network can be trained on.
    project.write("others-images", &metad2a_tests::idx_images(4, 4));
    project.write("others-labels", &metad2a_tests::idx_labels(4, 4));
    let output = project.run(&["run", "--format", "json"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let problems = report["problems"].as_array().unwrap();
    assert!(!problems.is_empty());
    assert!(problems[0].as_str().unwrap().contains("failed"), "{problems:?}");
}
