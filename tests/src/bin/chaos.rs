//! Chaos runs with more than 300 tasks, one seed after the other, for some minutes. `scripts/chaos.sh` sets up what
//! they need.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use metad2a_tests::chaos::{self, Violence};
use metad2a_tests::{Project, deterministic_tables};

/// Three datasets' trainings make more than 300 tasks.
const CELLS: usize = 100;

#[derive(Debug, Parser)]
#[command(
    about = "Kills broker, coordinator and workers again and again, and compares the tables with a calm run's."
)]
struct Arguments {
    /// The first run's seed; the next runs take the next numbers. A seed repeats its blows.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// No new run starts after so many minutes.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "the report of a program")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let end = Instant::now() + Duration::from_secs(60 * arguments.minutes);
    let calm = Project::with_cells(CELLS);
    let output = calm.run(&["run"]);
    if !output.status.success() {
        println!("the calm run failed: {}\n{}", String::from_utf8_lossy(&output.stderr), calm.worker_log());
        return ExitCode::FAILURE;
    }
    let expected = deterministic_tables(&calm.store()).await;
    let tasks = calm.committed().await;
    println!("a calm run commits {tasks} tasks; the chaos begins");
    for seed in arguments.seed.. {
        println!("seed {seed} …");
        let violence = Violence {
            seed,
            workers: 4,
            broker_kills: 3,
            coordinator_kills: 4,
            bad_times: 3,
            outages: 2,
            outage: Duration::from_mins(1),
            worker_gap: Duration::from_secs(4),
        };
        let aftermath =
            chaos::run(&Project::with_cells(CELLS), &violence, tasks, Duration::from_hours(1)).await;
        println!("{aftermath:#?}");
        if let Err(wrong) = aftermath.judge(&expected).await {
            println!("seed {seed} failed; `scripts/chaos.sh --seed {seed}` repeats its blows\n{wrong}");
            return ExitCode::FAILURE;
        }
        println!("seed {seed}: all tables are those of the calm run");
        if Instant::now() >= end {
            break;
        }
    }
    ExitCode::SUCCESS
}
