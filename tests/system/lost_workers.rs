//! What becomes of the tasks of a worker that is gone.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use metad2a_tests::{Cluster, Process, Project};

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
