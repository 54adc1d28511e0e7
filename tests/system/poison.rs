//! A task that takes its compute process down whenever it runs.

use std::time::{Duration, Instant};

use metad2a_database::{Access, Store};
use metad2a_tests::{Cluster, Process, Project, service};
use rustix::process::{Signal, kill_process};

/// Far more than this takes; only a broken program waits so long.
const LONGEST: Duration = Duration::from_mins(5);
const LOOK: Duration = Duration::from_millis(100);
const ATTEMPTS: usize = 2;

/// Whether the last thing that the worker's only slot tells is the start of an evaluation.
fn is_evaluating(worker: &Process) -> bool {
    let log = worker.log();
    let last = log.lines().rfind(|line| line.contains("metad2a_worker::supervisor"));
    last.is_some_and(|line| line.contains(": started ") && line.contains("kind=\"evaluate\""))
}

#[tokio::test]
#[ignore = "needs the built programs, the extractor's weights and RabbitMQ: scripts/test.sh"]
async fn a_task_that_always_crashes_becomes_a_dead_letter_with_its_reasons_and_all_others_finish() {
    let mut project = Project::new();
    project.rename();
    // The measurement of the chosen and of the random cell: two trainings without an end.
    project.edit(
        "evaluations: {",
        "  endless: { epochs: 100000, batch_size: 16, channels: 4, cells_per_stage: 1, image_size: 8 }\nevaluations: {",
    );
    project.edit("search: { recipe: tiny", "search: { recipe: endless");
    project.edit("chosen: 2, random: 2", "chosen: 1, random: 1");
    project.edit("seed: 7", &format!("seed: 7\npatience: {{ max_attempts: {ATTEMPTS} }}"));
    let cluster = Cluster::shared(&project);
    let mut coordinator = cluster.coordinator(&project);
    let mut workers: Vec<Process> =
        (0..2).map(|number| cluster.worker(&project, &format!("worker-{number}"), 1)).collect();
    coordinator.start();
    workers.iter_mut().for_each(Process::start);

    let store = Store::open(&project.store(), Access::ReadWrite).await.unwrap();
    let started = Instant::now();
    let mut kills = 0;
    let status = loop {
        if let Some(status) = coordinator.ended() {
            break status;
        }
        assert!(started.elapsed() < LONGEST, "after {kills} kills: {}", coordinator.last_lines(20));
        // Once the search is done, every evaluation is an endless one.
        if !store.done_ids("search").await.unwrap().is_empty() {
            for worker in workers.iter().filter(|worker| is_evaluating(worker)) {
                for compute in worker.children() {
                    // It may be gone already, and the worker about to say so.
                    kills += usize::from(kill_process(compute, Signal::KILL).is_ok());
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    };

    assert_eq!(status.code(), Some(3), "{}", coordinator.last_lines(20));
    let decisions = store.all_decisions().await.unwrap();
    let failed: Vec<_> = decisions.values().filter(|decision| decision.decision == "failed").collect();
    assert_eq!(failed.len(), 2, "{failed:#?}");
    for decision in &failed {
        let reasons = decision.detail["reasons"].as_array().unwrap();
        assert_eq!(reasons.len(), ATTEMPTS, "{decision:?}");
        assert!(reasons.iter().all(|reason| reason.as_str().unwrap().contains("signal 9")), "{decision:?}");
        assert_eq!(decision.detail["task"]["kind"], "evaluate");
    }
    let queue = metad2a_queue::open(&service("METAD2A_TEST_AMQP_URL")).await.unwrap();
    assert_eq!(queue.dead_letters(project.pipeline()).await.unwrap(), 2);
    queue.close().await.unwrap();

    let snapshot = store.current_snapshot(project.pipeline()).await.unwrap();
    assert!(snapshot.is_some(), "everything that did not need the crashing cells is published");
    let plan = project.command(&["plan", "--format", "json"]).output().unwrap();
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    for (stage, counts) in plan["stages"].as_object().unwrap() {
        let lost = if stage == "measurements" { 2 } else { 0 };
        assert_eq!(counts["failed"], lost, "{stage}: {plan}");
        assert_eq!(
            counts["done"].as_u64().unwrap() + lost,
            counts["total"].as_u64().unwrap(),
            "{stage}: {plan}"
        );
    }
    println!("{kills} compute processes were killed");
}
