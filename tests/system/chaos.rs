//! Everything dies, again and again, over RabbitMQ and S3; the run finishes with the tables of a calm one.

use std::time::Duration;

use metad2a_tests::chaos::{self, Violence};
use metad2a_tests::{DETERMINISTIC_TABLES, Project, deterministic_tables};

/// Some hundred tasks in all.
const CELLS: usize = 25;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the built programs, the extractor's weights, RabbitMQ and an S3 server: scripts/test.sh"]
async fn a_run_over_a_dying_cluster_leaves_the_tables_of_a_calm_one() {
    let calm = Project::with_cells(CELLS);
    let output = calm.run(&["run"]);
    assert!(output.status.success(), "{}\n{}", String::from_utf8_lossy(&output.stderr), calm.worker_log());
    let expected = deterministic_tables(&calm.store()).await;
    assert_eq!(expected.len(), DETERMINISTIC_TABLES);
    let tasks = calm.committed().await;

    let seed = u64::from(std::process::id());
    let violence = Violence {
        seed,
        workers: 3,
        broker_kills: 2,
        coordinator_kills: 2,
        bad_times: 1,
        outages: 0,
        outage: Duration::ZERO,
        worker_gap: Duration::from_secs(3),
    };
    println!("seed {seed}; scripts/chaos.sh --seed {seed} repeats the blows in a longer run");
    let project = Project::with_cells(CELLS);
    let aftermath = chaos::run(&project, &violence, tasks, Duration::from_mins(8)).await;
    println!("{aftermath:#?}");
    assert!(aftermath.faults > 0, "the store never failed");
    aftermath.judge(&expected).await.unwrap_or_else(|wrong| panic!("seed {seed}: {wrong}"));
}
