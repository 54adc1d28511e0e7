//! `pipeline.yaml` → a checked [`Specification`].
//!
//! The file says *what* is computed; flags of the programs say how a process runs. Unknown keys are errors, and all
//! errors are reported at once, each with its key, the rule and the value. Paths stay as they are written: the caller
//! knows the folder of the file and resolves them.
//!
//! Deliberately absent: secrets (they come from the environment) and devices (each worker knows its own).

mod datasets;
mod evaluations;
mod read;
mod recipes;
mod section;

use std::collections::BTreeMap;
use std::time::Duration;

pub use section::Problem;
use serde::{Deserialize, Serialize, Serializer};

use crate::tasks::{
    Constraints, ExtractorKind, Fractions, Look, ModelSettings, OuterStep, PicturesPerClass, Recipe,
};

/// The file is not YAML, or says things that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{file}` is not YAML: {message}")]
    Syntax { file: String, message: String },

    #[error("`{file}` has {} to mend:\n{}", count(problems.len()), list(problems))]
    Invalid { file: String, problems: Vec<Problem> },
}

fn count(problems: usize) -> String {
    if problems == 1 { "1 problem".to_owned() } else { format!("{problems} problems") }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("  {problem}")).collect::<Vec<_>>().join("\n")
}

/// What a source's classes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Use {
    /// Its classes are shared out among meta-train, meta-valid and meta-test.
    Meta,
    /// Never seen in meta-training: cells are searched for it, and measured on it.
    Target,
}

/// An image source as the file names it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Source {
    pub format: String,
    pub paths: Vec<String>,
    pub purpose: Use,
    pub split: Fractions,
}

/// One kind of a group's datasets: how many are drawn from each meta source, how large, and how they look.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetKind {
    /// Tells a group's kinds apart, and keys what is drawn; one of them may go without.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub count: u32,
    pub least_classes: u32,
    pub most_classes: u32,
    pub pictures_per_class: PicturesPerClass,
    #[serde(skip_serializing_if = "Look::is_usual")]
    pub look: Look,
}

/// The shares of a meta source's classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClassShares {
    pub train: f64,
    pub valid: f64,
    pub test: f64,
}

/// Which datasets there are.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Datasets {
    pub class_shares: ClassShares,
    #[serde(serialize_with = "one_or_more")]
    pub meta_train: Vec<DatasetKind>,
    #[serde(serialize_with = "one_or_more")]
    pub meta_valid: Vec<DatasetKind>,
    #[serde(serialize_with = "one_or_more")]
    pub meta_test: Vec<DatasetKind>,
    /// Pictures of each class of a target.
    pub target_pictures: PicturesPerClass,
}

/// A lone kind as itself: specifications from before there were several keep their ids.
fn one_or_more<S: Serializer>(kinds: &[DatasetKind], serializer: S) -> Result<S::Ok, S::Error> {
    match kinds {
        [kind] => kind.serialize(serializer),
        kinds => kinds.serialize(serializer),
    }
}

/// The feature extractor, its weights file, and how much of a class is looked at.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExtractorChoice {
    pub kind: ExtractorKind,
    pub weights: String,
    pub image_size: u32,
    pub images_per_class: u32,
    pub classes_per_task: u32,
}

/// Further cells that are chosen by results.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct AroundBest {
    /// Of the further cells of each dataset.
    pub share: f64,
    /// The best share of all trained cells, from which one operation is changed.
    pub top: f64,
}

/// Which cells are trained on the meta-training datasets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Evaluations {
    /// Name of a recipe.
    pub recipe: String,
    /// Cells that every dataset trains, so that datasets can be compared.
    pub anchors: u32,
    /// Further cells of each dataset.
    pub cells_per_dataset: u32,
    /// Share of the further cells that has two or more live 3x3 convolutions.
    pub with_live_3x3: f64,
    /// Each further cell is given to so many datasets of a group and source.
    #[serde(skip_serializing_if = "is_one")]
    pub shared_by: u32,
    /// Cells of a second wave, chosen by the results of the first; absent where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub around_best: Option<AroundBest>,
    pub seeds: Vec<u64>,
    /// Units per task.
    pub bundle: u32,
    /// Whether every trained network of the pipeline is measured for its latency.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub latency: bool,
}

impl Evaluations {
    /// Of the further cells of each dataset, those of the second wave. What is left for the first grows with every raise
    /// of `cells_per_dataset`.
    pub fn cells_around_best(&self) -> u32 {
        let Some(around) = self.around_best else { return 0 };
        let rounded = |share: f64| (f64::from(self.cells_per_dataset) * share).round() as u32;
        rounded(self.with_live_3x3 + around.share).min(self.cells_per_dataset) - rounded(self.with_live_3x3)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_one(count: &u32) -> bool {
    *count == 1
}

/// How one model is meta-trained.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Training {
    pub settings: ModelSettings,
    pub rounds: u32,
    pub steps_per_round: u32,
    pub shards: u32,
    /// So many shards close a round whose deadline has passed; all of them, unless the file says otherwise.
    pub quorum: u32,
    /// A shard that is not done so long after it was published is published again.
    pub shard_deadline: Duration,
    pub outer: OuterStep,
    /// Validates after every so many rounds, and after the last.
    pub validate_every: u32,
}

impl Training {
    /// The quorum, where it lets a round close without some of its shards. Such a training is not reproducible.
    pub fn quorum_below_all(&self) -> Option<u32> {
        (self.quorum < self.shards).then_some(self.quorum)
    }
}

/// What is asked for each target.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SearchChoice {
    pub candidates: u32,
    pub sets: u32,
    /// The best so many are trained.
    pub chosen: u32,
    /// So many random cells are trained beside them, with the same recipe and seeds.
    pub random: u32,
    /// Name of the recipe for both.
    pub recipe: String,
    pub seeds: Vec<u64>,
    pub constraints: Constraints,
}

/// How tasks are tried again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Patience {
    pub max_attempts: u32,
    /// A compute process without any sign of progress for so long is ended.
    pub no_progress_seconds: u64,
}

/// What an unattended refresh may publish: see [`model_gate`](crate::model_gate) and
/// [`source_changes`](crate::source_changes).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RefreshChoice {
    /// Trainings start from the published models, not from the seed.
    pub warm_start: bool,
    /// The share of a source's or table's count that may be lost.
    pub shrink_tolerance: f64,
    /// Models of so many snapshots are compared with.
    pub snapshots: u32,
    /// Of the bound on a model's loss.
    pub confidence: f64,
    /// Loss that is let pass, in nats per graph.
    pub generator_tolerance: f64,
    /// Loss that is let pass, in rank correlation within a dataset.
    pub predictor_tolerance: f64,
}

/// A pipeline that can be planned.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Specification {
    pub name: String,
    pub seed: u64,
    pub store: String,
    pub queue: String,
    pub patience: Patience,
    pub sources: BTreeMap<String, Source>,
    pub extractor: ExtractorChoice,
    pub datasets: Datasets,
    pub recipes: BTreeMap<String, Recipe>,
    pub evaluations: Evaluations,
    pub generator: Training,
    pub predictor: Training,
    pub search: SearchChoice,
    pub refresh: RefreshChoice,
    /// Ids of the imports whose rows are published too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub imports: Vec<String>,
    /// Protocols of imported rows that models learn from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub imported_protocols: Vec<String>,
}

impl Specification {
    /// Reads the text of a specification. `file` only names it in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, Error> {
        let value: serde_json::Value = serde_saphyr::from_str(text)
            .map_err(|error| Error::Syntax { file: file.to_owned(), message: error.to_string() })?;
        read::specification(value).map_err(|problems| Error::Invalid { file: file.to_owned(), problems })
    }

    /// The recipe of that name.
    ///
    /// # Panics
    /// If there is none, which a checked specification excludes for the names that it uses itself.
    pub fn recipe(&self, name: &str) -> &Recipe {
        &self.recipes[name]
    }
}
