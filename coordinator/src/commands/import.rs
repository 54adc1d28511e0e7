//! `metad2a import`: tables from outside, checked whole, then committed like the results of a task.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use chrono::{DateTime, Utc};
use metad2a_database::tables::{EvaluationRow, LatencyRow};
use metad2a_database::{Access, Commit, FileRef, Marker, Store, TableRow, sha256_hex};
use metad2a_exchange::{
    AccuracyUnit, EvaluationsDeclaration, FeaturesDeclaration, LatenciesDeclaration, NetworkShape, Protocol,
    SourceFile, Split, Stamp, TaskClasses, import_id,
};
use metad2a_pipeline::imports::{
    Holds, IMPORT_KIND, ImportSummary, ImportedFile, LEAST_ROWS, ProtocolSummary,
};
use metad2a_pipeline::tasks::{Extractor, ExtractorKind};
use serde::Serialize;

use super::output::{answer, try_answer};
use crate::cli::exchange::{
    ExtractorName, Import, ImportCommon, ImportEvaluations, ImportFeatures, ImportLatencies, ImportList,
    ImportTasks, ImportWhat, Shape, Split as CliSplit, Training, Unit,
};
use crate::imports::{NewImport, commit, summary_of};
use crate::{Exit, project, sources};

/// What a person is told of an import.
#[derive(Debug, Serialize)]
struct Outcome {
    import: String,
    /// False where the same file had been imported before: then nothing was added.
    is_new: bool,
    /// Rows by table.
    rows: BTreeMap<String, u64>,
    /// Columns of the file that nothing was read from.
    ignored_columns: Vec<String>,
    /// Protocols that models can learn from.
    protocols: Vec<String>,
}

pub(crate) async fn import(arguments: Import) -> anyhow::Result<Exit> {
    match arguments.what {
        ImportWhat::Evaluations(arguments) => evaluations(arguments).await,
        ImportWhat::Tasks(arguments) => tasks(arguments).await,
        ImportWhat::Features(arguments) => features(arguments).await,
        ImportWhat::Latencies(arguments) => latencies(arguments).await,
        ImportWhat::List(arguments) => list(arguments).await,
    }
}

async fn evaluations(arguments: ImportEvaluations) -> anyhow::Result<Exit> {
    let ImportEvaluations { file, datasets, training, common } = arguments;
    let files = [read(&file)?, read(&datasets)?];
    accuracies(files, declaration(&training, &common, None), &common).await
}

async fn tasks(arguments: ImportTasks) -> anyhow::Result<Exit> {
    let ImportTasks { file, task_classes, class_source, image_size, training, common } = arguments;
    let files = [read(&file)?, read(&task_classes)?];
    let tasks = TaskClasses { class_source, image_size };
    accuracies(files, declaration(&training, &common, Some(tasks)), &common).await
}

async fn accuracies(
    files: [SourceFile; 2],
    declared: EvaluationsDeclaration,
    common: &ImportCommon,
) -> anyhow::Result<Exit> {
    let begun = Begun::new("evaluations", &files, &declared)?;
    let [rows, definitions] = &files;
    let imported =
        metad2a_exchange::evaluations(rows, definitions, &declared, &begun.stamp(), common.max_problems)?;
    let sources: BTreeMap<&str, &str> =
        imported.datasets.iter().map(|row| (row.dataset_id.as_str(), row.source.as_str())).collect();
    let protocols = protocols(&imported.evaluations, &sources);
    let store = store(common).await?;
    let done = store.marker(IMPORT_KIND, &begun.id).await?;
    let stored = match &done {
        Some(_) => Vec::new(),
        None => vec![
            store.put_rows("datasets", &imported.datasets).await?,
            store.put_rows("evaluations", &imported.evaluations).await?,
        ],
    };
    begun.finish(&store, done, stored, Holds::Evaluations { protocols }, imported.ignored, common).await
}

async fn features(arguments: ImportFeatures) -> anyhow::Result<Exit> {
    let ImportFeatures { file, class_source, extractor, weights, image_size, common } = arguments;
    let files = [read(&file)?];
    let kind = match extractor {
        ExtractorName::EfficientnetLite0 => ExtractorKind::EfficientnetLite0,
        ExtractorName::Resnet18 => ExtractorKind::Resnet18,
    };
    let weights_sha256 = sources::weights_sha256(&weights.display().to_string())?;
    let extractor = Extractor { kind, weights_sha256, image_size };
    let declared = FeaturesDeclaration { origin: common.origin.clone(), class_source, extractor };
    let begun = Begun::new("features", &files, &declared)?;
    let imported = metad2a_exchange::features(&files[0], &declared, common.max_problems)?;
    let store = store(&common).await?;
    let done = store.marker(IMPORT_KIND, &begun.id).await?;
    let stored = match &done {
        Some(_) => Vec::new(),
        None => vec![store.put_rows("features", &imported.features).await?],
    };
    let holds = Holds::Features {
        class_source: declared.class_source,
        extractor: declared.extractor,
        classes: imported.classes,
        rows: imported.features.len() as u64,
    };
    begun.finish(&store, done, stored, holds, imported.ignored, &common).await
}

async fn latencies(arguments: ImportLatencies) -> anyhow::Result<Exit> {
    let ImportLatencies { file, protocol, device, batch_size, column, image_size, classes, shape, common } =
        arguments;
    let files = [read(&file)?];
    let origin = common.origin.clone();
    let shape = network_shape(&shape);
    let declared =
        LatenciesDeclaration { origin, protocol, device, batch_size, column, shape, image_size, classes };
    let begun = Begun::new("latencies", &files, &declared)?;
    let imported = metad2a_exchange::latencies(&files[0], &declared, &begun.stamp(), common.max_problems)?;
    let store = store(&common).await?;
    let done = store.marker(IMPORT_KIND, &begun.id).await?;
    let stored = match &done {
        Some(_) => Vec::new(),
        None => vec![store.put_rows(LatencyRow::NAME, &imported.latencies).await?],
    };
    let devices: BTreeSet<String> = imported.latencies.iter().map(|row| row.device.clone()).collect();
    let rows = imported.latencies.len() as u64;
    let holds = Holds::Latencies { devices: devices.into_iter().collect(), rows };
    begun.finish(&store, done, stored, holds, imported.ignored, &common).await
}

/// An import whose id is known and of which nothing is stored yet.
struct Begun {
    id: String,
    started_at: DateTime<Utc>,
    files: Vec<ImportedFile>,
    declaration: serde_json::Value,
}

impl Begun {
    fn new<D: Serialize>(kind: &str, files: &[SourceFile], declared: &D) -> anyhow::Result<Self> {
        let files: Vec<ImportedFile> = files
            .iter()
            .map(|file| ImportedFile {
                name: file.name.clone(),
                sha256: sha256_hex(&file.bytes),
                bytes: file.bytes.len() as u64,
            })
            .collect();
        let sums: Vec<String> = files.iter().map(|file| file.sha256.clone()).collect();
        Ok(Self {
            id: import_id(kind, &sums, declared),
            started_at: metad2a_database::now(),
            files,
            declaration: serde_json::to_value(declared)?,
        })
    }

    fn stamp(&self) -> Stamp {
        Stamp { import: self.id.clone(), at: self.started_at }
    }

    /// Commits the stored files, unless the import is done already, and tells the person.
    async fn finish(
        self,
        store: &Store,
        done: Option<Marker>,
        stored: Vec<FileRef>,
        holds: Holds,
        ignored_columns: Vec<String>,
        common: &ImportCommon,
    ) -> anyhow::Result<Exit> {
        let protocols = match &holds {
            Holds::Evaluations { protocols } => {
                let teaching = protocols.iter().filter(|(_, rows)| rows.teaching_datasets > 0);
                teaching.map(|(name, _)| name.clone()).collect()
            }
            Holds::Features { .. } | Holds::Latencies { .. } => Vec::new(),
        };
        let id = self.id;
        let (is_new, files) = if let Some(marker) = done {
            (false, marker.files)
        } else {
            let summary = ImportSummary {
                origin: common.origin.clone(),
                files: self.files,
                declaration: self.declaration,
                holds,
            };
            let files = stored.clone();
            let import = NewImport { id: id.clone(), summary, files, started_at: self.started_at };
            match commit(store, import).await? {
                Commit::Won => (true, stored),
                Commit::AlreadyDone(marker) => (false, marker.files),
            }
        };
        let rows = files.iter().filter_map(|file| Some((file.kind()?.to_owned(), file.rows?))).collect();
        let outcome = Outcome { import: id, is_new, rows, ignored_columns, protocols };
        answer(common.format, &outcome, told)?;
        Ok(Exit::Done)
    }
}

fn told(outcome: &Outcome) -> String {
    let rows = outcome.rows.iter().map(|(table, rows)| format!("{rows} rows of `{table}`"));
    let rows = rows.collect::<Vec<_>>().join(", ");
    let state = if outcome.is_new { "Imported" } else { "Nothing to add, it is imported already" };
    let mut text = format!("{state}: {rows}.\n");
    if !outcome.ignored_columns.is_empty() {
        let _ = writeln!(text, "Columns that were not read: `{}`.", outcome.ignored_columns.join("`, `"));
    }
    let _ = writeln!(text, "\nTo publish it, name it in pipeline.yaml:\n\nimports:\n  - {}", outcome.import);
    if !outcome.protocols.is_empty() {
        let protocols = outcome.protocols.join(", ");
        let _ = writeln!(
            text,
            "\nTo learn from it too, where the features of its classes are imported as well:\n\nmodels:\n  \
             imported_protocols: [{protocols}]"
        );
    }
    text
}

fn read(path: &Path) -> anyhow::Result<SourceFile> {
    let unreadable = |source| project::Error::UnreadableInput { file: path.to_owned(), source };
    let bytes = std::fs::read(path).map_err(unreadable)?;
    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    Ok(SourceFile { name, bytes: bytes.into() })
}

async fn store(common: &ImportCommon) -> anyhow::Result<Store> {
    let url = project::store_url(&common.place.pipeline, common.place.store.as_deref())?;
    Ok(Store::open(&url, Access::ReadWrite).await?)
}

fn network_shape(shape: &Shape) -> NetworkShape {
    NetworkShape { channels: shape.channels, cells_per_stage: shape.cells_per_stage }
}

fn declaration(
    training: &Training,
    common: &ImportCommon,
    tasks: Option<TaskClasses>,
) -> EvaluationsDeclaration {
    EvaluationsDeclaration {
        origin: common.origin.clone(),
        accuracy_unit: match training.accuracy_unit {
            Unit::Fraction => AccuracyUnit::Fraction,
            Unit::Percent => AccuracyUnit::Percent,
        },
        protocol: Protocol {
            name: training.protocol.clone(),
            shape: network_shape(&training.shape),
            batch_size: training.batch_size,
            learning_rate: training.learning_rate,
        },
        epochs: training.epochs,
        split: training.split.map(|split| match split {
            CliSplit::Train => Split::Train,
            CliSplit::Valid => Split::Valid,
            CliSplit::Test => Split::Test,
        }),
        rows: training.rows,
        tasks,
    }
}

/// Counts by protocol. `sources` leads from a dataset's id to its class source.
fn protocols(rows: &[EvaluationRow], sources: &BTreeMap<&str, &str>) -> BTreeMap<String, ProtocolSummary> {
    let mut datasets: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    let mut found: BTreeMap<String, ProtocolSummary> = BTreeMap::new();
    for row in rows {
        let Some(protocol) = &row.protocol else { continue };
        found.entry(protocol.clone()).or_default().rows += 1;
        let valid = datasets.entry(protocol).or_default().entry(&row.dataset_id).or_default();
        *valid += usize::from(row.valid_accuracy.is_some());
    }
    for (protocol, datasets) in datasets {
        let summary = found.entry(protocol.to_owned()).or_default();
        summary.datasets = datasets.len() as u64;
        for (dataset, _) in datasets.iter().filter(|(_, valid)| **valid >= LEAST_ROWS) {
            summary.teaching_datasets += 1;
            summary.class_sources.extend(sources.get(dataset).map(|source| (*source).to_owned()));
        }
    }
    found
}

async fn list(arguments: ImportList) -> anyhow::Result<Exit> {
    let url = project::store_url(&arguments.place.pipeline, arguments.place.store.as_deref())?;
    let store = Store::open(&url, Access::ReadOnly).await?;
    let mut markers = store.markers(IMPORT_KIND).await.context("the imports cannot be listed")?;
    markers.sort_by(|a, b| (a.finished_at, &a.id).cmp(&(b.finished_at, &b.id)));
    try_answer(arguments.format, markers.as_slice(), overview)?;
    Ok(Exit::Done)
}

fn overview(markers: &[Marker]) -> anyhow::Result<String> {
    let mut text = format!("{:<64}  {:<16}  what\n", "import", "when (UTC)");
    for marker in markers {
        let summary = summary_of(marker)?;
        let when = marker.finished_at.format("%Y-%m-%d %H:%M").to_string();
        let _ = writeln!(text, "{}  {when:<16}  {}; {}", marker.id, contents(&summary.holds), summary.origin);
    }
    Ok(text)
}

fn contents(holds: &Holds) -> String {
    match holds {
        Holds::Evaluations { protocols } => {
            let each = protocols
                .iter()
                .map(|(name, it)| format!("{} of {name} on {} datasets", it.rows, it.datasets));
            format!("evaluations: {}", each.collect::<Vec<_>>().join(", "))
        }
        Holds::Features { class_source, classes, rows, .. } => {
            format!("features: {rows} of {classes} classes of {class_source}")
        }
        Holds::Latencies { devices, rows } => format!("latencies: {rows} on {}", devices.join(", ")),
    }
}
