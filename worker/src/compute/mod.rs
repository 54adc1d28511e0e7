//! The compute process: one job after another from standard input, reports on standard output.
//!
//! A job ends when it is finished, or when its slice is over: after the time that it was given, or when the supervisor
//! says so on standard input. It then leaves a checkpoint, from which another process goes on to the same numbers.
//!
//! Deliberately absent: the queue, markers, decisions and the records of checkpoints. A process that dies leaves at most
//! data files that nothing names. Also absent are signal handlers: libtorch's threads would meet them.

mod bundle;
mod checkpoints;
mod error;
mod evaluate;
mod extract;
mod imported_rows;
mod inputs;
mod look;
mod memory;
mod models;
mod race;
mod search;
mod settings;
mod slice;
#[cfg(test)]
mod tests;
mod train;
mod training_data;
mod unit_failures;
mod unit_rows;
mod validate;

use std::io::{BufRead, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context;
use metad2a_database::{Access, Store};
use metad2a_pipeline::tasks::Task;
use tch::Device;
use tokio::runtime::Runtime;

use crate::cli::ComputeArguments;
use crate::device;
use crate::protocol::{Job, Order, Outcome, Report};
use error::{is_out_of_reach, is_permanent};
use evaluate::{EvaluationBatches, PreparedDataset};
use inputs::{ExtractorCache, PictureCache};
use slice::Pauses;
pub use slice::Slice;
use training_data::TrainingDataCache;

/// The supervisor only needs to see that there is progress.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// Serves jobs until standard input ends, which it does when the supervisor does.
pub fn serve(arguments: &ComputeArguments) -> anyhow::Result<()> {
    die_with_parent();
    leave_stopping_to_the_supervisor();
    let pauses = Pauses::default();
    let jobs = read_orders(pauses.clone());
    // Before the first tensor: libtorch looks for its CUDA half once.
    let device = device::open(arguments.device)?;
    // One thread a process: more of them wait for each other where every core has a process of its own, and sums would
    // depend on the machine.
    tch::set_num_threads(1);
    let mut engine = Engine::open(&arguments.store, device)?;
    say(&Report::Ready { device: device::name(device), gpu: device.is_cuda() })?;
    for (number, job) in (1..).zip(jobs) {
        let started = Instant::now();
        let mut reported = started;
        let mut report = |done, total| {
            if reported.elapsed() >= REPORT_EVERY {
                reported = Instant::now();
                // A supervisor that is gone ends this process through standard input.
                let _ = say(&Report::Progress { done, total });
            }
        };
        let budget = Duration::from_secs(job.slice_seconds);
        let mut is_over = || started.elapsed() >= budget || pauses.is_paused(number);
        let outcome = engine.work(&job, &mut Slice::new(&mut report, &mut is_over));
        say(&match outcome {
            Ok(Outcome::Finished(finished)) => Report::Finished(Box::new(finished)),
            Ok(Outcome::Paused(paused)) => Report::Paused(Box::new(paused)),
            Err(error) if is_out_of_reach(&error) => Report::Interrupted { reason: format!("{error:#}") },
            Err(error) => Report::Failed { permanent: is_permanent(&error), reason: format!("{error:#}") },
        })?;
    }
    Ok(())
}

/// A second net beside standard input: a process deep in a library call dies all the same.
fn die_with_parent() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
    {
        tracing::debug!("the kernel does not tie this process to its parent: {error}");
    }
}

/// Service managers send SIGTERM to every process of a service. The supervisor answers it, and asks for a checkpoint on
/// standard input; this process must live to write it.
fn leave_stopping_to_the_supervisor() {
    #[expect(unsafe_code, reason = "no safe wrapper ignores a signal without installing a handler")]
    // SAFETY: ignoring a signal runs no code of ours in any thread.
    unsafe {
        libc::signal(libc::SIGTERM, libc::SIG_IGN);
    }
}

/// Reads orders beside the work, so that a pause is heard between two batches, and that the end of standard input ends
/// the process whatever it is doing.
fn read_orders(pauses: Pauses) -> mpsc::Receiver<Job> {
    let (sender, jobs) = mpsc::channel();
    std::thread::spawn(move || {
        let mut number = 0;
        for line in std::io::stdin().lock().lines() {
            let order = line.context("cannot read standard input").and_then(|line| {
                serde_json::from_str(&line).context("standard input holds something else than an order")
            });
            match order {
                Ok(Order::Work(job)) => {
                    number += 1;
                    if sender.send(*job).is_err() {
                        break;
                    }
                }
                Ok(Order::Pause) => pauses.pause(number),
                Err(error) => {
                    tracing::error!("{error:#}");
                    std::process::exit(1);
                }
            }
        }
        std::process::exit(0);
    });
    jobs
}

fn say(report: &Report) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(report).context("a report has no JSON form")?;
    line.push(b'\n');
    let mut output = std::io::stdout().lock();
    output.write_all(&line).and_then(|()| output.flush()).context("cannot write to the supervisor")
}

/// Does tasks, and keeps what consecutive tasks share.
pub struct Engine {
    store: Store,
    /// Drives reads and writes; the arithmetic stays on this thread, whose tensor settings are its own.
    runtime: Runtime,
    device: Device,
    pictures: PictureCache,
    extractors: ExtractorCache,
    prepared: Option<PreparedDataset>,
    evaluation_batches: EvaluationBatches,
    training_data: TrainingDataCache,
}

impl Engine {
    fn open(store: &str, device: Device) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("cannot start the asynchronous runtime")?;
        let store =
            runtime.block_on(Store::open(store, Access::ReadWrite)).context("cannot open the store")?;
        Ok(Self {
            store,
            runtime,
            device,
            pictures: PictureCache::default(),
            extractors: ExtractorCache::default(),
            prepared: None,
            evaluation_batches: EvaluationBatches::default(),
            training_data: TrainingDataCache::default(),
        })
    }

    /// Does one slice of a task and stores its files: the results, or a checkpoint where the slice ended before the
    /// task. Equal tasks give equal rows on one kind of device, however they are sliced, apart from measured columns.
    pub fn work(&mut self, job: &Job, slice: &mut Slice<'_>) -> anyhow::Result<Outcome> {
        match &job.envelope.task {
            Task::ExtractFeatures(task) => self.extract_features(job, task, slice),
            Task::Evaluate(task) => self.evaluate(job, task, slice),
            Task::TrainEpisodes(task) => self.train_episodes(job, task, slice),
            Task::Validate(task) => self.validate(job, task, slice),
            Task::Search(task) => self.search(job, task, slice),
        }
    }
}
