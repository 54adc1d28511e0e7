//! What is to be done next: the pure heart of the coordinator.
//!
//! ```text
//!   Study ──────────┐
//!                   ├─► plan ─► tasks that may run now
//!   Existing ───────┘           choices to freeze, rounds to merge
//!   (markers, decisions)        progress by stage, outcome
//! ```
//!
//! The shell lists the store, calls [`plan`], does what it says, and calls again. Every step is a task with an id of
//! its content or a put-if-absent record, so that two coordinators, or one that died and started again, do no harm.
//!
//! **Invariant:** for the same study, the same finished tasks and the same decisions the plan is the same.
//! Deliberately absent: what is in flight. The shell remembers what it has published.

mod evaluations;
mod existing;
mod results;
#[cfg(test)]
mod tests;
mod training;

use std::collections::BTreeMap;

pub use existing::{Done, Existing, Failure};
pub use results::{Results, SearchResult};
use serde::{Deserialize, Serialize};
use serde_json::Value;
pub use training::{ModelSelected, RoundClosed, ShardResult, training_id};

use crate::ids::content_id;
use crate::study::{Study, StudyDataset};
use crate::tasks::{Blob, Model, OuterStep, Search, Summary, Task};
use crate::training_set::TrainingSet;

/// A record that cannot be what its name says: another program wrote it, or it is damaged.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("decision `{id}` is not a {expected}: {source}; was it written by another version?")]
    Decision { id: String, expected: &'static str, source: serde_json::Error },
    #[error("task `{id}` is done, but its marker's summary is not that of a {expected} task")]
    Summary { id: String, expected: &'static str },
}

/// A choice to be written down before it is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Freeze {
    /// Id of the decision record.
    pub id: String,
    pub decision: &'static str,
    pub detail: Value,
}

/// A round whose shards are all in: the outer step is due, and its result is frozen as a [`RoundClosed`] under `id`.
#[derive(Debug, Clone, PartialEq)]
pub struct Merge {
    /// Id of the decision record.
    pub id: String,
    pub model: Model,
    pub round: u32,
    /// In shard order.
    pub shards: Vec<ShardResult>,
    /// Momentum of the round before; none in the first.
    pub momentum: Option<Blob>,
    pub outer: OuterStep,
}

/// Parts of a pipeline, in the order in which they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    Features,
    Evaluations,
    Generator,
    Predictor,
    Search,
    Measurements,
}

impl Stage {
    pub fn name(self) -> &'static str {
        match self {
            Self::Features => "features",
            Self::Evaluations => "evaluations",
            Self::Generator => "generator",
            Self::Predictor => "predictor",
            Self::Search => "search",
            Self::Measurements => "measurements",
        }
    }

    /// What is counted in [`Progress`].
    pub fn unit(self) -> &'static str {
        match self {
            Self::Features => "class shards",
            Self::Evaluations | Self::Measurements => "trainings",
            Self::Generator | Self::Predictor => "rounds",
            Self::Search => "datasets",
        }
    }
}

/// How far a stage is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    pub done: u64,
    pub failed: u64,
    pub total: u64,
}

impl Progress {
    pub fn is_settled(self) -> bool {
        self.done + self.failed == self.total
    }
}

/// Where a run stands as a whole.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Something is left to do.
    Running,
    /// Everything that can be done is done.
    Finished(Box<Results>),
    /// Nothing can be done: too much has failed.
    Blocked(String),
}

/// What the shell has to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Tasks whose inputs are there and that are not done, the most urgent first.
    pub enqueue: Vec<Task>,
    /// To be written in this order.
    pub freeze: Vec<Freeze>,
    pub merge: Vec<Merge>,
    pub stages: BTreeMap<Stage, Progress>,
    /// What failed for good, one line each.
    pub problems: Vec<String>,
    pub outcome: Outcome,
}

/// Decides what is to be done for `study`, given what exists.
pub fn plan(study: &Study, existing: &Existing) -> Result<Plan, Error> {
    Planner { study, existing, plan: Plan::empty() }.run()
}

impl Plan {
    fn empty() -> Self {
        Self {
            enqueue: Vec::new(),
            freeze: Vec::new(),
            merge: Vec::new(),
            stages: BTreeMap::new(),
            problems: Vec::new(),
            outcome: Outcome::Running,
        }
    }
}

struct Planner<'a> {
    study: &'a Study,
    existing: &'a Existing,
    plan: Plan,
}

impl Planner<'_> {
    fn run(mut self) -> Result<Plan, Error> {
        self.extract_features();
        self.evaluate();
        self.expect_later_stages();
        if self.settled(Stage::Features)
            && self.settled(Stage::Evaluations)
            && let Some(training_set) = self.training_set()?
        {
            self.train_and_search(&training_set)?;
        }
        Ok(self.plan)
    }

    fn settled(&self, stage: Stage) -> bool {
        self.plan.stages.get(&stage).is_some_and(|progress| progress.is_settled())
    }

    fn count(&mut self, stage: Stage) -> &mut Progress {
        self.plan.stages.entry(stage).or_default()
    }

    fn extract_features(&mut self) {
        self.count(Stage::Features).total = self.study.extractions.len() as u64;
        for extraction in &self.study.extractions {
            let task = Task::ExtractFeatures(extraction.clone());
            self.settle(Stage::Features, task);
        }
    }

    /// Counts a task that stands for one unit of progress, and enqueues it where it is open.
    fn settle(&mut self, stage: Stage, task: Task) {
        let id = task.id();
        if self.existing.is_done(&id) {
            self.count(stage).done += 1;
        } else if let Some(failure) = self.existing.failure(&id) {
            self.plan.problems.push(format!(
                "{} task `{id}` failed: {}",
                task.kind().name(),
                failure.last_reason()
            ));
            self.count(stage).failed += 1;
        } else {
            self.plan.enqueue.push(task);
        }
    }

    /// Totals of the stages that cannot start yet, so that a reader sees the whole way.
    fn expect_later_stages(&mut self) {
        let specification = &self.study.specification;
        let (generator, predictor) = (specification.generator.rounds, specification.predictor.rounds);
        let cells = u64::from(specification.search.chosen + specification.search.random);
        let seeds = specification.search.seeds.len() as u64;
        let searched = self.study.searched().count() as u64;
        self.count(Stage::Generator).total = generator.into();
        self.count(Stage::Predictor).total = predictor.into();
        self.count(Stage::Search).total = searched;
        self.count(Stage::Measurements).total = searched * cells * seeds;
    }

    fn train_and_search(&mut self, training_set: &TrainingSet) -> Result<(), Error> {
        let generator = self.train(Model::Generator, training_set)?;
        let predictor = self.train(Model::Predictor, training_set)?;
        let (Some(generator), Some(predictor)) = (generator, predictor) else { return Ok(()) };
        let study = self.study;
        let mut searches = Vec::new();
        for dataset in study.searched() {
            if let Some(result) = self.search(dataset, &generator, &predictor)? {
                searches.push(result);
            }
        }
        if self.settled(Stage::Search) {
            self.count(Stage::Measurements).total = 0;
            for search in &mut searches {
                self.measure(search);
            }
            if self.settled(Stage::Measurements) {
                let training_set_id = training_set.id();
                let results = Results { training_set: training_set_id, generator, predictor, searches };
                self.plan.outcome = Outcome::Finished(Box::new(results));
            }
        }
        Ok(())
    }

    /// The search on one dataset; its outcome once it is done.
    fn search(
        &mut self,
        dataset: &StudyDataset,
        generator: &ModelSelected,
        predictor: &ModelSelected,
    ) -> Result<Option<SearchResult>, Error> {
        if dataset.features.iter().any(|id| self.existing.failure(id).is_some()) {
            self.plan.problems.push(format!("dataset `{}` has no search: its features failed", dataset.name));
            self.count(Stage::Search).failed += 1;
            return Ok(None);
        }
        let task = Task::Search(self.search_task(dataset, generator, predictor));
        let id = task.id();
        let result = match self.existing.done(&id).map(|done| &done.summary) {
            Some(Summary::Search { ranked, .. }) => {
                let chosen =
                    ranked.iter().take(self.study.specification.search.chosen as usize).cloned().collect();
                Some(SearchResult {
                    dataset: dataset.clone(),
                    task: id,
                    chosen,
                    random: self.study.random_cells(dataset),
                    evaluations: Vec::new(),
                })
            }
            Some(_) => return Err(Error::Summary { id, expected: "search" }),
            None => None,
        };
        self.settle(Stage::Search, task);
        Ok(result)
    }

    fn search_task(
        &self,
        dataset: &StudyDataset,
        generator: &ModelSelected,
        predictor: &ModelSelected,
    ) -> Search {
        let specification = &self.study.specification;
        let recipe = specification.recipe(&specification.search.recipe);
        Search {
            dataset: dataset.id.clone(),
            source: dataset.dataset.source.clone(),
            classes: dataset.dataset.classes.clone(),
            features: dataset.features.clone(),
            generator: generator.checkpoint.clone(),
            generator_settings: specification.generator.settings.clone(),
            predictor: predictor.checkpoint.clone(),
            predictor_settings: specification.predictor.settings.clone(),
            candidates: specification.search.candidates,
            sets: specification.search.sets,
            seed: specification.seed,
            constraints: specification.search.constraints,
            channels: recipe.channels,
            cells_per_stage: recipe.cells_per_stage,
            image_size: recipe.image_size,
        }
    }

    /// The frozen training set, or none while it is being frozen or where too much has failed.
    fn training_set(&mut self) -> Result<Option<TrainingSet>, Error> {
        let choice = content_id("training-set-choice", 1, &self.study.id());
        let Some(id) = self.existing.frozen::<String>(&choice, "training set's id")? else {
            match self.choose_training_set() {
                Ok(set) => {
                    let id = set.id();
                    let detail =
                        serde_json::to_value(&set).expect("a training set has string keys and finite shape");
                    self.plan.freeze.push(Freeze { id: id.clone(), decision: "training-set", detail });
                    let detail = Value::String(id);
                    self.plan.freeze.push(Freeze { id: choice, decision: "training-set-choice", detail });
                }
                Err(reason) => self.plan.outcome = Outcome::Blocked(reason),
            }
            return Ok(None);
        };
        self.existing.frozen::<TrainingSet>(&id, "training set")
    }
}
