//! Publishes what a finished pipeline found as a snapshot: models first, then tables, then the manifest.
//!
//! Result files of workers are handed on as they are; a file that also holds rows which another task holds, or which
//! the study does not ask for, is rewritten without them, so that no row is doubled.

mod rows;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::{Context, anyhow};
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt};
use metad2a_database::tables::{CurveRow, EvaluationRow, RunRow};
use metad2a_database::{
    Checks, FileRef, Marker, ModelRecord, Published, SnapshotDraft, SnapshotSource, Store, TableRow,
};
use metad2a_pipeline::ids::content_id;
use metad2a_pipeline::planner::{Chosen, Existing, Learnt, Results};
use metad2a_pipeline::study::{Bundle, IndexedSource, Study};
use metad2a_pipeline::tasks::{Extractor, Kind, Model, ModelSettings, Recipe, Summary, Task};
use serde::{Deserialize, Serialize};

use self::rows::Searched;
use crate::imports;
use crate::ledger::file_of;

/// Raised by hand when the derived rows change for equal results.
const SEMANTICS: u32 = 2;
/// Tables that may not shrink in a refresh. The number of candidates depends on what the models draw.
const HELD_TABLES: [&str; 4] = ["datasets", "evaluations", "features", "searches"];
/// Requests to the store at a time.
const CONCURRENT_REQUESTS: usize = 16;

/// What is kept beside a published model: all that a search needs to use it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ModelConfig {
    pub(crate) settings: ModelSettings,
    pub(crate) extractor: Extractor,
    /// Pictures of each class whose features are extracted.
    pub(crate) images_per_class: u32,
    pub(crate) classes_per_task: u32,
    /// Shape at which costs are counted.
    pub(crate) recipe: Recipe,
    /// The decision that chose its checkpoint, by which a later refresh finds its figures.
    #[serde(default)]
    pub(crate) selection: Option<String>,
    /// The classes that it has learnt from, through all models that it started from.
    #[serde(default)]
    pub(crate) learnt: Option<Learnt>,
}

/// The run that publishes.
#[derive(Debug, Clone)]
pub(crate) struct RunFacts {
    pub(crate) run_id: String,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) tasks_done: u64,
    pub(crate) tasks_failed: u64,
}

/// Names everything that a snapshot is made of.
fn inputs_id(study: &Study, results: &Results) -> String {
    let searches: Vec<(&str, &[String])> =
        results.searches.iter().map(|search| (search.task.as_str(), search.evaluations.as_slice())).collect();
    let [generator, predictor] = Model::ALL.map(|model| &results.model(model).selected.checkpoint.sha256);
    let models = (generator, predictor);
    let basis = (study.id(), &results.training_set, models, searches);
    let imports = &study.specification.imports;
    if imports.is_empty() {
        return content_id("snapshot", SEMANTICS, &basis);
    }
    content_id("snapshot", SEMANTICS, &(basis, imports))
}

/// Publishes the results, unless the current snapshot is made of the same.
pub(crate) async fn publish(
    store: &Store,
    study: &Study,
    existing: &Existing,
    results: &Results,
    run: &RunFacts,
) -> anyhow::Result<Published> {
    let pipeline = &study.specification.name;
    let inputs_id = inputs_id(study, results);
    let current = store.current_snapshot(pipeline).await?;
    if let Some(current) = current.as_ref().filter(|current| current.inputs_id == inputs_id) {
        return Ok(Published::Unchanged(current.number));
    }
    let mut models = Vec::new();
    for model in Model::ALL {
        let chosen = results.model(model);
        models.push((put_model(store, study, model, chosen).await?, &chosen.selected));
    }

    let mut tables = Tables { store, files: BTreeMap::new() };
    let wanted = wanted_units(study, existing, results);
    let (evaluations, drawn) = tables.add_evaluations(&wanted).await?;
    tables.add_features(study).await?;
    let imports = imports::named(store, study, existing).await?;
    let imported_rows = imports.rows();
    let mut datasets = rows::datasets(study, &drawn);
    tables.add("architectures", &rows::architectures(study, &datasets, &imports.shapes)).await?;
    datasets.extend(imports.datasets);
    for (table, files) in imports.files {
        tables.files.entry(table).or_default().extend(files);
    }
    tables.files.entry("latencies".to_owned()).or_default();
    tables.add("datasets", &datasets).await?;
    tables.add("models", &rows::models(&models)).await?;
    tables.add("training_metrics", &rows::training_metrics(results)).await?;
    let markers =
        markers(store, Kind::Search, results.searches.iter().map(|search| search.task.clone())).await?;
    let mut searched = Vec::new();
    for (search, marker) in results.searches.iter().zip(&markers) {
        let summary = existing.summary(&search.task).context("a search of the results is done")?;
        searched.push(Searched { search, marker, summary });
    }
    tables.add("searches", &rows::searches(study, results, &searched)).await?;
    tables.add("candidates", &rows::candidates(study, &searched, &evaluations)).await?;
    let mut runs = match &current {
        Some(current) => store.read_table::<RunRow>(current).await?,
        None => Vec::new(),
    };
    runs.push(run_row(study, run));
    tables.add("runs", &runs).await?;

    let units: u64 = wanted.values().map(|units| units.len() as u64).sum::<u64>() + imports.evaluations;
    let draft = SnapshotDraft {
        pipeline: pipeline.clone(),
        inputs_id,
        tables: tables.files,
        imported_rows,
        models: models.iter().map(|(record, _)| (record.model.clone(), record.sha256.clone())).collect(),
        sources: sources(study),
        notes: notes(results),
    };
    let checks = Checks {
        expected_rows: BTreeMap::from([("evaluations".to_owned(), units)]),
        shrinkage: shrinkage(study),
        violations: Vec::new(),
    };
    Ok(store.publish(draft, &checks).await?)
}

/// What readers of the snapshot should know of its models.
fn notes(results: &Results) -> Vec<String> {
    let kept = Model::ALL.into_iter().filter_map(|model| {
        let gate = results.model(model).gate.as_ref()?;
        let snapshot = gate.kept?;
        Some(format!(
            "the {} is that of snapshot {snapshot}: the new one did not pass its gate: {}",
            model.name(),
            gate.judgement.reason
        ))
    });
    kept.collect()
}

fn sources(study: &Study) -> BTreeMap<String, SnapshotSource> {
    let state = |source: &IndexedSource| SnapshotSource {
        content_id: source.content_id.clone(),
        classes: source.classes.len() as u64,
        pictures: source.pictures,
    };
    study.sources.iter().map(|(name, source)| (name.clone(), state(source))).collect()
}

/// A person who runs a pipeline sees what shrinks; a refresh must not let it pass.
fn shrinkage(study: &Study) -> BTreeMap<String, f64> {
    let Some(refresh) = &study.refresh else { return BTreeMap::new() };
    HELD_TABLES.map(|table| (table.to_owned(), refresh.shrink_tolerance)).into()
}

fn run_row(study: &Study, run: &RunFacts) -> RunRow {
    RunRow {
        run_id: run.run_id.clone(),
        pipeline: study.specification.name.clone(),
        specification_id: content_id("specification", 1, &study.specification),
        code_version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: run.started_at,
        finished_at: Some(metad2a_database::now()),
        tasks_done: run.tasks_done as i64,
        tasks_failed: run.tasks_failed as i64,
        outcome: if run.tasks_failed == 0 { "done" } else { "done-with-failures" }.to_owned(),
    }
}

async fn put_model(
    store: &Store,
    study: &Study,
    model: Model,
    chosen: &Chosen,
) -> anyhow::Result<ModelRecord> {
    let specification = &study.specification;
    let selected = &chosen.selected;
    let config = ModelConfig {
        settings: chosen.settings.clone(),
        extractor: study.extractor.clone(),
        images_per_class: specification.extractor.images_per_class,
        classes_per_task: specification.extractor.classes_per_task,
        recipe: specification.recipe(&specification.search.recipe).clone(),
        selection: selected.selection.clone(),
        learnt: Some(chosen.learnt.clone()),
    };
    let weights = store.get_data(&file_of(&selected.checkpoint)).await?;
    let mut record = ModelRecord::of(model.name(), selected.round, serde_json::to_value(config)?, &weights);
    record.metrics.clone_from(&selected.metrics);
    record.parents.extend(selected.started_from.iter().map(|parent| parent.checkpoint.sha256.clone()));
    record.reproducible = selected.is_reproducible();
    store.put_model(&specification.name, &record, weights).await?;
    // The same weights keep the record that they were first stored with.
    let stored = store.model(&specification.name, model.name(), &record.sha256).await?;
    stored.ok_or_else(|| anyhow!("the record of the {} vanished from the store", model.name()))
}

/// Task id → the units whose rows are taken from it.
fn wanted_units(study: &Study, existing: &Existing, results: &Results) -> BTreeMap<String, BTreeSet<String>> {
    let mut wanted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut add = |bundle: Bundle<'_>| {
        for unit in bundle.units.iter().map(|unit| bundle.unit_id(unit)) {
            if let Some(task) = existing.holder_of(unit) {
                wanted.entry(task.to_string()).or_default().insert(unit.to_string());
            }
        }
    };
    study.bundles().for_each(&mut add);
    for (dataset, units) in &results.around_best {
        add(study.evaluation(dataset, units));
    }
    for search in &results.searches {
        let mut cells = search.random.clone();
        cells.extend(
            search.chosen.iter().map(|ranked| ranked.cell).filter(|cell| !search.random.contains(cell)),
        );
        add(study.measurement(&search.dataset, &study.measured_units(&cells)));
    }
    wanted
}

async fn markers(
    store: &Store,
    kind: Kind,
    ids: impl Iterator<Item = String>,
) -> anyhow::Result<Vec<Marker>> {
    futures::stream::iter(ids)
        .map(|id| async move {
            let marker = store.marker(kind.name(), &id).await?;
            marker.ok_or_else(|| anyhow!("the marker of {} task `{id}` vanished from the store", kind.name()))
        })
        .buffered(CONCURRENT_REQUESTS)
        .try_collect()
        .await
}

/// Files by table, as a draft wants them.
struct Tables<'a> {
    store: &'a Store,
    files: BTreeMap<String, Vec<FileRef>>,
}

impl Tables<'_> {
    async fn add<T: TableRow>(&mut self, table: &str, rows: &[T]) -> anyhow::Result<()> {
        let file = self.store.put_rows(table, rows).await?;
        self.files.entry(table.to_owned()).or_default().push(file);
        Ok(())
    }

    /// Adds `evaluations` and `curves`; the wanted rows of the former, which later tables are derived from, and what
    /// was drawn for each dataset, by its id.
    async fn add_evaluations(
        &mut self,
        wanted: &BTreeMap<String, BTreeSet<String>>,
    ) -> anyhow::Result<(Vec<EvaluationRow>, HashMap<String, Summary>)> {
        let mut all = Vec::new();
        let mut drawn = HashMap::new();
        for marker in markers(self.store, Kind::Evaluate, wanted.keys().cloned()).await? {
            let units = &wanted[&marker.id];
            let evaluations: Vec<FileRef> = marker.files_of("evaluations").cloned().collect();
            let curves: Vec<FileRef> = marker.files_of("curves").cloned().collect();
            let mut rows: Vec<EvaluationRow> = self.store.read_files(&evaluations).await?;
            if marker.units.iter().all(|unit| units.contains(unit)) {
                self.files.entry("evaluations".to_owned()).or_default().extend(evaluations);
                self.files.entry("curves".to_owned()).or_default().extend(curves);
            } else {
                rows.retain(|row| units.contains(&row.unit_id));
                let mut points: Vec<CurveRow> = self.store.read_files(&curves).await?;
                points.retain(|row| units.contains(&row.unit_id));
                self.add("evaluations", &rows).await?;
                self.add("curves", &points).await?;
            }
            if let Some(row) = rows.first() {
                let summary = serde_json::from_value(marker.summary)
                    .with_context(|| format!("the marker of task `{}` has an unknown summary", marker.id))?;
                drawn.insert(row.dataset_id.clone(), summary);
            }
            all.extend(rows);
        }
        Ok((all, drawn))
    }

    async fn add_features(&mut self, study: &Study) -> anyhow::Result<()> {
        let ids = study.extractions.iter().map(|extraction| Task::ExtractFeatures(extraction.clone()).id());
        let mut found: HashMap<String, FileRef> = HashMap::new();
        for id in ids {
            // A failed extraction has none, and its datasets were left out.
            if let Some(marker) = self.store.marker(Kind::ExtractFeatures.name(), &id).await? {
                found.extend(marker.files_of("features").map(|file| (file.sha256.clone(), file.clone())));
            }
        }
        let mut files: Vec<FileRef> = found.into_values().collect();
        files.sort_by(|a, b| a.sha256.cmp(&b.sha256));
        self.files.entry("features".to_owned()).or_default().extend(files);
        Ok(())
    }
}
