//! The command line: what a person can ask for.

pub mod exchange;
pub mod snapshots;
mod tasks;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use tasks::{
    DeadLetters, DeadLettersChange, DeadLettersList, PipelineOption, TaskState, Tasks, TasksCancel,
    TasksList, TasksRetry, TasksShow,
};

use crate::logging::LogFormat;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong usage or configuration
  3  finished, but some tasks were given up
  4  another process is running this pipeline; nothing was done
  5  a refresh was refused by its data gates; the last snapshot stays";

/// Learns, once, from a database of datasets and trained networks, and then names the best networks for a new dataset
/// in seconds.
#[derive(Debug, Parser)]
#[command(name = "metad2a", version, after_help = EXIT_CODES)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,

    /// Say more on standard error; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Form of the log on standard error.
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs: one JSON document on standard output.
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Computes what a pipeline asks for and what is not there yet, and publishes a snapshot.
    #[command(
        after_help = "Examples:\n  metad2a run pipeline.yaml\n  metad2a run pipeline.yaml --workers 0 --format json\n  metad2a run pipeline.yaml --detach\n  metad2a run --refresh pipeline.yaml"
    )]
    Run(Run),
    /// Shows what `run` would do.
    #[command(after_help = "Examples:\n  metad2a plan\n  metad2a plan --refresh nightly.yaml")]
    Plan(Plan),
    /// Names the best cells for a dataset of yours, from the models of a published snapshot.
    #[command(
        after_help = "Example:\n  metad2a search --pipeline pipeline.yaml --dataset ./my-images --candidates 500 --top 10"
    )]
    Search(Search),
    /// Lists, compares and checks published snapshots, prints where their tables lie, and goes back to an old one.
    #[command(
        after_help = "Examples:\n  metad2a snapshots nightly.yaml\n  metad2a snapshots diff 41 42\n  metad2a snapshots rollback 41"
    )]
    Snapshots(snapshots::Snapshots),
    /// Writes what a published snapshot says as one page of HTML that needs nothing else.
    #[command(
        after_help = "Examples:\n  metad2a report\n  metad2a report --snapshot 41 --output before.html\n  metad2a report --format json --output figures.json"
    )]
    Report(snapshots::Report),
    /// Asks a published snapshot a question in SQL, through the program `duckdb`.
    #[command(
        after_help = "Example:\n  metad2a sql \"select cell, avg(valid_accuracy) from evaluations group by cell order by 2 desc limit 10\""
    )]
    Sql(snapshots::Sql),
    /// Shows how a pipeline stands: stages, workers, queue, dead letters, snapshots.
    #[command(after_help = "Examples:\n  metad2a status\n  metad2a status nightly.yaml --format json")]
    Status(Status),
    /// Shows a run until it ends, and ends as it did.
    #[command(after_help = "Example:\n  metad2a watch nightly.yaml")]
    Watch(Watch),
    /// Lists, shows, cancels and retries tasks.
    #[command(subcommand)]
    Tasks(Tasks),
    /// Lists, shows, retries and drops the tasks that were given up.
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Shows what nobody needs any more, and removes it if told to.
    #[command(
        after_help = "Examples:\n  metad2a gc nightly.yaml\n  metad2a gc nightly.yaml --delete --keep 30"
    )]
    Gc(Gc),
    /// Checks everything around a pipeline: queue, store, worker, sources, weights, disks.
    #[command(after_help = "Example:\n  metad2a doctor nightly.yaml --device cuda:0")]
    Doctor(Doctor),
    /// Brings tables from outside into the store, checked row by row; the same file twice adds nothing.
    Import(Box<exchange::Import>),
    /// Writes a published snapshot as one file for other programs.
    #[command(
        after_help = "Example:\n  metad2a export --snapshot current --format nats-bench --to cells.parquet"
    )]
    Export(exchange::Export),
    /// Prints a completion script for your shell.
    Completions { shell: clap_complete::Shell },
}

/// Where the pipeline is described, and what replaces its addresses for this process.
#[derive(Debug, Args)]
pub struct Pipeline {
    /// The file that says what is computed.
    #[arg(value_name = "PIPELINE", default_value = "pipeline.yaml")]
    pub file: PathBuf,
    #[command(flatten)]
    pub addresses: Addresses,
}

#[derive(Debug, Args)]
pub struct Addresses {
    /// Store in place of the file's `store`.
    #[arg(long, env = "METAD2A_STORE", value_name = "URL")]
    pub store: Option<String>,
    /// Queue in place of the file's `queue`.
    #[arg(long, env = "METAD2A_QUEUE", value_name = "URL", hide_env_values = true)]
    pub queue: Option<String>,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub pipeline: Pipeline,
    #[command(flatten)]
    pub local: LocalWorkers,
    /// Run in the background; returns when the run leads the pipeline.
    #[arg(long, conflicts_with = "refresh")]
    pub detach: bool,
    /// Where a run in the background writes what it says. By default beside an embedded queue, in `logs/`; on a broker
    /// in the folder for temporary files.
    #[arg(long, value_name = "FILE", requires = "detach")]
    pub log_file: Option<PathBuf>,
    /// Where the run in the background tells that it leads.
    #[arg(long, hide = true)]
    pub leads_socket: Option<PathBuf>,
    #[command(flatten)]
    pub refresh: Refresh,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

/// What makes a run an unattended one.
#[derive(Debug, Args)]
pub struct Refresh {
    /// Unattended, every night for instance: takes in new and changed sources, computes only what is missing, and
    /// publishes only what passes the gates for data and models.
    #[arg(long)]
    pub refresh: bool,
    /// Train on from the last published models, not from the seed.
    #[arg(long, requires = "refresh")]
    pub warm_start: bool,
    /// Sources and tables are meant to shrink this time.
    #[arg(long, requires = "refresh")]
    pub allow_shrink: bool,
}

/// Workers that the coordinator starts as its own children.
#[derive(Debug, Args)]
pub struct LocalWorkers {
    /// Compute slots of the local worker; 0 starts none. By default, on an embedded queue, one for each card, or each
    /// core where there is none; on a broker no local worker.
    #[arg(long, value_name = "SLOTS")]
    pub workers: Option<u32>,
    /// Device of the local worker.
    #[arg(long, default_value = "auto", value_name = "auto|cpu|cuda:N")]
    pub device: String,
}

#[derive(Debug, Args)]
pub struct Plan {
    #[command(flatten)]
    pub pipeline: Pipeline,
    #[command(flatten)]
    pub refresh: Refresh,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct Search {
    /// The pipeline whose published models are used.
    #[arg(long, value_name = "PIPELINE", default_value = "pipeline.yaml")]
    pub pipeline: PathBuf,
    #[command(flatten)]
    pub addresses: Addresses,
    /// Your pictures: a file, folder or URL; several for IDX (pictures, labels) and CIFAR.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    pub dataset: Vec<String>,
    /// Form of the pictures.
    #[arg(long = "dataset-format", default_value = "image-folder", value_name = "FORMAT")]
    pub dataset_format: String,
    /// Distinct cells to generate before ranking.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=15_625))]
    pub candidates: u32,
    /// Cells to print.
    #[arg(long, default_value_t = 10)]
    pub top: usize,
    /// Random sets of your pictures that are encoded and averaged over.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub sets: u32,
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// No cell with more parameters at the pipeline's final recipe.
    #[arg(long)]
    pub max_parameters: Option<u64>,
    /// No cell with more multiply-adds of one picture at the pipeline's final recipe.
    #[arg(long)]
    pub max_flops: Option<u64>,
    /// Snapshot whose models are used: `current`, or a number that `metad2a snapshots` lists.
    #[arg(long, default_value = "current", value_name = "SNAPSHOT")]
    pub snapshot: snapshots::SnapshotChoice,
    /// Device of the local worker.
    #[arg(long, default_value = "auto", value_name = "auto|cpu|cuda:N")]
    pub device: String,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    pub pipeline: Pipeline,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct Watch {
    #[command(flatten)]
    pub pipeline: Pipeline,
}

#[derive(Debug, Args)]
pub struct Gc {
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// Remove what is found; otherwise it is only shown.
    #[arg(long)]
    pub delete: bool,
    /// So many of the newest snapshots keep their manifests and tables.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub keep: u32,
    /// Nothing younger is removed, by the store's own clock.
    #[arg(long, default_value_t = 24, value_name = "HOURS", value_parser = clap::value_parser!(u32).range(1..=87_600))]
    pub grace: u32,
    /// In place of the grace, for tests: nothing is safe beside a working worker.
    #[arg(long, hide = true)]
    pub grace_seconds: Option<u32>,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct Doctor {
    #[command(flatten)]
    pub pipeline: Pipeline,
    /// Device that a local worker would be asked for.
    #[arg(long, default_value = "auto", value_name = "auto|cpu|cuda:N")]
    pub device: String,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}
