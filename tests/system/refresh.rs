//! Nights: what is new is taken in, what is missing computed, and nothing published that does harm.

use std::collections::BTreeMap;

use metad2a_database::{Access, Snapshot, Store};
use metad2a_queue::Leadership;
use metad2a_tests::{Project, cifar_records, deterministic_tables, idx_images, idx_labels};
use serde_json::{Value, json};

/// No new model is worse by so much.
const OPEN_GATES: &str =
    "refresh: { model_gate: { generator_tolerance: 1000, predictor_tolerance: 2 } }\nsearch:";
/// No new model is better by so much.
const CLOSED_GATES: &str =
    "refresh: { model_gate: { generator_tolerance: -1000, predictor_tolerance: -2 } }\nsearch:";

fn project(gates: &str) -> Project {
    let project = Project::new();
    project.edit("search:", gates);
    project
}

/// The record of a refresh that ends with this code.
fn refresh(project: &Project, arguments: &[&str], code: i32) -> Value {
    let arguments = [&["run", "--refresh", "--format", "json"], arguments].concat();
    let output = project.run(&arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{errors}\n{}", project.worker_log());
    serde_json::from_slice(&output.stdout).expect("one JSON document on standard output")
}

async fn store(project: &Project) -> Store {
    Store::open(&project.store(), Access::ReadOnly).await.unwrap()
}

async fn current(project: &Project) -> Snapshot {
    store(project).await.current_snapshot("small").await.unwrap().unwrap()
}

/// Finished tasks by kind.
fn markers(project: &Project) -> BTreeMap<&'static str, usize> {
    let kinds = ["extract-features", "evaluate", "train-episodes", "validate", "search"];
    kinds.map(|kind| (kind, project.count_files(&format!("store/done/{kind}")))).into()
}

#[tokio::test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
async fn a_new_source_costs_only_its_own_work_and_the_next_night_finds_nothing_new() {
    let project = project(OPEN_GATES);
    let first = refresh(&project, &[], 0);
    assert_eq!((&first["outcome"], &first["snapshot"]), (&json!("published"), &json!(1)));
    assert_eq!(first["sources"]["new"], json!(["others", "shapes"]));
    let (rows, done) = (deterministic_tables(&project.store()).await, markers(&project));

    project.add_source("more", "meta", 9, 24);
    let planned = project.run(&["plan", "--refresh", "--format", "json"]);
    let planned: Value = serde_json::from_slice(&planned.stdout).expect("one JSON document");
    assert_eq!((&planned["sources"]["new"], &planned["state"]), (&json!(["more"]), &json!("open")));
    let second = refresh(&project, &[], 0);
    assert_eq!((&second["outcome"], &second["snapshot"]), (&json!("published"), &json!(2)));
    assert_eq!(second["sources"]["new"], json!(["more"]));
    assert_eq!(second["sources"]["unchanged"], json!(["others", "shapes"]));
    let after = markers(&project);
    assert_eq!(after["extract-features"], done["extract-features"] + 2, "two shards of nine classes");
    // Three datasets of four cells in bundles of two, and cells that the new models chose, each alone.
    let measured = after["evaluate"] - done["evaluate"] - 6;
    assert!(measured <= 2, "{measured}");
    assert_eq!(second["tasks"]["evaluate"], json!(6 + measured));
    assert_eq!(second["evaluations"], json!(12 + measured));
    let gates = second["model_gates"].as_array().unwrap();
    assert!(gates.len() == 2 && gates.iter().all(|gate| gate["verdict"] == "accepted"), "{second}");
    assert_eq!(second["trained"].as_array().unwrap().len(), 2);
    let now = deterministic_tables(&project.store()).await;
    for table in ["datasets", "evaluations", "curves", "features"] {
        let missing = rows[table].iter().filter(|row| !now[table].contains(row)).count();
        // A random or chosen cell of the first night that nothing asks for any more is not in the second snapshot.
        assert!(missing == 0 || table == "evaluations" || table == "curves", "{missing} rows of `{table}`");
    }
    let store = store(&project).await;
    let run_id = second["run_id"].as_str().unwrap();
    let kept = store.run_file("small", run_id, "refresh.json").await.unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&kept).unwrap(), second, "what is printed is what is kept");

    let log = project.worker_log();
    let third = refresh(&project, &[], 0);
    assert_eq!((&third["outcome"], &third["snapshot"]), (&json!("unchanged"), &json!(2)));
    assert_eq!((&third["tasks"], &third["trained"]), (&json!({}), &json!([])));
    assert_eq!(markers(&project), after);
    assert_eq!(project.worker_log(), log, "no worker was started");
}

#[tokio::test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
async fn after_missed_nights_the_tables_are_those_of_a_pipeline_that_began_with_everything() {
    let growing = || {
        let project = project(OPEN_GATES);
        project.edit(
            "format: idx, paths: [shapes-images, shapes-labels]",
            "format: cifar10-binary, paths: [shapes]",
        );
        project
    };
    let late = growing();
    late.write("shapes/1.bin", &cifar_records(10, 0..24));
    assert_eq!(refresh(&late, &[], 0)["snapshot"], 1);
    // A night with new pictures, and one with a new target, are missed.
    late.write("shapes/2.bin", &cifar_records(10, 24..30));
    late.add_source("new", "target", 3, 40);
    let record = refresh(&late, &[], 0);
    assert_eq!(record["sources"]["changed"], json!(["shapes"]));
    assert_eq!((&record["sources"]["new"], &record["snapshot"]), (&json!(["new"]), &json!(2)));

    let whole = growing();
    whole.write("shapes/1.bin", &cifar_records(10, 0..24));
    whole.write("shapes/2.bin", &cifar_records(10, 24..30));
    whole.add_source("new", "target", 3, 40);
    refresh(&whole, &[], 0);
    let (found, expected) =
        (deterministic_tables(&late.store()).await, deterministic_tables(&whole.store()).await);
    for (table, rows) in &expected {
        assert_eq!(&found[table], rows, "table `{table}`");
    }
}

#[tokio::test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
async fn a_source_that_is_damaged_or_has_shrunk_stops_the_refresh_and_the_snapshot_stays() {
    let project = project(OPEN_GATES);
    refresh(&project, &[], 0);
    let (before, done) = (current(&project).await, markers(&project));

    project.write("shapes-images", &idx_images(10, 24)[..1_000]);
    let record = refresh(&project, &[], 5);
    assert_eq!((&record["outcome"], &record["snapshot"]), (&json!("refused"), &json!(1)));
    assert_eq!(record["sources"]["unreadable"], json!(["shapes"]));
    assert!(record["data_gate"][0].as_str().unwrap().contains("shapes-images"), "{record}");

    project.write("shapes-images", &idx_images(8, 24));
    project.write("shapes-labels", &idx_labels(8, 24));
    let record = refresh(&project, &[], 5);
    let broken: Vec<&str> =
        record["data_gate"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(
        broken[0].starts_with("source `shapes` has 8 classes where the last snapshot had 10"),
        "{broken:?}"
    );
    assert_eq!(current(&project).await, before);
    assert_eq!(markers(&project), done, "nothing was computed");

    let record = refresh(&project, &["--allow-shrink"], 0);
    assert_eq!((&record["outcome"], &record["snapshot"]), (&json!("published"), &json!(2)));

    // Fewer cells on purpose: the sources are well, but the tables would shrink.
    project.edit("anchors: 2, cells_per_dataset: 2", "anchors: 2, cells_per_dataset: 0");
    let record = refresh(&project, &[], 5);
    assert_eq!((&record["outcome"], &record["snapshot"]), (&json!("refused"), &json!(2)));
    assert!(record["data_gate"][0].as_str().unwrap().starts_with("`evaluations` has"), "{record}");
    assert_eq!(current(&project).await.number, 2);
}

#[tokio::test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
async fn new_data_is_published_with_the_old_models_where_the_new_ones_do_not_pass_their_gates() {
    let project = project(CLOSED_GATES);
    refresh(&project, &[], 0);
    let before = current(&project).await;
    project.add_source("more", "meta", 9, 24);
    let record = refresh(&project, &[], 0);
    assert_eq!(record["outcome"], "published-with-old-models");
    let after = current(&project).await;
    assert_eq!((after.number, &after.models), (2, &before.models));
    assert_eq!(after.rows("evaluations"), before.rows("evaluations") + 12, "the old models choose as before");
    assert_eq!(after.notes.len(), 2);
    for (note, gate) in after.notes.iter().zip(record["model_gates"].as_array().unwrap()) {
        assert_eq!((&gate["verdict"], &gate["kept_of_snapshot"]), (&json!("rejected"), &json!(1)));
        assert!(
            note.contains("did not pass its gate: against snapshot 1, over 2 meta-valid datasets"),
            "{note}"
        );
    }
    let again = refresh(&project, &[], 0);
    assert_eq!((&again["outcome"], &again["snapshot"]), (&json!("unchanged"), &json!(2)));

    // A person who has looked at the figures may publish the new models all the same; the next night leaves them.
    assert!(project.run(&["run"]).status.success());
    let chosen = current(&project).await;
    assert_eq!(chosen.number, 3);
    assert!(chosen.models.iter().all(|(model, id)| after.models[model] != *id));
    assert_eq!(refresh(&project, &[], 0)["outcome"], "unchanged");
}

#[tokio::test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
async fn a_warm_training_starts_from_the_published_models_and_says_so() {
    let project = project(OPEN_GATES);
    refresh(&project, &[], 0);
    let parents = current(&project).await.models;
    project.edit("cells_per_dataset: 2", "cells_per_dataset: 3");
    let record = refresh(&project, &["--warm-start"], 0);
    let models = current(&project).await.models;
    for trained in record["trained"].as_array().unwrap() {
        let model = trained["model"].as_str().unwrap();
        assert_eq!(trained["started_from"], json!(parents[model]));
        let published = store(&project).await.model("small", model, &models[model]).await.unwrap().unwrap();
        assert_eq!(published.parents, [parents[model].clone()]);
    }
    assert_eq!(record["trained"].as_array().unwrap().len(), 2);
    assert_eq!(refresh(&project, &["--warm-start"], 0)["outcome"], "unchanged");
}

#[tokio::test]
#[ignore = "needs the built programs: scripts/test.sh"]
async fn a_refresh_beside_another_names_the_holder_and_leaves_with_a_code_of_its_own() {
    let project = Project::new();
    let queue = format!("sqlite:{}", project.path().join("queue.sqlite").display());
    let queue = metad2a_queue::open(&queue).await.unwrap();
    let Leadership::Held(guard) = queue.lead("small", "the night watch").await.unwrap() else {
        panic!("nobody else leads")
    };
    let record = refresh(&project, &[], 4);
    assert_eq!(record["outcome"], "held-by-another");
    let reason = record["reason"].as_str().unwrap();
    assert_eq!(reason, "pipeline `small` is being run by the night watch; nothing was done");
    assert_eq!(project.count_files("store/small"), 0);
    guard.release().await;
    queue.close().await.unwrap();
}
