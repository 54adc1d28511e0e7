//! What becomes of tasks whose worker is gone, or whose messages are.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use metad2a_tests::{Cluster, Process, Project, lanes, service};

/// Far more than any of this takes; only a broken program waits so long.
const LONGEST: Duration = Duration::from_mins(2);
/// Redelivery takes milliseconds. Waiting for a reconcile, a lease or a heartbeat takes this long or longer.
const REDELIVERED_WITHIN: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(20);

/// Ids of the evaluations that a worker says it has started.
fn evaluations_started_by(worker: &Process) -> BTreeSet<String> {
    let log = worker.log();
    let started =
        log.lines().filter(|line| line.contains(": started ") && line.contains("kind=\"evaluate\""));
    started.filter_map(|line| Some(line.split_once("task=\"")?.1.split_once('"')?.0.to_owned())).collect()
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < LONGEST, "{what} does not come");
        std::thread::sleep(LOOK);
    }
}

#[test]
#[ignore = "needs the built programs, the extractor's weights and RabbitMQ: scripts/test.sh"]
fn the_task_of_a_killed_worker_runs_elsewhere_within_ten_seconds() {
    let mut project = Project::new();
    project.rename();
    // One bundle for each of the three datasets, and none ever ends.
    project.edit("epochs: 2", "epochs: 100000");
    project.edit("bundle: 2", "bundle: 8");
    let cluster = Cluster::shared(&project);
    let mut coordinator = cluster.coordinator(&project);
    let (mut lost, mut idle) = (cluster.worker(&project, "lost", 3), cluster.worker(&project, "idle", 1));
    coordinator.start();
    lost.start();
    wait_until("the work on all three bundles", || evaluations_started_by(&lost).len() == 3);
    idle.start();
    wait_until("a second worker", || idle.log().contains("ready for tasks"));
    assert!(evaluations_started_by(&idle).is_empty(), "there was a fourth bundle\n{}", idle.log());

    lost.kill();
    let killed = Instant::now();
    wait_until("another worker's turn", || !evaluations_started_by(&idle).is_empty());
    let waited = killed.elapsed();
    println!("running again after {waited:?}");
    assert!(evaluations_started_by(&idle).is_subset(&evaluations_started_by(&lost)));
    assert!(waited < REDELIVERED_WITHIN, "running again only after {waited:?}");
}

#[tokio::test]
#[ignore = "needs the built programs, the extractor's weights and RabbitMQ: scripts/test.sh"]
async fn messages_that_the_broker_lost_are_published_again() {
    let mut project = Project::new();
    project.rename();
    project.edit("seed: 7", "seed: 7\npatience: { no_progress_seconds: 5 }");
    let cluster = Cluster::shared(&project);
    let mut coordinator = cluster.coordinator(&project);
    let mut worker = cluster.worker(&project, "worker", 1);
    coordinator.start();
    // As a broker does that comes back with an empty disk, or gives up messages that were given out too often.
    let queue = metad2a_queue::open(&service("METAD2A_TEST_AMQP_URL")).await.unwrap();
    let mut lost = 0;
    while lost == 0 {
        for lane in lanes(&project) {
            lost += queue.purge(&lane).await.unwrap();
        }
        assert!(coordinator.ended().is_none(), "{}", coordinator.last_lines(20));
        tokio::time::sleep(LOOK).await;
    }
    worker.start();
    let started = Instant::now();
    let status = loop {
        if let Some(status) = coordinator.ended() {
            break status;
        }
        assert!(
            started.elapsed() < LONGEST,
            "{lost} lost messages stay lost\n{}",
            coordinator.last_lines(20)
        );
        tokio::time::sleep(LOOK).await;
    };
    assert!(status.success(), "{}", coordinator.last_lines(20));
    assert!(coordinator.log().contains("a task was lost"), "{}", coordinator.log());
    queue.close().await.unwrap();
}
