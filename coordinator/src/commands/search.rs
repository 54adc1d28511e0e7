//! `metad2a search`: the best cells for a dataset of the user's, from published models.
//!
//! The same tasks, store and worker as a run, on a queue of its own in a temporary folder: what was searched before is
//! there at once.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, anyhow, bail, ensure};
use metad2a_database::{Access, ModelRecord, Snapshot, Store};
use metad2a_pipeline::envelope::SourceAddress;
use metad2a_pipeline::planner::{Existing, Fact, Place, Stage};
use metad2a_pipeline::specification::Specification;
use metad2a_pipeline::study::{IndexedSource, extraction_shards};
use metad2a_pipeline::tasks::{
    Blob, Constraints, Dataset, ExtractFeatures, Fractions, Look, Model, PicturesPerClass, Recipe,
    Search as SearchTask, Summary, Task,
};
use metad2a_search_space::{Cell, MacroShape, flops, parameters};
use serde::Serialize;

use super::output::answer;
use super::run::interrupted;
use crate::chosen_snapshot::{chosen, no_snapshot};
use crate::cli::Search;
use crate::dispatch::Open;
use crate::local_workers::{Launch, LocalWorker};
use crate::publication::ModelConfig;
use crate::run::{Delivery, Leader};
use crate::work::Work;
use crate::{Exit, ledger, project, sources};

/// All pictures of the user's dataset may be looked at: nothing is measured on it here.
const EVERYTHING: Fractions = Fractions { train: 1.0, valid: 0.0, test: 0.0 };

#[derive(Debug, Serialize)]
struct Found {
    dataset: Vec<String>,
    classes: usize,
    snapshot: u32,
    drawn: u64,
    valid: u64,
    distinct: u64,
    ranked: Vec<FoundCell>,
}

#[derive(Debug, Serialize)]
struct FoundCell {
    rank: usize,
    arch_index: u16,
    cell: Cell,
    predicted_accuracy: f64,
    predicted_accuracy_sd: f64,
    params: u64,
    flops: u64,
}

pub(crate) async fn search(arguments: Search) -> anyhow::Result<Exit> {
    let project = project::load(&arguments.pipeline, &arguments.addresses)?;
    let specification = project.specification;
    let here = std::env::current_dir().context("the current folder is gone")?;
    let address = SourceAddress {
        name: "your dataset".to_owned(),
        format: arguments.dataset_format.clone(),
        paths: arguments.dataset.iter().map(|path| project::absolute(path, &here)).collect(),
        fingerprint: None,
    };
    let source = sources::indexed(address).await?;
    ensure!(
        source.classes.len() >= 2,
        "the dataset has {} class; a search needs at least 2",
        source.classes.len()
    );
    // A store without a snapshot stays untouched.
    let snapshot = match Store::open(&specification.store, Access::ReadOnly).await {
        Ok(store) => chosen(&store, &specification.name, arguments.snapshot).await?,
        Err(metad2a_database::Error::NoDatabase { .. }) => {
            return Err(no_snapshot(&specification.name, arguments.snapshot));
        }
        Err(error) => return Err(error.into()),
    };
    let store = Store::open(&specification.store, Access::ReadWrite).await?;
    let generator = published(&store, &snapshot, Model::Generator).await?;
    let predictor = published(&store, &snapshot, Model::Predictor).await?;
    let extractor = &generator.config.extractor;
    let weights = sources::weights_sha256(&specification.extractor.weights)?;
    ensure!(
        weights == extractor.weights_sha256,
        "the models of snapshot {} were trained on features of other weights (SHA-256 {}) than `{}`; point \
         `extractor.weights` at those",
        snapshot.number,
        extractor.weights_sha256,
        specification.extractor.weights
    );
    let plan = SearchPlan::new(&source, &generator, &predictor, &arguments);
    let folder = temporary_folder()?;
    let summary = carry_out(plan, &source, &store, &specification, &arguments, folder.path()).await?;
    let recipe = &generator.config.recipe;
    let found = found(&arguments, &source, snapshot.number, recipe, summary)?;
    answer(arguments.format, &found, table)?;
    Ok(Exit::Done)
}

/// A model of a snapshot, with all that is needed to use it.
struct PublishedModel {
    weights: Blob,
    config: ModelConfig,
}

async fn published(store: &Store, snapshot: &Snapshot, model: Model) -> anyhow::Result<PublishedModel> {
    let name = model.name();
    let number = snapshot.number;
    let id = snapshot.models.get(name).ok_or_else(|| anyhow!("snapshot {number} holds no {name}"))?;
    let record: ModelRecord = store
        .model(&snapshot.pipeline, name, id)
        .await?
        .ok_or_else(|| anyhow!("the {name} `{id}` of snapshot {number} is not in the store"))?;
    let config = serde_json::from_value(record.config.clone())
        .with_context(|| format!("the {name} of snapshot {number} has a configuration of another version"))?;
    let path = format!("{}/models/{name}/{id}.safetensors", snapshot.pipeline);
    Ok(PublishedModel { weights: Blob { path, sha256: record.sha256, bytes: record.bytes }, config })
}

/// The tasks of one search, and what exists of them.
struct SearchPlan {
    extractions: Vec<ExtractFeatures>,
    search: SearchTask,
    existing: Existing,
}

impl SearchPlan {
    fn new(
        source: &IndexedSource,
        generator: &PublishedModel,
        predictor: &PublishedModel,
        arguments: &Search,
    ) -> Self {
        let config = &generator.config;
        let labels: Vec<u32> = source.classes.iter().map(|(label, _)| *label).collect();
        let extractions = extraction_shards(
            &source.content_id,
            &labels,
            EVERYTHING,
            config.images_per_class,
            config.classes_per_task,
            &config.extractor,
        );
        let per_class = PicturesPerClass { train: config.images_per_class, valid: 0, test: 0 };
        let dataset = Dataset {
            source: source.content_id.clone(),
            classes: labels.clone(),
            per_class,
            fractions: EVERYTHING,
            look: Look::default(),
        };
        let features = extractions.iter().map(|task| Task::ExtractFeatures(task.clone()).id()).collect();
        let search = SearchTask {
            dataset: dataset.id(),
            source: source.content_id.clone(),
            classes: labels,
            look: Look::default(),
            features,
            generator: generator.weights.clone(),
            generator_settings: config.settings.clone(),
            predictor: predictor.weights.clone(),
            predictor_settings: predictor.config.settings.clone(),
            candidates: arguments.candidates,
            sets: arguments.sets,
            seed: arguments.seed,
            constraints: Constraints {
                max_parameters: arguments.max_parameters,
                max_flops: arguments.max_flops,
            },
            channels: config.recipe.channels,
            cells_per_stage: config.recipe.cells_per_stage,
            image_size: config.recipe.image_size,
        };
        Self { extractions, search, existing: Existing::default() }
    }

    /// The extractions, and the search that needs them all.
    fn all(&self) -> impl Iterator<Item = Task> {
        let extractions = self.extractions.iter().map(|task| Task::ExtractFeatures(task.clone()));
        extractions.chain([Task::Search(self.search.clone())])
    }

    /// Whether the search is done; an error where it never will be.
    fn is_over(&self) -> anyhow::Result<bool> {
        for task in self.all() {
            if let Some(failure) = self.existing.failure(&task.id()) {
                bail!("the {} failed: {}", task.kind().name(), failure.last_reason());
            }
        }
        Ok(self.existing.is_done(&Task::Search(self.search.clone()).id()))
    }
}

/// The place of the search, behind those of its extractions.
const SEARCH: Place = Place { stage: Stage::Search, number: 0 };

impl Open for SearchPlan {
    fn tasks(&self, place: Place) -> Vec<(String, Task)> {
        let is_open = |task: &Task| !self.existing.is_done(&task.id());
        let task = if place == SEARCH {
            let waits = self.extractions.iter().any(|task| is_open(&Task::ExtractFeatures(task.clone())));
            (!waits).then(|| Task::Search(self.search.clone()))
        } else {
            self.extractions.get(place.number as usize).cloned().map(Task::ExtractFeatures)
        };
        task.filter(is_open).map(|task| (task.id(), task)).into_iter().collect()
    }
}

impl Work for SearchPlan {
    /// They are few: all of them, always.
    fn take_changes(&mut self) -> Vec<Place> {
        let extractions = 0..self.extractions.len() as u32;
        extractions.map(|number| Place { stage: Stage::Features, number }).chain([SEARCH]).collect()
    }

    fn is_done(&self, id: &str) -> bool {
        self.existing.is_done(id)
    }

    fn learn(&mut self, fact: Fact) {
        self.existing.learn(fact);
    }
}

/// Runs the tasks that are not done yet with a local worker.
async fn carry_out(
    mut plan: SearchPlan,
    source: &IndexedSource,
    store: &Store,
    specification: &Specification,
    arguments: &Search,
    folder: &std::path::Path,
) -> anyhow::Result<Summary> {
    let id = Task::Search(plan.search.clone()).id();
    for task in plan.all().collect::<Vec<_>>() {
        if let Some(marker) = store.marker(task.kind().name(), &task.id()).await? {
            plan.learn(ledger::fact_of_marker(marker)?);
        }
    }
    if !plan.existing.is_done(&id) {
        let queue_url = format!("sqlite:{}", folder.join("queue.sqlite").display());
        let queue = metad2a_queue::open(&queue_url).await?;
        let worker = LocalWorker::start(Launch {
            queue: queue_url,
            store: specification.store.clone(),
            pipeline: specification.name.clone(),
            device: arguments.device.clone(),
            slots: None,
            log: folder.join("worker.log"),
        })?;
        let delivery = Delivery {
            pipeline: specification.name.clone(),
            sources: BTreeMap::from([(source.content_id.clone(), source.address.clone())]),
            weights: BTreeMap::from([(
                plan.extractions[0].extractor.weights_sha256.clone(),
                specification.extractor.weights.clone(),
            )]),
            max_attempts: specification.patience.max_attempts,
            patience_seconds: specification.patience.no_progress_seconds,
            measure_latency: specification.evaluations.latency,
            trace: metad2a_queue::TraceContext::start(),
        };
        let mut leader = Leader::new(store.clone(), queue.clone(), delivery, Some(worker)).await?;
        let outcome = tokio::select! {
            outcome = work(&mut plan, &mut leader) => outcome,
            () = interrupted() => Err(anyhow!("stopped")),
        };
        leader.stop().await;
        queue.close().await?;
        outcome?;
    }
    let summary = plan.existing.summary(&id).context("the search's marker holds no ranking")?;
    Ok(summary.clone())
}

async fn work(plan: &mut SearchPlan, leader: &mut Leader) -> anyhow::Result<()> {
    while !plan.is_over()? {
        leader.publish(plan, &[]).await?;
        leader.hear(plan).await?;
    }
    Ok(())
}

fn temporary_folder() -> anyhow::Result<tempfile::TempDir> {
    tempfile::Builder::new().prefix("metad2a-search-").tempdir().context("no temporary folder can be made")
}

fn found(
    arguments: &Search,
    source: &IndexedSource,
    snapshot: u32,
    recipe: &Recipe,
    summary: Summary,
) -> anyhow::Result<Found> {
    let Summary::Search { drawn, valid, distinct, ranked } = summary else {
        bail!("the marker of the search holds no ranking");
    };
    let shape = MacroShape {
        channels: recipe.channels.into(),
        cells_per_stage: recipe.cells_per_stage.into(),
        image_size: recipe.image_size.into(),
        classes: source.classes.len() as u64,
    };
    let ranked = ranked.into_iter().take(arguments.top).enumerate();
    Ok(Found {
        dataset: source.address.paths.clone(),
        classes: source.classes.len(),
        snapshot,
        drawn,
        valid,
        distinct,
        ranked: ranked
            .map(|(position, ranked)| FoundCell {
                rank: position + 1,
                arch_index: ranked.cell.index().get(),
                cell: ranked.cell,
                predicted_accuracy: ranked.predicted_accuracy,
                predicted_accuracy_sd: ranked.predicted_sd,
                params: parameters(ranked.cell, shape),
                flops: flops(ranked.cell, shape),
            })
            .collect(),
    })
}

fn table(found: &Found) -> String {
    let mut text = format!(
        "{}: {} classes; models of snapshot {}; {} graphs drawn, {} of them cells, {} distinct\n\n",
        found.dataset.join(", "),
        found.classes,
        found.snapshot,
        found.drawn,
        found.valid,
        found.distinct
    );
    let width = found.ranked.iter().map(|cell| cell.cell.to_string().len()).max().unwrap_or_default();
    let _ = writeln!(
        text,
        "{:>4}{:>7}  {:<width$}{:>16}{:>10}{:>12}",
        "rank", "index", "cell", "predicted (%)", "params", "flops"
    );
    for cell in &found.ranked {
        let predicted =
            format!("{:.1} ± {:.1}", cell.predicted_accuracy * 100.0, cell.predicted_accuracy_sd * 100.0);
        let _ = writeln!(
            text,
            "{:>4}{:>7}  {:<width$}{predicted:>16}{:>10}{:>12}",
            cell.rank,
            cell.arch_index,
            cell.cell.to_string(),
            cell.params,
            cell.flops
        );
    }
    if found.ranked.is_empty() {
        text.push_str("No cell that keeps to the limits was drawn; loosen them.\n");
    }
    text
}
