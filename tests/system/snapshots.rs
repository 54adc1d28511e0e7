//! What an analyst does with snapshots, through the program. They are published here directly: no training is needed.

use std::path::Path;
use std::process::{Output, Stdio};

use metad2a_database::tables::{ArchitectureRow, CandidateRow, CurveRow, DatasetRow, EvaluationRow};
use metad2a_database::{Access, Checks, Published, SnapshotDraft, Store, TableRow};
use metad2a_queue::Leadership;
use metad2a_tests::{Project, analysts_tools, service};
use serde_json::{Value, json};

use crate::command_line::transcript;

async fn add<T: TableRow>(store: &Store, draft: &mut SnapshotDraft, rows: &[T]) {
    let file = store.put_rows(T::NAME, rows).await.unwrap();
    draft.tables.entry(T::NAME.to_owned()).or_default().push(file);
}

/// Publishes a snapshot with so many trainings of one dataset.
async fn publish(url: &str, pipeline: &str, trainings: i64) -> u32 {
    let store = Store::open(url, Access::ReadWrite).await.unwrap();
    let mut draft = SnapshotDraft {
        pipeline: pipeline.to_owned(),
        inputs_id: format!("with-{trainings}"),
        ..SnapshotDraft::default()
    };
    let dataset = DatasetRow {
        dataset_id: "d".to_owned(),
        name: "letters".to_owned(),
        class_group: "meta-train".to_owned(),
        classes: 2,
        image_size: 8,
        ..DatasetRow::default()
    };
    add(&store, &mut draft, &[dataset]).await;
    let cell = ArchitectureRow {
        cell: "a cell".to_owned(),
        channels: 4,
        cells_per_stage: 1,
        image_size: 8,
        classes: 2,
        ..ArchitectureRow::default()
    };
    add(&store, &mut draft, &[cell]).await;
    let of_seed = |seed: i64| EvaluationRow {
        unit_id: format!("u{seed}"),
        dataset_id: "d".to_owned(),
        cell: "a cell".to_owned(),
        seed,
        epochs: 1,
        batch_size: 1,
        channels: 4,
        cells_per_stage: 1,
        image_size: 8,
        status: "completed".to_owned(),
        valid_accuracy: Some(0.5 + seed as f64 / 16.0),
        ..EvaluationRow::default()
    };
    for seed in 0..trainings {
        add(&store, &mut draft, &[of_seed(seed)]).await;
    }
    add::<CurveRow>(&store, &mut draft, &[]).await;
    add::<CandidateRow>(&store, &mut draft, &[]).await;
    match store.publish(draft, &Checks::default()).await.unwrap() {
        Published::New(number) => number,
        Published::Unchanged(number) => panic!("snapshot {number} is not new"),
    }
}

async fn published(snapshots: i64) -> Project {
    let project = Project::new();
    for trainings in 1..=snapshots {
        publish(&project.store(), "small", trainings).await;
    }
    project
}

fn told(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json_of(project: &Project, arguments: &[&str]) -> Value {
    serde_json::from_str(&told(&project.run(arguments))).unwrap()
}

/// `metad2a sql` with the pinned DuckDB.
fn sql(project: &Project, arguments: &[&str]) -> Output {
    let mut command = project.command(&[&["sql"], arguments].concat());
    command.env("METAD2A_DUCKDB", analysts_tools().join("bin/duckdb")).output().unwrap()
}

#[tokio::test]
#[ignore = "needs the built programs: scripts/test.sh"]
async fn snapshots_are_listed_with_and_without_the_word_and_older_forms_still_work() {
    let project = published(2).await;
    let listed = told(&project.run(&["snapshots"]));
    assert_eq!(listed.lines().count(), 3, "{listed}");
    for form in
        [&["snapshots", "pipeline.yaml"][..], &["snapshots", "list"], &["snapshots", "list", "pipeline.yaml"]]
    {
        assert_eq!(told(&project.run(form)), listed, "{form:?}");
    }
    assert_eq!(json_of(&project, &["snapshots", "--format", "json"]).as_array().unwrap().len(), 2);

    let files = told(&project.run(&["snapshots", "pipeline.yaml", "--files-of", "evaluations"]));
    assert!(files.lines().all(|file| Path::new(file).is_file()), "{files}");
    assert_eq!(told(&project.run(&["snapshots", "path", "--table", "evaluations"])), files);
    let as_json = json_of(&project, &["snapshots", "--files-of", "evaluations", "--format", "json"]);
    assert_eq!(as_json, json!(files.lines().collect::<Vec<_>>()));

    let mixed = project.run(&["snapshots", "--files-of", "evaluations", "list"]);
    assert_eq!(mixed.status.code(), Some(2));
    let unknown = project.run(&["snapshots", "path", "--table", "evaluation"]);
    assert_eq!(unknown.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&unknown.stderr);
    assert!(
        errors.contains("table `evaluation`: snapshot 2 of `small` has only `architectures`"),
        "{errors}"
    );
}

#[tokio::test]
#[ignore = "needs the built programs: scripts/test.sh"]
async fn the_paths_of_any_snapshot_are_printed_in_three_forms() {
    let project = published(2).await;
    let places = json_of(&project, &["snapshots", "path", "--snapshot", "1", "--format", "json"]);
    let tables: Vec<&String> = places.as_object().unwrap().keys().collect();
    assert_eq!(tables, ["architectures", "candidates", "curves", "datasets", "evaluations"]);
    let file = places["evaluations"][0].as_str().unwrap();
    assert!(Path::new(file).is_absolute() && Path::new(file).is_file(), "{file}");
    let lines = told(&project.run(&["snapshots", "path", "--snapshot", "1"]));
    assert!(lines.contains(&format!("evaluations       {file}\n")), "{lines}");
    let views = told(&project.run(&["snapshots", "path", "--snapshot", "1", "--format", "sql"]));
    assert_eq!(views.matches("create or replace view ").count(), 5, "{views}");
    let view = format!("create or replace view evaluations as select * from read_parquet([\n    '{file}'\n]");
    assert!(views.contains(&view), "{views}");
    assert!(!told(&project.run(&["snapshots", "path"])).contains(file), "the second has another file");
}

#[tokio::test]
#[ignore = "needs the built programs: scripts/test.sh"]
async fn a_comparison_tells_what_came_between_two_snapshots() {
    let project = published(3).await;
    let difference = json_of(&project, &["snapshots", "diff", "1", "3", "--format", "json"]);
    let rows = &difference["tables"]["evaluations"];
    assert_eq!((&rows["added"], &rows["removed"], &rows["rows_after"]), (&json!(2), &json!(0), &json!(3)));
    assert_eq!(difference["tables"]["datasets"]["shared_files"], 1);
    let group = &difference["groups"]["meta-train"];
    assert_eq!(group["before"]["mean_valid_accuracy"], 0.5);
    assert_eq!(group["after"]["mean_valid_accuracy"], 0.5625);
    assert_eq!(
        json_of(&project, &["snapshots", "diff", "1", "--format", "json"]),
        difference,
        "the current one"
    );
    let text = told(&project.run(&["snapshots", "diff", "2", "3"]));
    assert!(text.contains("53.12 → 56.25"), "{text}");
}

#[tokio::test]
#[ignore = "needs the built programs: scripts/test.sh"]
async fn a_snapshot_with_a_broken_file_is_found_out_and_not_gone_back_to() {
    let project = published(2).await;
    let whole = told(&project.run(&["snapshots", "verify"]));
    assert!(whole.starts_with("Snapshot 2 of `small` is whole: 5 files, "), "{whole}");

    let files = json_of(
        &project,
        &["snapshots", "path", "--snapshot", "1", "--table", "evaluations", "--format", "json"],
    );
    let file = Path::new(files[0].as_str().unwrap());
    std::fs::remove_file(file).unwrap();
    let output = project.run(&["snapshots", "verify", "1", "--format", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let path = file.strip_prefix(project.path().canonicalize().unwrap().join("store")).unwrap();
    let broken = json!([{"file": path, "rule": "is missing from the store"}]);
    assert_eq!(report["broken"], broken);

    let output = project.run(&["snapshots", "rollback", "1"]);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8_lossy(&output.stderr);
    let expected = format!(
        "metad2a: there is no way back to snapshot 1 of `small`: snapshot of `small` was not published: `{}` is missing \
         from the store",
        path.display()
    );
    assert_eq!(errors.trim_end(), expected);
    assert!(told(&project.run(&["snapshots", "verify", "2"])).contains("is whole"));
}

#[tokio::test]
#[ignore = "needs the built programs: scripts/test.sh"]
async fn a_rollback_publishes_the_old_content_again_and_waits_for_no_run() {
    let project = published(2).await;
    let url = format!("sqlite:{}", project.path().join("queue.sqlite").display());
    let queue = metad2a_queue::open(&url).await.unwrap();
    let Leadership::Held(guard) = queue.lead("small", "the night watch").await.unwrap() else {
        panic!("nobody else leads")
    };
    let output = project.run(&["snapshots", "rollback", "1"]);
    insta::assert_snapshot!(transcript(&project, &output), @"
    exit code 4
    metad2a: pipeline `small` is being run by the night watch; nothing is published meanwhile: wait for it, or stop it first
    ");
    guard.release().await;
    queue.close().await.unwrap();

    let report = json_of(&project, &["snapshots", "rollback", "1", "--format", "json"]);
    assert_eq!(report, json!({"pipeline": "small", "restored_from": 1, "snapshot": 3, "is_new": true}));
    let difference = json_of(&project, &["snapshots", "diff", "1", "3", "--format", "json"]);
    assert_eq!(difference["after"]["restored_from"], 1);
    assert!(
        difference["tables"]
            .as_object()
            .unwrap()
            .values()
            .all(|table| table["added"] == 0 && table["removed"] == 0)
    );
    assert_eq!(json_of(&project, &["snapshots", "rollback", "1", "--format", "json"])["is_new"], false);
    assert!(told(&project.run(&["snapshots"])).contains("content of 1"));
}

#[tokio::test]
#[ignore = "needs the built programs and duckdb: scripts/test.sh"]
async fn a_query_is_asked_of_the_snapshot_that_is_named_and_answered_in_three_forms() {
    let project = published(2).await;
    let query = "select cell, count(*) as trainings, null as nothing from evaluations group by cell";
    insta::assert_snapshot!(transcript(&project, &sql(&project, &[query])), @"
    exit code 0
    ┌────────┬───────────┬─────────┐
    │  cell  │ trainings │ nothing │
    ├────────┼───────────┼─────────┤
    │ a cell │ 2         │ NULL    │
    └────────┴───────────┴─────────┘
    ");
    let answer = told(&sql(&project, &[query, "--snapshot", "1", "--format", "json"]));
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer, json!([{"cell": "a cell", "trainings": 1, "nothing": null}]));
    let csv = told(&sql(&project, &[query, "--format", "csv"]));
    assert_eq!(csv.lines().collect::<Vec<_>>(), ["cell,trainings,nothing", "a cell,2,"]);

    let wrong = sql(&project, &["select cel from evaluations"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("cel"), "DuckDB says what is wrong");
    let none = sql(&project, &[query, "--snapshot", "9"]);
    insta::assert_snapshot!(transcript(&project, &none), @"
    exit code 1
    metad2a: pipeline `small` has no snapshot 9; `metad2a snapshots` lists those it has
    ");

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut many = project.command(&["sql", "select * from range(1000000)", "--format", "csv"]);
    let many =
        many.env("METAD2A_DUCKDB", analysts_tools().join("bin/duckdb")).stdout(writer).stderr(Stdio::piped());
    let output = many.output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""));
}

#[tokio::test]
#[ignore = "needs the built programs: scripts/test.sh"]
async fn without_duckdb_the_next_step_is_told() {
    let project = published(1).await;
    let mut command = project.command(&["sql", "select 1"]);
    let output = command.env("PATH", project.path()).env_remove("METAD2A_DUCKDB").output().unwrap();
    insta::assert_snapshot!(transcript(&project, &output), @"
    exit code 1
    metad2a: no program `duckdb` is on PATH: install DuckDB (https://duckdb.org/install), or name the program with `--duckdb` or METAD2A_DUCKDB; `metad2a snapshots path --format sql` prints the views for any other way to run it
    ");
    let output = project.run(&["sql", "select 1", "--duckdb", "./no-such-program"]);
    insta::assert_snapshot!(transcript(&project, &output), @"
    exit code 1
    metad2a: `./no-such-program` cannot be started; see `--duckdb`: No such file or directory (os error 2)
    ");
}

#[tokio::test]
#[ignore = "needs the built programs, duckdb and an S3 server: scripts/test.sh"]
async fn a_bucket_is_asked_with_the_stores_own_credentials() {
    let project = Project::new();
    let url = format!("{}/{}", service("METAD2A_TEST_S3_URL"), metad2a_database::random_id());
    publish(&url, "small", 3).await;
    let path = told(&project.run(&["snapshots", "path", "--table", "evaluations", "--store", &url]));
    assert!(path.starts_with(&format!("{url}/small/tables/evaluations/")), "{path}");
    let query = "select count(*) as n from evaluations join datasets using (dataset_id)";
    assert_eq!(told(&sql(&project, &[query, "--store", &url, "--format", "csv"])).trim_end(), "n\n3");
    assert!(told(&project.run(&["snapshots", "verify", "--store", &url])).contains("is whole"));
}
