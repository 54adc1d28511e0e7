//! The compute process: one job after another from standard input, reports on standard output.
//!
//! Deliberately absent: the queue, markers and decisions. A process that dies leaves at most data files that no
//! marker names.

mod error;
mod evaluate;
mod extract;
mod inputs;
mod models;
mod search;
mod settings;
#[cfg(test)]
mod tests;
mod train;
mod training_data;
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
use crate::protocol::{Finished, Job, Report};
use error::is_permanent;
use evaluate::PreparedDataset;
use inputs::{ExtractorCache, PictureCache};
use training_data::TrainingDataCache;

/// The supervisor only needs to see that there is progress.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// Serves jobs until standard input ends, which it does when the supervisor does.
pub fn serve(arguments: &ComputeArguments) -> anyhow::Result<()> {
    die_with_parent();
    let jobs = read_jobs();
    // Before the first tensor: libtorch looks for its CUDA half once.
    let device = device::open(arguments.device)?;
    // One thread a process: more of them wait for each other where every core has a process of its own, and sums would
    // depend on the machine.
    tch::set_num_threads(1);
    let mut engine = Engine::open(&arguments.store, device)?;
    say(&Report::Ready { device: device::name(device), gpu: device.is_cuda() })?;
    for job in jobs {
        let mut reported = Instant::now();
        let outcome = engine.work(&job, &mut |done, total| {
            if reported.elapsed() >= REPORT_EVERY {
                reported = Instant::now();
                // A supervisor that is gone ends this process through standard input.
                let _ = say(&Report::Progress { done, total });
            }
        });
        say(&match outcome {
            Ok(finished) => Report::Finished(Box::new(finished)),
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

/// Reads jobs beside the work, so that the end of standard input ends the process whatever it is doing.
fn read_jobs() -> mpsc::Receiver<Job> {
    let (sender, jobs) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let job = line.context("cannot read standard input").and_then(|line| {
                serde_json::from_str(&line).context("standard input holds something else than a job")
            });
            match job {
                Ok(job) => {
                    if sender.send(job).is_err() {
                        break;
                    }
                }
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

/// Called with how much is done of how much, in the kind's own unit.
type Progress<'a> = dyn FnMut(u64, u64) + 'a;

/// Does tasks, and keeps what consecutive tasks share.
pub struct Engine {
    store: Store,
    /// Drives reads and writes; the arithmetic stays on this thread, whose tensor settings are its own.
    runtime: Runtime,
    device: Device,
    pictures: PictureCache,
    extractors: ExtractorCache,
    prepared: Option<PreparedDataset>,
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
            training_data: TrainingDataCache::default(),
        })
    }

    /// Does one task and stores its data files. Equal tasks give equal rows on one kind of device, apart from measured
    /// columns.
    pub fn work(&mut self, job: &Job, progress: &mut Progress<'_>) -> anyhow::Result<Finished> {
        match &job.envelope.task {
            Task::ExtractFeatures(task) => self.extract_features(task, &job.envelope, progress),
            Task::Evaluate(task) => self.evaluate(&job.id, task, &job.envelope, progress),
            Task::TrainEpisodes(task) => self.train_episodes(task, progress),
            Task::Validate(task) => self.validate(task),
            Task::Search(task) => self.search(task, progress),
        }
    }
}
