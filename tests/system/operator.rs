//! The operator's commands around real runs.

use std::process::Output;
use std::time::{Duration, Instant};

use metad2a_database::{Access, Store};
use metad2a_tests::{Project, deterministic_tables};
use serde_json::Value;

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// One JSON document on standard output, and the exit code.
fn json(project: &Project, arguments: &[&str]) -> (Value, i32) {
    let output = project.run(&[arguments, &["--format", "json"]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    let document = serde_json::from_slice(&output.stdout);
    let document = document.unwrap_or_else(|_| panic!("{}{errors}{}", out(&output), project.worker_log()));
    (document, output.status.code().unwrap())
}

/// Looks again and again until it is so, and fails after a time that no machine needs.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_mins(2);
    while !is_so() {
        assert!(Instant::now() < patience, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
fn a_run_in_the_background_is_watched_to_its_end() {
    let project = Project::new();
    let (before, code) = json(&project, &["status"]);
    assert_eq!((before["state"].as_str(), code), (Some("open"), 0));
    assert!(!project.path().join("store").exists() && !project.path().join("queue.sqlite").exists());

    let (started, code) = json(&project, &["run", "--detach"]);
    assert_eq!(code, 0);
    let log = std::path::PathBuf::from(started["log"].as_str().unwrap());
    assert!(log.starts_with(project.path().join("logs")), "{}", log.display());

    // A second one does not lead, says so, and hands its exit code on.
    let second = project.run(&["run", "--detach"]);
    assert_eq!(second.status.code(), Some(4));
    let process = format!("is being run by process {}", started["process"]);
    assert!(String::from_utf8_lossy(&second.stderr).contains(&process), "{second:?}");

    let (state, _) = json(&project, &["status"]);
    assert_eq!(state["state"], "running", "{state}");
    assert_eq!(state["run"]["run_id"], started["run_id"]);

    let watched = project.run(&["watch"]);
    let errors = String::from_utf8_lossy(&watched.stderr);
    assert_eq!(watched.status.code(), Some(0), "{errors}");
    assert!(errors.contains("the run has ended: done"), "{errors}");
    assert!(out(&watched).contains("measurements: 4 of 4 trainings"), "{}", out(&watched));
    // The run in the background reports in the form that was asked for.
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(told.contains("\"snapshot\": 1"), "{told}");

    let (after, _) = json(&project, &["status"]);
    assert_eq!((after["state"].as_str(), after["leader"].as_str()), (Some("finished"), None));
    assert_eq!(after["snapshots"][0]["number"], 1);
    assert_eq!(project.run(&["watch"]).status.code(), Some(1), "nothing is running any more");
}

#[test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
fn a_running_coordinator_leaves_cancelled_tasks_alone_and_takes_them_up_after_a_retry() {
    let project = Project::new();
    // Long enough to be met at work.
    project.edit("epochs: 2", "epochs: 400");
    let (started, _) = json(&project, &["run", "--detach"]);
    until("a training is at work", || {
        let (state, _) = json(&project, &["status"]);
        let workers = state["workers"].as_array().unwrap().clone();
        workers.iter().any(|worker| worker["busy"]["kind"] == "evaluate")
    });
    let (cancelled, code) = json(&project, &["tasks", "cancel", "--stage", "evaluations"]);
    assert_eq!(code, 0, "{cancelled}");
    let decided = cancelled["decided"].as_array().unwrap().len();
    assert!(decided > 0);
    // All trainings are set aside, so that nothing can be learnt: the run ends by itself, without failures.
    let watched = project.run(&["watch"]);
    assert_eq!(watched.status.code(), Some(1), "{watched:?}");
    let (failed, _) = json(&project, &["tasks", "list", "--state", "failed"]);
    assert_eq!(failed["total"], 0);
    let (list, _) = json(&project, &["tasks", "list", "--state", "cancelled"]);
    assert_eq!(list["total"], decided);
    until("the worker left with its coordinator", || {
        let process = started["process"].as_u64().unwrap();
        !std::path::Path::new(&format!("/proc/{process}")).exists()
    });

    // Retried by the first letters of their ids, and finished at a quicker recipe's pace by nobody: only planned.
    let ids: Vec<String> = list["tasks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["id"].as_str().unwrap()[..16].to_owned())
        .collect();
    let retry: Vec<&str> = ["tasks", "retry"].into_iter().chain(ids.iter().map(String::as_str)).collect();
    let (retried, code) = json(&project, &retry);
    assert_eq!((retried["decided"].as_array().unwrap().len(), code), (decided, 0));
    let (open, _) = json(&project, &["tasks", "list", "--state", "open", "--kind", "evaluate"]);
    assert_eq!(open["total"], decided);
    let (refused, code) = json(&project, &["tasks", "retry", &ids[0]]);
    assert_eq!((refused["refused"].as_array().unwrap().len(), code), (1, 1));
}

#[test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
fn dead_letters_are_listed_shown_dropped_and_retried() {
    let project = Project::new();
    // Four pictures of each class: too few to train on.
    project.write("others-images", &metad2a_tests::idx_images(4, 4));
    project.write("others-labels", &metad2a_tests::idx_labels(4, 4));
    assert_eq!(project.run(&["run"]).status.code(), Some(3));

    let (listing, _) = json(&project, &["dead-letters", "list"]);
    let letters = listing["dead_letters"].as_array().unwrap();
    assert!(!letters.is_empty());
    assert_eq!(listing["copies_in_queue"], letters.len());
    let id = letters[0]["id"].as_str().unwrap();
    assert_eq!(letters[0]["pipeline"], "small");
    let (shown, _) = json(&project, &["dead-letters", "show", &id[..8]]);
    assert_eq!((shown["state"].as_str(), shown["id"].as_str()), (Some("failed"), Some(id)));
    assert!(shown["task"].is_object() && !shown["decisions"][0]["detail"]["reasons"][0].is_null(), "{shown}");

    let (dropped, code) = json(&project, &["dead-letters", "drop", "--all"]);
    assert_eq!((dropped["decided"].as_array().unwrap().len(), code), (letters.len(), 0));
    assert_eq!(dropped["dead_letters_removed"], letters.len());
    let (listing, _) = json(&project, &["dead-letters", "list"]);
    assert_eq!(
        (&listing["dead_letters"], &listing["copies_in_queue"]),
        (&Value::from([0; 0].to_vec()), &0.into())
    );
    assert_eq!(project.run(&["run"]).status.code(), Some(0), "a final failure asks for nothing");

    let (retried, code) = json(&project, &["tasks", "retry", id]);
    assert_eq!((retried["decided"][0]["id"].as_str(), code), (Some(id), 0));
    assert_eq!(project.run(&["run"]).status.code(), Some(3), "it is tried again, and fails again");
}

#[tokio::test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
async fn a_collection_leaves_everything_that_is_needed() {
    let project = Project::new();
    assert_eq!(project.run(&["run"]).status.code(), Some(0));
    let before = deterministic_tables(&project.store()).await;
    let (young, _) = json(&project, &["gc", "--delete"]);
    assert_eq!(young["garbage"], Value::Array(Vec::new()), "nothing is a day old");

    let (looked, _) = json(&project, &["gc", "--grace-seconds", "0"]);
    let found = looked["garbage"].as_array().unwrap().len();
    assert!(found > 0 && looked["removed"]["objects"] == 0, "{looked}");
    let (collected, code) = json(&project, &["gc", "--grace-seconds", "0", "--delete"]);
    assert_eq!((collected["removed"]["objects"].as_u64(), code), (Some(found as u64), 0));
    assert_eq!(deterministic_tables(&project.store()).await, before);

    // Everything that a later run builds on is still there: it computes only what is missing, and publishes.
    let store = Store::open(&project.store(), Access::ReadOnly).await.unwrap();
    let trained = store.done_ids("evaluate").await.unwrap();
    project.edit("cells_per_dataset: 2", "cells_per_dataset: 3");
    let again = project.run(&["run"]);
    assert_eq!(again.status.code(), Some(0), "{}", String::from_utf8_lossy(&again.stderr));
    let after = store.done_ids("evaluate").await.unwrap();
    assert!(trained.iter().all(|id| after.contains(id)) && after.len() > trained.len());
}

#[test]
#[ignore = "needs the built programs and the extractor's weights: scripts/test.sh"]
fn a_doctor_finds_a_small_pipeline_well_and_names_what_is_wrong() {
    let project = Project::new();
    let (findings, code) = json(&project, &["doctor"]);
    let of = |findings: &Value, thing: &str| {
        let all = findings.as_array().unwrap();
        let found = all.iter().find(|finding| finding["thing"] == thing);
        found.unwrap_or_else(|| panic!("no `{thing}` in {findings}")).clone()
    };
    assert_eq!(code, 0, "{findings}");
    for thing in ["worker", "worker's device", "source `shapes`", "weights", "store", "queue"] {
        assert_eq!(of(&findings, thing)["health"], "ok", "{findings}");
    }
    assert!(!project.path().join("store").exists() && !project.path().join("queue.sqlite").exists());

    project.write("shapes-images", b"no pictures");
    project.edit("queue: sqlite:queue.sqlite", "queue: amqp://127.0.0.1:1/");
    let (findings, code) = json(&project, &["doctor"]);
    assert_eq!(code, 1);
    for thing in ["source `shapes`", "queue"] {
        let finding = of(&findings, thing);
        assert_eq!(finding["health"], "fail", "{findings}");
        assert!(finding["mend"].is_string());
    }
}
