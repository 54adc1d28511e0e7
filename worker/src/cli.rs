//! The command line. Secrets never stand here: credentials of queue and store come from the environment.

use std::io::IsTerminal;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

use crate::device::Choice;
use crate::supervisor;

/// Does the work of MetaD2A pipelines: feature extraction, network trainings, meta-training, searches.
///
/// Takes tasks from a queue, computes each in a process of its own, commits the results to the store and
/// acknowledges. Start as many workers as you like, on any machines that reach both, and stop them at any time: an
/// unfinished task goes on from its checkpoint on another worker.
#[derive(Debug, Parser)]
#[command(name = "metad2a-worker", version, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub mode: Option<Mode>,

    #[command(flatten)]
    worker: WorkerArguments,

    /// Form of the log lines on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text, global = true)]
    log_format: LogFormat,

    /// Say more; twice: everything. `RUST_LOG` has precedence.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
}

#[derive(Debug, Args)]
struct WorkerArguments {
    /// The queue: `sqlite:PATH` on this machine, `amqp://HOST` or `amqps://HOST` for RabbitMQ.
    #[arg(long, env = "METAD2A_QUEUE", hide_env_values = true, required = true, value_name = "URL")]
    queue: Option<String>,

    /// The store: `file:PATH`, `s3://BUCKET/PREFIX`, `gs://…` or `az://…`.
    #[arg(long, env = "METAD2A_STORE", hide_env_values = true, required = true, value_name = "URL")]
    store: Option<String>,

    /// The pipeline whose tasks are taken (`name` in its pipeline.yaml).
    #[arg(long, env = "METAD2A_PIPELINE", required = true, value_name = "NAME")]
    pipeline: Option<String>,

    /// `auto` (the first graphics card if there is one), `cpu` or `cuda:N`.
    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    device: Choice,

    /// Tasks done side by side, each in a process of one thread; `auto`: one per core on a CPU, one on a card.
    #[arg(long, default_value = "auto", value_name = "N|auto")]
    slots: Slots,

    /// The worker's name in markers, events and logs [default: host name and process id].
    #[arg(long)]
    name: Option<String>,

    /// Pause a task after so many seconds, with a checkpoint that any worker goes on from; at most the 30 minutes that
    /// a broker waits for an acknowledgement by default.
    #[arg(long, default_value_t = 600, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=1_800))]
    slice_seconds: u64,

    /// Leave within so many seconds of a stop (SIGTERM, Ctrl-C): four fifths of them for checkpoints of running tasks.
    #[arg(long, default_value_t = 25, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    grace_seconds: u64,

    /// Stop when standard input ends: for workers that another program starts and that shall not outlive it.
    #[arg(long)]
    exit_with_parent: bool,

    /// Leave, with exit code 0, after so many seconds in which no slot had a task.
    #[arg(long, value_name = "SECONDS")]
    exit_when_idle: Option<NonZeroU64>,

    /// Leave, with exit code 0, after so many tasks of all slots together; those that needed no work count too.
    #[arg(long, value_name = "N")]
    max_tasks: Option<NonZeroU32>,
}

/// How many tasks are done side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slots {
    Auto,
    Fixed(NonZeroUsize),
}

impl FromStr for Slots {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse()
            .map(Self::Fixed)
            .map_err(|_| format!("must be `auto` or a whole number of at least 1, got `{text}`"))
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Mode {
    /// The compute process of one slot: jobs on standard input, reports on standard output. The worker starts it.
    #[command(hide = true)]
    Compute(ComputeArguments),
}

/// The arguments of the compute process.
#[derive(Debug, Args)]
pub struct ComputeArguments {
    /// In the environment rather than on the command line, which every user of the machine can read.
    #[arg(long, env = "METAD2A_STORE", hide_env_values = true, value_name = "URL")]
    pub store: String,

    #[arg(long, default_value = "auto", value_name = "DEVICE")]
    pub device: Choice,
}

impl Arguments {
    /// Starts the log on standard error, once per process.
    pub fn start_logging(&self) {
        let usual = match self.verbose {
            0 => "info",
            1 => "info,metad2a=debug,metad2a_worker=debug,metad2a_queue=debug,metad2a_database=debug",
            _ => "debug",
        };
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual));
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        match self.log_format {
            LogFormat::Text => log.init(),
            LogFormat::Json => log.json().init(),
        }
    }

    /// Runs the worker until it is told to stop.
    pub fn supervise(self) -> anyhow::Result<()> {
        let worker = self.worker;
        let log_format = match self.log_format {
            LogFormat::Text => "--log-format=text",
            LogFormat::Json => "--log-format=json",
        };
        let verbosity = (self.verbose > 0).then(|| format!("-{}", "v".repeat(self.verbose.min(2).into())));
        supervisor::run_until_stopped(supervisor::Options {
            queue: worker.queue.context("`--queue` is missing")?,
            store: worker.store.context("`--store` is missing")?,
            pipeline: worker.pipeline.context("`--pipeline` is missing")?,
            device: worker.device,
            slots: worker.slots,
            name: worker.name.unwrap_or_else(default_name),
            exit_with_parent: worker.exit_with_parent,
            limits: supervisor::Limits {
                idle: worker.exit_when_idle.map(|seconds| Duration::from_secs(seconds.get())),
                tasks: worker.max_tasks,
            },
            patience: supervisor::Patience {
                slice: Duration::from_secs(worker.slice_seconds),
                grace: Duration::from_secs(worker.grace_seconds),
            },
            log_arguments: [log_format.to_owned()].into_iter().chain(verbosity).collect(),
        })
    }
}

fn default_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = if host.trim().is_empty() { "worker" } else { host.trim() };
    format!("{host}-{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn slots_are_auto_or_at_least_one() {
        assert_eq!("auto".parse(), Ok(Slots::Auto));
        assert!(matches!("2".parse(), Ok(Slots::Fixed(_))));
        assert!("0".parse::<Slots>().is_err());
        assert!("-1".parse::<Slots>().is_err());
    }

    #[test]
    fn limits_are_at_least_one() {
        let line = ["metad2a-worker", "--queue=memory:q", "--store=memory:", "--pipeline=test"];
        let parse = |limit| Arguments::try_parse_from(line.into_iter().chain([limit]));
        let worker = parse("--exit-when-idle=90").unwrap().worker;
        assert_eq!((worker.exit_when_idle, worker.max_tasks), (NonZeroU64::new(90), None));
        assert_eq!(parse("--max-tasks=3").unwrap().worker.max_tasks, NonZeroU32::new(3));
        for refused in ["--exit-when-idle=0", "--exit-when-idle=1.5", "--max-tasks=0", "--max-tasks=-1"] {
            assert!(parse(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn no_slice_is_longer_than_a_broker_waits() {
        let line = ["metad2a-worker", "--queue=memory:q", "--store=memory:", "--pipeline=test"];
        let parse = |flag| Arguments::try_parse_from(line.into_iter().chain([flag]));
        assert_eq!(parse("--slice-seconds=1800").unwrap().worker.slice_seconds, 1_800);
        assert_eq!(parse("--verbose").unwrap().worker.slice_seconds, 600);
        for refused in ["--slice-seconds=1801", "--slice-seconds=0", "--grace-seconds=0"] {
            assert!(parse(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn the_compute_process_needs_no_queue() {
        let line = ["metad2a-worker", "compute", "--store", "memory:x", "--device", "cpu", "-v"];
        let arguments = Arguments::try_parse_from(line).unwrap();
        assert!(matches!(arguments.mode, Some(Mode::Compute(_))));
        assert!(Arguments::try_parse_from(["metad2a-worker", "--device", "cpu"]).is_err());
    }
}
