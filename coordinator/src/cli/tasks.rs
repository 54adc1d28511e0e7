//! What an operator asks about single tasks.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use metad2a_pipeline::planner::Stage;
use metad2a_pipeline::tasks::Kind;

use super::{Addresses, Format};

/// The pipeline of a command whose own arguments are ids.
#[derive(Debug, Args)]
pub struct PipelineOption {
    /// The file that says what is computed.
    #[arg(long = "pipeline", value_name = "PIPELINE", default_value = "pipeline.yaml")]
    pub file: PathBuf,
    #[command(flatten)]
    pub addresses: Addresses,
}

#[derive(Debug, Subcommand)]
pub enum Tasks {
    /// Lists tasks: those in flight, open, given up, cancelled and dropped; the finished ones with `--state done`.
    #[command(
        after_help = "Examples:\n  metad2a tasks list --state failed\n  metad2a tasks list --kind evaluate --limit 0"
    )]
    List(TasksList),
    /// Shows all that is known of one task.
    #[command(after_help = "Example:\n  metad2a tasks show 3f2a9c11")]
    Show(TasksShow),
    /// Lets tasks be tried again that were given up, cancelled or dropped.
    #[command(
        after_help = "Examples:\n  metad2a tasks retry 3f2a9c11 80be6ac5\n  metad2a tasks retry --failed"
    )]
    Retry(TasksRetry),
    /// Stops tasks, running or not, until a `retry` lifts that.
    #[command(
        after_help = "Examples:\n  metad2a tasks cancel 3f2a9c11\n  metad2a tasks cancel --stage measurements"
    )]
    Cancel(TasksCancel),
}

/// What has become of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskState {
    /// Handed to the workers by the run that goes on.
    InFlight,
    /// Can run now, and waits for its turn.
    Open,
    /// Given up.
    Failed,
    Cancelled,
    /// Given up for good.
    Dropped,
    Done,
}

#[derive(Debug, Args)]
pub struct TasksList {
    #[command(flatten)]
    pub pipeline: PipelineOption,
    /// Only tasks in this state.
    #[arg(long, value_enum)]
    pub state: Option<TaskState>,
    /// Only tasks of this kind.
    #[arg(long, value_parser = kind)]
    pub kind: Option<Kind>,
    /// At most so many; 0 for all.
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub limit: usize,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct TasksShow {
    /// The task's id, or its first 8 letters or more.
    #[arg(value_name = "ID")]
    pub id: String,
    #[command(flatten)]
    pub pipeline: PipelineOption,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct TasksRetry {
    /// Ids of tasks, or their first 8 letters or more.
    #[arg(value_name = "ID", required_unless_present = "failed", conflicts_with = "failed")]
    pub ids: Vec<String>,
    /// All tasks of this pipeline that were given up.
    #[arg(long)]
    pub failed: bool,
    #[command(flatten)]
    pub pipeline: PipelineOption,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = false, args = ["ids", "stage", "all"])]
pub struct TasksCancel {
    /// Ids of tasks, or their first 8 letters or more.
    #[arg(value_name = "ID")]
    pub ids: Vec<String>,
    /// All tasks of this stage that can run now.
    #[arg(long, value_parser = stage)]
    pub stage: Option<Stage>,
    /// All tasks that can run now.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub pipeline: PipelineOption,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// Lists the tasks that were given up, with their last reasons.
    #[command(after_help = "Example:\n  metad2a dead-letters list --format json")]
    List(DeadLettersList),
    /// Shows one of them: all reasons, and the task itself.
    #[command(after_help = "Example:\n  metad2a dead-letters show 3f2a9c11")]
    Show(TasksShow),
    /// Lets them be tried again.
    #[command(
        after_help = "Examples:\n  metad2a dead-letters retry 3f2a9c11\n  metad2a dead-letters retry --all"
    )]
    Retry(DeadLettersChange),
    /// Makes their failure final: nobody is told of it any more.
    #[command(
        after_help = "Examples:\n  metad2a dead-letters drop 3f2a9c11\n  metad2a dead-letters drop --all"
    )]
    Drop(DeadLettersChange),
}

#[derive(Debug, Args)]
pub struct DeadLettersList {
    #[command(flatten)]
    pub pipeline: PipelineOption,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct DeadLettersChange {
    /// Ids of tasks, or their first 8 letters or more.
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub ids: Vec<String>,
    /// All of this pipeline.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub pipeline: PipelineOption,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

fn kind(text: &str) -> Result<Kind, String> {
    one_of(text, Kind::ALL.into_iter().map(|kind| (kind.name(), kind)))
}

fn stage(text: &str) -> Result<Stage, String> {
    one_of(text, Stage::ALL.into_iter().map(|stage| (stage.name(), stage)))
}

fn one_of<T>(text: &str, named: impl Iterator<Item = (&'static str, T)> + Clone) -> Result<T, String> {
    let found = named.clone().find(|(name, _)| *name == text);
    found.map(|(_, value)| value).ok_or_else(|| {
        let names: Vec<&str> = named.map(|(name, _)| name).collect();
        format!("must be one of {}", names.join(", "))
    })
}
