//! Arguments of `metad2a snapshots`, `metad2a report` and `metad2a sql`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::{Format, Pipeline, PipelineOption};

/// A published snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotChoice {
    Current,
    Number(u32),
}

impl std::str::FromStr for SnapshotChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(number) if number > 0 => Ok(Self::Number(number)),
            _ if text == "current" => Ok(Self::Current),
            _ => Err(format!("must be `current` or the number of a snapshot, got `{text}`")),
        }
    }
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Snapshots {
    #[command(subcommand)]
    pub what: Option<SnapshotsWhat>,
    #[command(flatten)]
    pub list: SnapshotsList,
    /// Print the files of this table of the newest snapshot, one a line: short for `path --table TABLE`.
    #[arg(long, value_name = "TABLE")]
    pub files_of: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum SnapshotsWhat {
    /// Lists published snapshots, oldest first; what happens where nothing is said.
    List(SnapshotsList),
    /// Prints where the tables of a snapshot lie, for DuckDB, Polars and others.
    #[command(
        after_help = "Examples:\n  metad2a snapshots path --table evaluations\n  metad2a snapshots path --snapshot 41 --format sql > views.sql && duckdb -init views.sql"
    )]
    Path(SnapshotsPath),
    /// Shows what came and went between two snapshots: rows, models, figures.
    #[command(
        after_help = "Examples:\n  metad2a snapshots diff 41 42\n  metad2a snapshots diff 41 current --format json"
    )]
    Diff(SnapshotsDiff),
    /// Reads every file of a snapshot again and checks all rules of publication; ends with 1 where one is broken.
    #[command(
        after_help = "Examples:\n  metad2a snapshots verify\n  metad2a snapshots verify 41 --pipeline nightly.yaml"
    )]
    Verify(SnapshotsVerify),
    /// Publishes the content of an old snapshot again, as a new one; removes nothing.
    #[command(after_help = "Example:\n  metad2a snapshots rollback 41")]
    Rollback(SnapshotsRollback),
}

#[derive(Debug, Args)]
pub struct SnapshotsList {
    #[command(flatten)]
    pub pipeline: Pipeline,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PathFormat {
    /// One file a line; behind the table's name, unless only one table is asked for.
    Table,
    /// For programs: table → files, or the files of the one table.
    Json,
    /// For `DuckDB`: one view for each table.
    Sql,
}

#[derive(Debug, Args)]
pub struct SnapshotsPath {
    #[command(flatten)]
    pub pipeline: PipelineOption,
    /// `current`, or a number that `metad2a snapshots` lists.
    #[arg(long, default_value = "current", value_name = "SNAPSHOT")]
    pub snapshot: SnapshotChoice,
    /// Only this table.
    #[arg(long, value_name = "TABLE")]
    pub table: Option<String>,
    #[arg(long, value_enum, default_value = "table")]
    pub format: PathFormat,
}

#[derive(Debug, Args)]
pub struct SnapshotsDiff {
    /// `current`, or a number that `metad2a snapshots` lists.
    #[arg(value_name = "BEFORE")]
    pub before: SnapshotChoice,
    /// The same.
    #[arg(value_name = "AFTER", default_value = "current")]
    pub after: SnapshotChoice,
    #[command(flatten)]
    pub pipeline: PipelineOption,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct SnapshotsVerify {
    /// `current`, or a number that `metad2a snapshots` lists.
    #[arg(value_name = "SNAPSHOT", default_value = "current")]
    pub snapshot: SnapshotChoice,
    #[command(flatten)]
    pub pipeline: PipelineOption,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

#[derive(Debug, Args)]
pub struct SnapshotsRollback {
    /// The number of the snapshot whose content is wanted back.
    #[arg(value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub number: u32,
    #[command(flatten)]
    pub pipeline: PipelineOption,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people.
    Html,
    /// For programs: the figures of the page.
    Json,
}

impl ReportFormat {
    /// How files of this form end.
    pub fn ending(self) -> &'static str {
        match self {
            Self::Html => "html",
            Self::Json => "json",
        }
    }
}

#[derive(Debug, Args)]
pub struct Report {
    #[command(flatten)]
    pub pipeline: PipelineOption,
    /// `current`, or a number that `metad2a snapshots` lists.
    #[arg(long, default_value = "current", value_name = "SNAPSHOT")]
    pub snapshot: SnapshotChoice,
    /// The file to write, replaced where it exists; by default `<pipeline>-<snapshot>.html` in this folder.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "html")]
    pub format: ReportFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SqlFormat {
    /// For people.
    Table,
    /// A list of objects, as `DuckDB` writes it.
    Json,
    /// With a heading; a missing value is an empty field.
    Csv,
}

#[derive(Debug, Args)]
pub struct Sql {
    /// The query, in `DuckDB`'s SQL; every table of the snapshot is a view of its name.
    pub query: String,
    #[command(flatten)]
    pub pipeline: PipelineOption,
    /// `current`, or a number that `metad2a snapshots` lists.
    #[arg(long, default_value = "current", value_name = "SNAPSHOT")]
    pub snapshot: SnapshotChoice,
    /// The program `duckdb`; by default the one on `PATH`.
    #[arg(long, env = "METAD2A_DUCKDB", value_name = "FILE")]
    pub duckdb: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "table")]
    pub format: SqlFormat,
}
