//! How fast the machinery around the work is: real supervisors take, commit and acknowledge tasks whose computation does
//! nothing.
//!
//! ```text
//! scripts/services/with-broker.sh cargo run --release -p metad2a-worker --example empty_tasks -- --tasks 10000 --workers 4
//! ```
//!
//! The supervisor starts its own program with the subcommand `compute`; here that is this file, which answers every job
//! at once with a result without files. Markers, decisions, events and acknowledgements are those of a real run.

use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Parser;
use metad2a_database::{Access, Store};
use metad2a_queue::{Class, Lane, Message, Urgency};
use metad2a_worker::cli;
use metad2a_worker::protocol::{Finished, Report};
use serde_json::json;

const PIPELINE: &str = "empty-tasks";

#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long, env = "METAD2A_TEST_AMQP_URL", hide_env_values = true)]
    queue: String,
    /// [default: a local folder that goes away]
    #[arg(long)]
    store: Option<String>,
    #[arg(long, default_value_t = 10_000)]
    tasks: u32,
    /// Supervisors, each a process with one slot.
    #[arg(long, default_value_t = 4)]
    workers: usize,
}

fn main() -> anyhow::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("compute") => compute(),
        Some("worker") => {
            let arguments = cli::Arguments::parse_from(std::env::args().skip(1));
            arguments.start_logging();
            arguments.supervise()
        }
        _ => measure(&Arguments::parse()),
    }
}

/// Answers every line with a finished task.
fn compute() -> anyhow::Result<()> {
    let mut output = std::io::stdout().lock();
    let mut say = |report: &Report| -> anyhow::Result<()> {
        writeln!(output, "{}", serde_json::to_string(report)?)?;
        Ok(output.flush()?)
    };
    say(&Report::Ready { device: "none".into(), gpu: false })?;
    let summary: metad2a_pipeline::tasks::Summary =
        serde_json::from_value(json!({ "kind": "features", "pictures": 0 }))?;
    for line in std::io::stdin().lock().lines() {
        line?;
        let finished = Finished { files: Vec::new(), units: Vec::new(), summary: summary.clone() };
        say(&Report::Finished(Box::new(finished)))?;
    }
    Ok(())
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "an example's result")]
async fn measure(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let local = format!("file:{}", folder.path().join("store").display());
    let url = arguments.store.clone().unwrap_or(local);
    let store = Store::open(&url, Access::ReadWrite).await?;
    let queue = metad2a_queue::open(&arguments.queue).await?;
    let lane = Lane::new(PIPELINE, metad2a_pipeline::envelope::dialect(), Class::Gpu, Urgency::Normal);
    queue.purge(&lane).await?;

    let messages = (0..arguments.tasks).map(message).collect::<anyhow::Result<Vec<Message>>>()?;
    let clock = Instant::now();
    queue.publish(&lane, &messages).await?;
    let published = clock.elapsed();

    let mut workers = Vec::new();
    for number in 0..arguments.workers {
        let log = folder.path().join(format!("worker-{number}.log"));
        workers.push(worker(&arguments.queue, &url, &log)?);
    }
    let clock = Instant::now();
    let mut done = 0;
    while done < arguments.tasks as usize {
        tokio::time::sleep(Duration::from_millis(500)).await;
        done = store.done_ids("extract-features").await?.len();
        for worker in &mut workers {
            if let Some(status) = worker.try_wait()? {
                bail!("a worker ended ({status})");
            }
        }
    }
    let seconds = clock.elapsed().as_secs_f64();
    for mut worker in workers {
        drop(worker.stdin.take());
        worker.wait()?;
    }
    let left = queue.ready(&lane).await?;
    queue.close().await?;
    println!(
        "{} tasks, {} workers: published in {:.1} s; taken, committed and acknowledged in {seconds:.1} s, {:.0} a second; {left} left",
        arguments.tasks,
        arguments.workers,
        published.as_secs_f64(),
        f64::from(arguments.tasks) / seconds,
    );
    Ok(())
}

/// A task that differs from the others by its class only.
fn message(number: u32) -> anyhow::Result<Message> {
    let envelope: metad2a_pipeline::envelope::Envelope = serde_json::from_value(json!({
        "task": {
            "kind": "extract-features",
            "source": "none",
            "classes": [number],
            "fractions": { "train": 1.0, "valid": 0.0, "test": 0.0 },
            "images_per_class": 1,
            "extractor": { "kind": "resnet18", "weights_sha256": "00".repeat(32), "image_size": 32 },
        },
        "sources": {},
        "weights": {},
        "failures": [],
        "max_attempts": 3,
        "patience_seconds": 60,
    }))?;
    Ok(Message::new(envelope.task.id(), envelope.encode()))
}

fn worker(queue: &str, store: &str, log: &Path) -> anyhow::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["worker", "--pipeline", PIPELINE, "--slots", "1", "--device", "cpu", "--exit-with-parent"])
        .env("METAD2A_QUEUE", queue)
        .env("METAD2A_STORE", store)
        .stdin(Stdio::piped())
        .stderr(std::fs::File::create(log)?)
        .spawn()
        .context("cannot start a worker")
}
