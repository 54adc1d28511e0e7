//! Arguments of `metad2a import` and `metad2a export`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::snapshots::SnapshotChoice;
use super::{Addresses, Format};

/// Which store is meant: the address, or the pipeline's file that names it.
#[derive(Debug, Args)]
pub struct StorePlace {
    /// The file whose `store` is used; not read where `--store` is given.
    #[arg(long, value_name = "PIPELINE", default_value = "pipeline.yaml")]
    pub pipeline: PathBuf,
    /// The store itself.
    #[arg(long, env = "METAD2A_STORE", value_name = "URL")]
    pub store: Option<String>,
}

#[derive(Debug, Args)]
pub struct Import {
    #[command(subcommand)]
    pub what: ImportWhat,
}

#[derive(Debug, Subcommand)]
pub enum ImportWhat {
    /// Accuracies by cell and dataset, as NATS-Bench has them: columns `arch` or `arch_index`, `dataset`, `accuracy`,
    /// `epochs`, `split` (train, valid, test), and `seed` where it is known.
    #[command(
        after_help = "Example:\n  metad2a import evaluations nats.csv --datasets datasets.json --accuracy-unit percent \\\n    --protocol nats-bench --origin \"NATS-Bench v1.0, MIT\""
    )]
    Evaluations(ImportEvaluations),
    /// Accuracies by cell and `MetaD2A` task: columns `arch` or `nb201_index`, `task`, `acc`.
    #[command(
        after_help = "Example:\n  metad2a import tasks predictor_rows.csv --task-classes task_classes.json --class-source imagenet600 \\\n    --image-size 32 --accuracy-unit percent --protocol metad2a-a --epochs 50 --split valid --rows 1-4152 \\\n    --origin \"MetaD2A, published meta-training rows\""
    )]
    Tasks(ImportTasks),
    /// Feature vectors of classes, from Parquet: columns `class_label` or `class_id`, `picture_index` or `view`, `vector`
    /// or `features`.
    Features(ImportFeatures),
    /// Latencies by cell, device and batch size: columns `arch` or `arch_index`, `device`, `batch`, `latency_ms`, and
    /// `latency_p95_ms` where it is known.
    #[command(
        after_help = "Examples:\n  metad2a import latencies latency.csv --protocol tflite-fp32 --origin \"HELP, MIT\"\n  metad2a import latencies latency_ms.parquet --column pixel3 --device pixel3 --batch-size 1 \\\n    --protocol tflite-fp32 --origin \"HELP, MIT\""
    )]
    Latencies(ImportLatencies),
    /// Lists the imports of the store, with the ids that `imports` in pipeline.yaml takes.
    List(ImportList),
}

/// What every import is told.
#[derive(Debug, Args)]
pub struct ImportCommon {
    /// Where the file comes from; written into every row.
    #[arg(long, value_name = "TEXT")]
    pub origin: String,
    /// Problems that are told at once.
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    pub max_problems: usize,
    #[command(flatten)]
    pub place: StorePlace,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

/// How the networks of a file were built.
#[derive(Debug, Args)]
pub struct Shape {
    /// Channels of the networks' first stage.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    pub channels: u32,
    /// Cells in each of the three stages.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub cells_per_stage: u32,
}

/// How the networks of a file were trained.
#[derive(Debug, Args)]
pub struct Training {
    /// Unit of the accuracies; never guessed.
    #[arg(long, value_enum)]
    pub accuracy_unit: Unit,
    /// Name of the training protocol; rows get `<name>@<epochs>`. Figures of two protocols are never mixed.
    #[arg(long, value_name = "NAME")]
    pub protocol: String,
    /// Epochs of every row, where the file has no column `epochs`.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub epochs: Option<u32>,
    /// Pictures that every row was measured on, where the file does not tell.
    #[arg(long, value_enum)]
    pub split: Option<Split>,
    /// Only these rows, counted from 1, both ends included.
    #[arg(long, value_name = "FIRST-LAST")]
    pub rows: Option<metad2a_exchange::RowRange>,
    /// Pictures per step.
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch_size: u32,
    /// Learning rate at the start.
    #[arg(long, default_value_t = 0.1)]
    pub learning_rate: f64,
    #[command(flatten)]
    pub shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Unit {
    /// In 0 to 1.
    Fraction,
    /// In 0 to 100.
    Percent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Split {
    Train,
    Valid,
    Test,
}

#[derive(Debug, Args)]
pub struct ImportEvaluations {
    /// CSV or Parquet.
    pub file: PathBuf,
    /// JSON: name of every dataset → `classes` or `class_labels`, `image_size`, and what else is known.
    #[arg(long, value_name = "FILE")]
    pub datasets: PathBuf,
    #[command(flatten)]
    pub training: Training,
    #[command(flatten)]
    pub common: ImportCommon,
}

#[derive(Debug, Args)]
pub struct ImportTasks {
    /// CSV or Parquet.
    pub file: PathBuf,
    /// JSON: a list of lists of class labels; a task's number is its place, from 0.
    #[arg(long, value_name = "FILE")]
    pub task_classes: PathBuf,
    /// Name of the source that the class labels belong to.
    #[arg(long, value_name = "NAME")]
    pub class_source: String,
    /// Height and width of the training pictures, in pixels.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub image_size: u32,
    #[command(flatten)]
    pub training: Training,
    #[command(flatten)]
    pub common: ImportCommon,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExtractorName {
    EfficientnetLite0,
    Resnet18,
}

#[derive(Debug, Args)]
pub struct ImportFeatures {
    /// Parquet.
    pub file: PathBuf,
    /// Name of the source that the class labels belong to.
    #[arg(long, value_name = "NAME")]
    pub class_source: String,
    /// What made the vectors.
    #[arg(long, value_enum)]
    pub extractor: ExtractorName,
    /// File of the weights that made them, in the form that pipeline.yaml names; only its hash is kept.
    #[arg(long, value_name = "FILE")]
    pub weights: PathBuf,
    /// Side of the square picture that the extractor saw, in pixels.
    #[arg(long, value_parser = clap::value_parser!(u32).range(8..=4_096))]
    pub image_size: u32,
    #[command(flatten)]
    pub common: ImportCommon,
}

#[derive(Debug, Args)]
pub struct ImportLatencies {
    /// CSV or Parquet.
    pub file: PathBuf,
    /// How it was measured (runtime, precision, threads); only rows of one protocol compare.
    #[arg(long, value_name = "NAME")]
    pub protocol: String,
    /// Device of every row, where the file has no column `device`.
    #[arg(long, value_name = "NAME")]
    pub device: Option<String>,
    /// Pictures in one forward pass of every row, where the file has no column `batch_size`.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub batch_size: Option<u32>,
    /// The column of latencies in milliseconds, of a table with one for each device.
    #[arg(long, value_name = "COLUMN")]
    pub column: Option<String>,
    /// Height and width of the pictures, in pixels.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    pub image_size: u32,
    /// Outputs of the networks.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub classes: u32,
    #[command(flatten)]
    pub shape: Shape,
    #[command(flatten)]
    pub common: ImportCommon,
}

#[derive(Debug, Args)]
pub struct ImportList {
    #[command(flatten)]
    pub place: StorePlace,
    #[arg(long, value_enum, default_value = "table")]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportForm {
    /// One row a cell, in the order of NATS-Bench; one column a dataset, protocol and split.
    NatsBench,
}

#[derive(Debug, Args)]
pub struct Export {
    /// The pipeline whose snapshot is exported.
    #[arg(long, value_name = "PIPELINE", default_value = "pipeline.yaml")]
    pub pipeline: PathBuf,
    #[command(flatten)]
    pub addresses: Addresses,
    /// `current`, or a number that `metad2a snapshots` lists.
    #[arg(long, default_value = "current", value_name = "SNAPSHOT")]
    pub snapshot: SnapshotChoice,
    /// Form of the file.
    #[arg(long, value_enum)]
    pub format: ExportForm,
    /// The file to write, whole or not at all: `.csv` or `.parquet`.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Only these datasets, by name; all where none is named.
    #[arg(long = "dataset", value_name = "NAME")]
    pub datasets: Vec<String>,
}
