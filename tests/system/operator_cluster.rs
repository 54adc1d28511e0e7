//! The operator's commands where a pipeline runs on RabbitMQ and an object store.

use std::process::Output;
use std::time::{Duration, Instant};

use metad2a_tests::{Cluster, Process, Project, deterministic_tables_of};
use rustix::process::{Pid, Signal};
use serde_json::Value;

/// Far more than any of this takes; only a broken program waits so long.
const LONGEST: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(50);

/// A pipeline of its own on the services that all tests share, with one worker.
struct Site {
    project: Project,
    cluster: Cluster,
    worker: Process,
}

impl Site {
    fn new(change: impl FnOnce(&Project)) -> Self {
        let mut project = Project::new();
        project.rename();
        change(&project);
        let cluster = Cluster::services(&project);
        let worker = cluster.worker(&project, "worker", 1);
        Self { project, cluster, worker }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.cluster.command(&self.project, arguments).output().expect("the program starts")
    }

    /// One JSON document on standard output, and the exit code.
    fn json(&self, arguments: &[&str]) -> (Value, i32) {
        let output = self.run(&[arguments, &["--format", "json"]].concat());
        let document = serde_json::from_slice(&output.stdout);
        let document = document.unwrap_or_else(|_| panic!("{output:?}\n{}", self.worker.last_lines(20)));
        (document, output.status.code().unwrap())
    }

    /// The training that the worker is at, as far as the leader knows.
    fn training_at_work(&self) -> Option<String> {
        let (state, _) = self.json(&["status"]);
        let busy = state["workers"].as_array()?.iter().map(|worker| &worker["busy"]);
        let mut trainings = busy.filter(|busy| busy["kind"] == "evaluate");
        Some(trainings.next()?["id"].as_str().unwrap().to_owned())
    }

    fn count(&self, state: &str) -> u64 {
        self.json(&["tasks", "list", "--state", state]).0["total"].as_u64().unwrap()
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LONGEST, "{what}");
        std::thread::sleep(LOOK);
    }
}

/// A run in the background, which a failed test must not leave behind.
struct Detached(Pid);

impl Detached {
    fn is_alive(&self) -> bool {
        rustix::process::test_kill_process(self.0).is_ok()
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.0, Signal::KILL);
    }
}

#[test]
#[ignore = "needs the built programs, the extractor's weights, RabbitMQ and an S3 server: scripts/test.sh"]
fn on_a_cluster_a_cancelled_task_frees_its_worker_and_a_retried_one_is_waited_for_again() {
    // No training ever ends by itself.
    let mut site = Site::new(|project| project.edit("epochs: 2", "epochs: 100000"));
    site.worker.start();
    let (started, code) = site.json(&["run", "--detach", "--workers", "0", "--log-file", "run.log"]);
    let process = i32::try_from(started["process"].as_u64().unwrap()).unwrap();
    let run = Detached(Pid::from_raw(process).unwrap());
    assert_eq!((code, started["log"].as_str()), (0, Some("run.log")));
    let second = site.run(&["run", "--detach", "--log-file", "second.log"]);
    let errors = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(4), "{errors}");
    assert!(errors.contains(&format!("is being run by process {process}")), "{errors}");
    let refused = site.run(&["gc", "--delete"]);
    let errors = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(4) && errors.contains("nothing is removed meanwhile"), "{errors}");

    let mut cancelled = None;
    until("no training begins", || {
        cancelled = site.training_at_work();
        cancelled.is_some()
    });
    let cancelled = cancelled.unwrap();
    let (answer, code) = site.json(&["tasks", "cancel", &cancelled[..12]]);
    assert_eq!((code, answer["decided"][0]["id"].as_str()), (0, Some(&*cancelled)), "{answer}");
    until("the worker stays with what was cancelled", || {
        site.training_at_work().is_some_and(|training| training != cancelled)
    });
    assert!(site.worker.log().contains("abandoned"), "{}", site.worker.log());
    assert_eq!(site.count("cancelled"), 1);
    let (state, _) = site.json(&["status"]);
    assert_eq!((&state["state"], &state["run"]["run_id"]), (&"running".into(), &started["run_id"]));

    let (answer, code) = site.json(&["tasks", "retry", &cancelled[..12]]);
    assert_eq!((code, answer["decided"][0]["id"].as_str()), (0, Some(&*cancelled)), "{answer}");
    assert_eq!(site.count("cancelled"), 0);
    until("the run does not take up what is to be tried again", || {
        let (list, _) = site.json(&["tasks", "list", "--state", "in-flight", "--kind", "evaluate"]);
        list["tasks"].as_array().unwrap().iter().any(|task| task["id"] == *cancelled)
    });

    let (answer, code) = site.json(&["tasks", "cancel", "--all"]);
    assert_eq!(code, 0, "{answer}");
    until("the run does not end, although nothing can be learnt", || !run.is_alive());
    assert_eq!((site.count("failed"), site.count("in-flight")), (0, 0));
}

#[tokio::test]
#[ignore = "needs the built programs, the extractor's weights, RabbitMQ and an S3 server: scripts/test.sh"]
async fn on_a_cluster_failures_garbage_and_health_are_looked_at_and_dealt_with() {
    // Four pictures of each target class: too few to train on.
    let mut site = Site::new(|project| {
        project.write("others-images", &metad2a_tests::idx_images(4, 4));
        project.write("others-labels", &metad2a_tests::idx_labels(4, 4));
    });
    let (findings, code) = site.json(&["doctor"]);
    let is_sound = |thing: &str| {
        let found = findings.as_array().unwrap().iter().find(|finding| finding["thing"] == thing);
        found.is_some_and(|finding| finding["health"] != "fail")
    };
    assert!(code == 0 && is_sound("queue") && is_sound("queue's rights") && is_sound("store"), "{findings}");

    site.worker.start();
    let run = ["run", "--workers", "0"];
    assert_eq!(site.run(&run).status.code(), Some(3), "{}", site.worker.last_lines(20));
    let (listing, _) = site.json(&["dead-letters", "list"]);
    let letters = listing["dead_letters"].as_array().unwrap().clone();
    assert!(!letters.is_empty());
    assert_eq!(listing["copies_in_queue"], letters.len(), "{listing}");
    let id = letters[0]["id"].as_str().unwrap();
    let (shown, _) = site.json(&["dead-letters", "show", &id[..8]]);
    assert_eq!((shown["state"].as_str(), shown["id"].as_str()), (Some("failed"), Some(id)));

    let (retried, code) = site.json(&["dead-letters", "retry", id]);
    assert_eq!((code, retried["decided"][0]["id"].as_str()), (0, Some(id)), "{retried}");
    assert_eq!(site.run(&run).status.code(), Some(3), "it is tried again, and fails again");
    let (listing, _) = site.json(&["dead-letters", "list"]);
    assert_eq!(listing["dead_letters"].as_array().unwrap().len(), letters.len());

    let (dropped, code) = site.json(&["dead-letters", "drop", "--all"]);
    assert_eq!((code, dropped["decided"].as_array().unwrap().len()), (0, letters.len()), "{dropped}");
    assert_eq!(dropped["dead_letters_removed"], listing["copies_in_queue"]);
    let (listing, _) = site.json(&["dead-letters", "list"]);
    assert_eq!(
        (listing["dead_letters"].as_array().unwrap().len(), &listing["copies_in_queue"]),
        (0, &0.into())
    );
    assert_eq!(site.run(&run).status.code(), Some(0), "a final failure asks for nothing");

    let pipeline = site.project.pipeline();
    let before = deterministic_tables_of(&site.cluster.store, pipeline).await;
    let (young, _) = site.json(&["gc", "--delete"]);
    assert_eq!(young["garbage"], Value::Array(Vec::new()), "nothing is a day old");
    let (looked, _) = site.json(&["gc", "--grace-seconds", "0", "--keep", "1"]);
    let found = looked["garbage"].as_array().unwrap().len();
    assert!(found > 0 && looked["removed"]["objects"] == 0, "{looked}");
    let (collected, code) = site.json(&["gc", "--grace-seconds", "0", "--keep", "1", "--delete"]);
    assert_eq!((code, collected["removed"]["objects"].as_u64()), (0, Some(found as u64)), "{collected}");
    let (nothing, _) = site.json(&["gc", "--grace-seconds", "0", "--keep", "1"]);
    assert_eq!(nothing["garbage"], Value::Array(Vec::new()));
    assert_eq!(deterministic_tables_of(&site.cluster.store, pipeline).await, before);
    assert_eq!(site.run(&run).status.code(), Some(0), "everything that is needed is still there");
}
