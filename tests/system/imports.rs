//! Knowledge from outside through the programs: imported once, published, learnt from, and exported again.

use std::fmt::Write;
use std::process::Output;

use metad2a_database::tables::{DatasetRow, EvaluationRow, FeatureRow, LatencyRow};
use metad2a_database::{Access, Snapshot, Store, TableRow};
use metad2a_tests::{Project, repository};
use serde_json::Value;

const TASKS: &str = "[[0, 1, 2], [1, 3], [2, 3]]";

fn weights() -> String {
    repository().join(".weights/efficientnet-lite0.safetensors").display().to_string()
}

fn ran(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}\n{errors}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Rows of three tasks, in percent; the last task has one row only, which no ranking can be learnt from.
fn rows() -> String {
    let mut text = "task,nb201_index,acc\n".to_owned();
    for (task, index, accuracy) in
        [(0, 7, 61.5), (0, 8, 70.0), (0, 11, 40.25), (1, 7, 80.0), (1, 9, 55.5), (2, 7, 90.0)]
    {
        let _ = writeln!(text, "{task},{index},{accuracy}");
    }
    text
}

fn import_rows(project: &Project, unit: &str) -> Output {
    project.write("rows.csv", rows().as_bytes());
    project.write("tasks.json", TASKS.as_bytes());
    let command = [
        "import",
        "tasks",
        "rows.csv",
        "--task-classes",
        "tasks.json",
        "--class-source",
        "outside",
        "--image-size",
        "32",
        "--accuracy-unit",
        unit,
        "--protocol",
        "published",
        "--epochs",
        "50",
        "--split",
        "valid",
        "--origin",
        "a test",
        "--format",
        "json",
    ];
    project.run(&command)
}

/// Two views of four classes, as wide as the extractor's.
fn features() -> Vec<u8> {
    use std::sync::Arc;

    use arrow_array::builder::{Float32Builder, ListBuilder};
    use arrow_array::{ArrayRef, Int32Array, RecordBatch};
    let mut vectors = ListBuilder::new(Float32Builder::new());
    let (mut classes, mut views) = (Vec::new(), Vec::new());
    for class in 0..4_i32 {
        for view in 0..2_i32 {
            classes.push(class);
            views.push(view);
            for place in 0..1280_i32 {
                vectors.values().append_value(((place * 7 + class * 31 + view) % 11) as f32 / 11.0);
            }
            vectors.append(true);
        }
    }
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("class_id", Arc::new(Int32Array::from(classes))),
        ("view", Arc::new(Int32Array::from(views))),
        ("features", Arc::new(vectors.finish())),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}

fn import_features(project: &Project) -> Output {
    project.write("features.parquet", &features());
    let weights = weights();
    let command = [
        "import",
        "features",
        "features.parquet",
        "--class-source",
        "outside",
        "--extractor",
        "efficientnet-lite0",
        "--weights",
        &weights,
        "--image-size",
        "32",
        "--origin",
        "a test",
        "--format",
        "json",
    ];
    project.run(&command)
}

fn id(output: &Output) -> String {
    let told: Value = serde_json::from_str(&ran(output)).unwrap();
    told["import"].as_str().unwrap().to_owned()
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.path().is_dir() {
            found.extend(files_below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

async fn table<T: TableRow>(store: &Store, snapshot: &Snapshot) -> Vec<T> {
    store.read_table(snapshot).await.unwrap()
}

#[test]
#[ignore = "needs the built programs: scripts/test.sh"]
fn the_same_file_imported_twice_adds_nothing() {
    let project = Project::new();
    let first: Value = serde_json::from_str(&ran(&import_rows(&project, "percent"))).unwrap();
    assert_eq!(first["is_new"], true);
    assert_eq!(first["rows"], serde_json::json!({"datasets": 3, "evaluations": 6}));
    let before = files_below(&project.path().join("store"));
    let second: Value = serde_json::from_str(&ran(&import_rows(&project, "percent"))).unwrap();
    assert_eq!((&second["is_new"], &second["import"]), (&Value::from(false), &first["import"]));
    assert_eq!(files_below(&project.path().join("store")), before);
    let listed = ran(&project.run(&["import", "list"]));
    assert!(listed.contains(first["import"].as_str().unwrap()), "{listed}");
    assert!(listed.contains("evaluations: 6 of published@50 on 3 datasets; a test"), "{listed}");
}

#[test]
#[ignore = "needs the built programs: scripts/test.sh"]
fn a_bad_file_is_refused_whole_with_exit_code_2_and_nothing_is_written() {
    let project = Project::new();
    let output = import_rows(&project, "fraction");
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("nothing was imported: 6 problems to mend"), "{errors}");
    assert!(errors.contains("`rows.csv`, row 1, column `acc`: is 61.5, must lie in 0 to 1"), "{errors}");
    assert!(!project.path().join("store").exists());
}

#[test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
fn a_pipeline_that_names_an_import_it_cannot_use_is_told_before_anything_runs() {
    let project = Project::new();
    let rows = id(&import_rows(&project, "percent"));
    let lost = "ab".repeat(32);
    project.edit(
        "models:\n",
        &format!("imports: [{rows}, {lost}]\nmodels:\n  imported_protocols: [published@50]\n"),
    );
    for command in [&["plan"][..], &["run"], &["run", "--refresh"]] {
        let output = project.run(command);
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(&format!("import `{lost}` is not in the store")), "{command:?}: {errors}");
    }
    project.edit(&format!(", {lost}]"), "]");
    let output = project.run(&["run"]);
    assert_eq!(output.status.code(), Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("protocol `published@50` needs features of its classes"), "{errors}");
    assert!(!project.path().join("store/done/evaluate").exists());
}

#[tokio::test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
async fn imported_rows_are_published_learnt_from_and_exported_beside_our_own() {
    let project = Project::new();
    let ours: Value = serde_json::from_str(&ran(&project.run(&["run", "--format", "json"]))).unwrap();
    let rows = id(&import_rows(&project, "percent"));
    let features = id(&import_features(&project));
    project.write(
        "latency.csv",
        b"arch_index,device,batch,latency_ms,p95_ms\n7,pixel3,1,12.5,14\n8,pixel3,1,20,\n",
    );
    let latencies = [
        "import",
        "latencies",
        "latency.csv",
        "--protocol",
        "tflite-fp32",
        "--origin",
        "a test",
        "--format",
        "json",
    ];
    let latencies = id(&project.run(&latencies));

    // Named, they are published; the models stay what they were.
    let all = format!("imports: [{rows}, {features}, {latencies}]\n");
    project.edit("models:\n", &format!("{all}models:\n"));
    let published: Value = serde_json::from_str(&ran(&project.run(&["run", "--format", "json"]))).unwrap();
    assert_eq!(
        (&published["snapshot"], &published["imported_evaluations"]),
        (&Value::from(2), &Value::from(6))
    );
    assert_eq!(
        (&published["datasets"], &published["evaluations"]),
        (&ours["datasets"], &ours["evaluations"])
    );

    let store = Store::open(&project.store(), Access::ReadOnly).await.unwrap();
    let snapshot = store.current_snapshot("small").await.unwrap().unwrap();
    let evaluations: Vec<EvaluationRow> = table(&store, &snapshot).await;
    let imported: Vec<&EvaluationRow> = evaluations.iter().filter(|row| row.protocol.is_some()).collect();
    assert_eq!(imported.len(), 6);
    let counts = [("datasets", 3), ("evaluations", 6), ("features", 8), ("latencies", 2)];
    assert_eq!(snapshot.imported_rows, counts.map(|(table, rows)| (table.to_owned(), rows)).into());
    assert!(imported.iter().all(|row| row.task_id == rows && row.provenance.is_some()));
    assert!(evaluations.iter().all(|row| row.protocol.is_some() == row.provenance.is_some()));
    let datasets: Vec<DatasetRow> = table(&store, &snapshot).await;
    assert_eq!(datasets.iter().filter(|row| row.class_group == "imported").count(), 3);
    let vectors: Vec<FeatureRow> = table(&store, &snapshot).await;
    assert_eq!(vectors.iter().filter(|row| row.provenance.is_some()).count(), 8);
    let latencies: Vec<LatencyRow> = table(&store, &snapshot).await;
    assert_eq!(latencies.iter().map(|row| row.latency_milliseconds).collect::<Vec<_>>(), [12.5, 20.0]);

    // Their protocol named too, the models learn from them: other models, other predictions.
    project.edit("models:\n", "models:\n  imported_protocols: [published@50]\n");
    let taught: Value = serde_json::from_str(&ran(&project.run(&["run", "--format", "json"]))).unwrap();
    assert_eq!(taught["snapshot"], 3);
    assert_ne!(taught["models"], published["models"]);
    let again: Value = serde_json::from_str(&ran(&project.run(&["run", "--format", "json"]))).unwrap();
    assert_eq!(again["is_new"], false);

    ran(&project.run(&["export", "--format", "nats-bench", "--to", "cells.csv"]));
    let text = std::fs::read_to_string(project.path().join("cells.csv")).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let heading = lines.next().unwrap();
    let column =
        heading.iter().position(|name| *name == "outside-task-00000/published@50/valid_accuracy").unwrap();
    let cells: Vec<Vec<&str>> = lines.collect();
    assert_eq!(cells.len(), 15_625);
    let known: Vec<(&str, &str)> =
        cells.iter().filter(|cell| !cell[column].is_empty()).map(|cell| (cell[0], cell[column])).collect();
    assert_eq!(known, [("7", "0.615"), ("8", "0.7"), ("11", "0.4025")]);
    // Named datasets only, and no half file where something is wrong.
    let wrong =
        project.run(&["export", "--format", "nats-bench", "--to", "some.parquet", "--dataset", "nobody"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(!project.path().join("some.parquet").exists());
}
