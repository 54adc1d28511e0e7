//! Datasets of several kinds, and cells that are chosen by results.

use std::collections::{BTreeMap, BTreeSet};

use metad2a_database::tables::{DatasetRow, EvaluationRow, FeatureRow};
use metad2a_database::{Access, Store, TableRow};
use metad2a_tests::{Project, deterministic_tables};
use serde_json::Value;

/// Two kinds of datasets; of the four further cells of each, two around the best.
fn project() -> Project {
    let project = Project::new();
    let pictures = "pictures_per_class: { train: 8, valid: 4 }";
    project.edit(
        &format!("meta_train: {{ count: 2, least_classes: 3, most_classes: 4, {pictures} }}"),
        &format!(
            "meta_train: [{{ count: 2, least_classes: 3, most_classes: 4, {pictures} }}, {{ name: blurred, count: 1, \
             least_classes: 3, most_classes: 4, {pictures}, look: {{ grey: true, resolution: 3 }} }}]"
        ),
    );
    project.edit("cells_per_dataset: 2", "cells_per_dataset: 4, around_best: { share: 0.5, top: 0.2 }");
    project
}

fn run(project: &Project) -> Value {
    let output = project.run(&["run", "--format", "json"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{errors}\n{}", output.status, project.worker_log());
    serde_json::from_slice(&output.stdout).expect("one JSON document on standard output")
}

async fn table<T: TableRow>(project: &Project) -> Vec<T> {
    let store = Store::open(&project.store(), Access::ReadOnly).await.unwrap();
    let snapshot = store.current_snapshot("small").await.unwrap().unwrap();
    store.read_table(&snapshot).await.unwrap()
}

#[tokio::test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
async fn cells_around_the_best_are_chosen_once_and_trained_on_datasets_of_every_kind() {
    let project = project();
    assert_eq!(run(&project)["is_new"], true);
    let datasets: Vec<DatasetRow> = table(&project).await;
    let learnt: Vec<&DatasetRow> =
        datasets.iter().filter(|row| row.class_group.starts_with("meta-")).collect();
    assert_eq!(learnt.len(), 4);
    let look = |row: &DatasetRow| (row.grey, row.resolution);
    for row in &learnt {
        let is_blurred = row.name == "meta-train-shapes.blurred-000";
        let expected = if is_blurred { (Some(true), Some(3)) } else { (Some(false), None) };
        assert_eq!(look(row), expected, "{}", row.name);
    }
    let mut cells: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in table::<EvaluationRow>(&project).await {
        cells.entry(row.dataset_id).or_default().insert(row.cell);
    }
    assert!(learnt.iter().all(|row| cells[&row.dataset_id].len() == 6), "two anchors, two drawn, two chosen");
    let looks: BTreeSet<(Option<bool>, Option<i64>)> =
        table::<FeatureRow>(&project).await.iter().map(|row| (row.grey, row.resolution)).collect();
    assert_eq!(looks, BTreeSet::from([(None, None), (Some(true), Some(3))]));

    // Again, and again without the queue: nothing is done twice, and the cells are the same.
    let (committed, before) = (project.committed().await, deterministic_tables(&project.store()).await);
    for queue in ["sqlite:queue.sqlite", "sqlite:another.sqlite"] {
        project.edit("queue: sqlite:queue.sqlite", &format!("queue: {queue}"));
        assert_eq!(run(&project)["is_new"], false);
        assert_eq!(project.committed().await, committed);
    }
    assert_eq!(deterministic_tables(&project.store()).await, before);

    // From nothing, in whatever order the work is finished: the same rows choose the same cells.
    let other = self::project();
    run(&other);
    let after = deterministic_tables(&other.store()).await;
    assert_eq!(after["evaluations"], before["evaluations"]);
    assert_eq!(after["features"], before["features"]);
}
