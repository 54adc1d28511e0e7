//! The five kinds of work, as values. A task's id is a hash of its value: the kind, its inputs, seed and recipe, and
//! the kind's `SEMANTICS`.
//!
//! | kind | does | marker's summary |
//! |---|---|---|
//! | `extract-features` | a class shard of a source → feature vectors | [`Summary::Features`] |
//! | `evaluate` | a bundle of units on one dataset → rows and curves | [`Summary::Evaluations`] |
//! | `train-episodes` | H inner steps of one shard of one round | [`Summary::Shard`] |
//! | `validate` | a checkpoint on the meta-valid datasets → metrics | [`Summary::Validation`] |
//! | `search` | a dataset's features → ranked cells | [`Summary::Search`] |
//!
//! **Invariant:** nothing that says *where* (URLs, devices, workers) is part of a task; that travels in the
//! [`Envelope`](crate::envelope::Envelope).

mod look;
mod model;
mod recipe;
mod summary;

pub use look::Look;
use metad2a_search_space::Cell;
pub use model::{Mode, Model, ModelSettings, OuterStep};
pub use recipe::{Augmentation, Precision, Recipe};
use serde::{Deserialize, Serialize};
pub use summary::Summary;

use crate::ids::{Id, content_id};

/// The kinds of tasks, in the order in which a pipeline runs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    ExtractFeatures,
    Evaluate,
    TrainEpisodes,
    Validate,
    Search,
}

impl Kind {
    pub const ALL: [Self; 5] =
        [Self::ExtractFeatures, Self::Evaluate, Self::TrainEpisodes, Self::Validate, Self::Search];

    /// The name in ids, paths and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::ExtractFeatures => "extract-features",
            Self::Evaluate => "evaluate",
            Self::TrainEpisodes => "train-episodes",
            Self::Validate => "validate",
            Self::Search => "search",
        }
    }

    /// Somebody waits for the answer: such tasks go before all others.
    pub fn is_urgent(self) -> bool {
        self == Self::Search
    }

    /// Raised by hand when the code's results for this kind change; part of every id of the kind.
    pub fn semantics(self) -> u32 {
        match self {
            Self::ExtractFeatures | Self::Validate | Self::Search => 1,
            // Since 2: the default models normalise a dataset's vector.
            Self::TrainEpisodes => 2,
            // Since 2: convolutions of one node are computed together, which rounds differently. 3: passes are written
            // out, which does again.
            Self::Evaluate => 3,
        }
    }
}

/// A file of the store that a task reads, named by its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    pub path: String,
    pub sha256: String,
    pub bytes: u64,
}

/// How a source's pictures are shared out; the split of one picture is a function of its pixels alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fractions {
    pub train: f64,
    pub valid: f64,
    pub test: f64,
}

/// The most pictures taken of each class for each split; fewer are taken where there are fewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PicturesPerClass {
    pub train: u32,
    pub valid: u32,
    pub test: u32,
}

/// A dataset: a class subset of one source. Its classes are numbered 0..k in the order of `classes`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dataset {
    /// Content id of the image source.
    pub source: String,
    /// Labels in the source, ascending.
    pub classes: Vec<u32>,
    pub per_class: PicturesPerClass,
    pub fractions: Fractions,
    /// Of its pictures, for networks and extractor alike.
    #[serde(default, skip_serializing_if = "Look::is_usual")]
    pub look: Look,
}

impl Dataset {
    /// Stable name of the dataset in every table.
    pub fn id(&self) -> String {
        content_id("dataset", 1, self)
    }
}

/// A network that turns pictures into feature vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExtractorKind {
    EfficientnetLite0,
    Resnet18,
}

impl ExtractorKind {
    /// Length of a feature vector.
    pub fn width(self) -> u32 {
        match self {
            Self::EfficientnetLite0 => 1280,
            Self::Resnet18 => 512,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::EfficientnetLite0 => "efficientnet-lite0",
            Self::Resnet18 => "resnet18",
        }
    }
}

/// An extractor with its weights, named by their content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extractor {
    pub kind: ExtractorKind,
    pub weights_sha256: String,
    /// Side of the square picture that the network sees, in pixels.
    pub image_size: u32,
}

impl Extractor {
    /// The name in tables: the kind and the hash of the weights.
    pub fn name(&self) -> String {
        format!("{}:{}", self.kind.name(), self.weights_sha256)
    }
}

/// Features of up to `images_per_class` training pictures of each class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExtractFeatures {
    pub source: String,
    pub classes: Vec<u32>,
    pub fractions: Fractions,
    pub images_per_class: u32,
    pub extractor: Extractor,
    /// Of the pictures.
    #[serde(default, skip_serializing_if = "Look::is_usual")]
    pub look: Look,
}

/// One training of one cell: what is trained, counted and never done twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Unit {
    /// The representative of its canonical class.
    pub cell: Cell,
    pub seed: u64,
}

/// A bundle of units of one dataset and recipe. The bundle is only transport, see [`Evaluate::unit_id`], unless the
/// recipe halves it: then a unit's companions decide how many of its epochs are trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluate {
    pub dataset: Dataset,
    pub recipe: Recipe,
    pub units: Vec<Unit>,
}

impl Evaluate {
    /// Keys a unit's randomness, its row and its de-duplication; independent of its companions in the bundle.
    pub fn unit_id(&self, unit: &Unit) -> String {
        unit_id(&self.dataset, &self.recipe, unit)
    }
}

/// The id of (dataset, cell, recipe, seed, semantics).
pub fn unit_id(dataset: &Dataset, recipe: &Recipe, unit: &Unit) -> String {
    unit_of(&dataset.id(), &recipe.id(), unit).to_string()
}

/// [`unit_id`] where the ids of dataset and recipe are known.
pub(crate) fn unit_of(dataset: &str, recipe: &str, unit: &Unit) -> Id {
    Id::of("unit", Kind::Evaluate.semantics(), &(dataset, recipe, unit))
}

/// `steps` inner steps of shard `shard` in round `round`, from `base`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainEpisodes {
    pub model: Model,
    pub settings: ModelSettings,
    /// Id of the frozen [`TrainingSet`](crate::training_set::TrainingSet).
    pub training_set: String,
    pub seed: u64,
    pub round: u32,
    pub shard: u32,
    pub steps: u32,
    /// Parameters to start from; none in round 0, which starts from the seed.
    pub base: Option<Blob>,
    /// The shard's optimiser state of its last accepted round; none in round 0.
    pub optimiser: Option<Blob>,
}

/// Metrics of one checkpoint on the meta-valid datasets of a frozen training set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Validate {
    pub model: Model,
    pub settings: ModelSettings,
    pub training_set: String,
    pub seed: u64,
    pub checkpoint: Blob,
}

/// Limits on a cell's costs at the shape in which it will be trained.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraints {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parameters: Option<u64>,
    /// Multiply-adds of one picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_flops: Option<u64>,
}

/// Names the best cells for a dataset from its features.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Search {
    /// Id of the dataset; keys the randomness.
    pub dataset: String,
    pub source: String,
    pub classes: Vec<u32>,
    /// Of the dataset's pictures.
    #[serde(default, skip_serializing_if = "Look::is_usual")]
    pub look: Look,
    /// Ids of the `extract-features` tasks that hold the dataset's classes.
    pub features: Vec<String>,
    pub generator: Blob,
    pub generator_settings: ModelSettings,
    pub predictor: Blob,
    pub predictor_settings: ModelSettings,
    /// Distinct cells to generate before ranking.
    pub candidates: u32,
    /// Random sets of pictures that are encoded once and shared by all candidates.
    pub sets: u32,
    pub seed: u64,
    pub constraints: Constraints,
    /// Shape and class count at which costs are counted.
    pub channels: u32,
    pub cells_per_stage: u32,
    pub image_size: u32,
}

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Task {
    ExtractFeatures(ExtractFeatures),
    Evaluate(Evaluate),
    TrainEpisodes(TrainEpisodes),
    Validate(Validate),
    Search(Search),
}

impl Task {
    pub fn kind(&self) -> Kind {
        match self {
            Self::ExtractFeatures(_) => Kind::ExtractFeatures,
            Self::Evaluate(_) => Kind::Evaluate,
            Self::TrainEpisodes(_) => Kind::TrainEpisodes,
            Self::Validate(_) => Kind::Validate,
            Self::Search(_) => Kind::Search,
        }
    }

    /// The same work always has the same id, in this run and any later one.
    pub fn id(&self) -> String {
        let kind = self.kind();
        content_id(kind.name(), kind.semantics(), self)
    }
}

/// A cell as a search ranks it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankedCell {
    pub cell: Cell,
    /// In the unit of the training target: an accuracy in [0, 1].
    pub predicted_accuracy: f64,
    /// Spread of the prediction over the sampled sets of pictures.
    pub predicted_sd: f64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::Label;

    fn dataset() -> Dataset {
        Dataset {
            source: "ab".repeat(32),
            classes: vec![1, 4],
            per_class: PicturesPerClass { train: 10, valid: 5, test: 5 },
            fractions: Fractions { train: 0.6, valid: 0.2, test: 0.2 },
            look: Look::default(),
        }
    }

    fn unit(seed: u64) -> Unit {
        let cell = "|nor_conv_3x3~0|+|nor_conv_3x3~0|none~1|+|skip_connect~0|none~1|none~2|";
        Unit { cell: cell.parse().unwrap(), seed }
    }

    #[test]
    fn a_unit_keeps_its_id_whatever_its_companions() {
        let recipe = Recipe::nas_bench_201();
        let alone = Evaluate { dataset: dataset(), recipe: recipe.clone(), units: vec![unit(1)] };
        let together = Evaluate { dataset: dataset(), recipe, units: vec![unit(0), unit(1)] };
        assert_eq!(alone.unit_id(&unit(1)), together.unit_id(&unit(1)));
        assert_ne!(alone.unit_id(&unit(1)), alone.unit_id(&unit(2)));
        assert_ne!(Task::Evaluate(alone).id(), Task::Evaluate(together).id());
    }

    /// Changing a hashed type makes all finished work unknown. If that is wanted, raise the kind's semantics too.
    #[test]
    fn the_ids_of_each_kind_are_pinned() {
        let blob = Blob { path: "results/x".into(), sha256: "cd".repeat(32), bytes: 7 };
        let settings = ModelSettings {
            mode: Mode::Default,
            label: Label::FittedAccuracy,
            feature_width: 1280,
            hidden: 64,
            latent: 56,
            batch_size: 16,
            learning_rate: 1e-3,
            images_per_class: 10,
            classes_per_dataset: 20,
            top_fraction: 0.25,
            ranking_weight: 0.5,
        };
        let extractor = Extractor {
            kind: ExtractorKind::EfficientnetLite0,
            weights_sha256: "ef".repeat(32),
            image_size: 96,
        };
        let tasks = [
            Task::ExtractFeatures(ExtractFeatures {
                source: "ab".repeat(32),
                classes: vec![0, 1],
                fractions: dataset().fractions,
                images_per_class: 20,
                extractor,
                look: Look::default(),
            }),
            Task::Evaluate(Evaluate {
                dataset: dataset(),
                recipe: Recipe::nas_bench_201(),
                units: vec![unit(0)],
            }),
            Task::TrainEpisodes(TrainEpisodes {
                model: Model::Predictor,
                settings: settings.clone(),
                training_set: "01".repeat(32),
                seed: 1,
                round: 2,
                shard: 0,
                steps: 50,
                base: Some(blob.clone()),
                optimiser: None,
            }),
            Task::Validate(Validate {
                model: Model::Generator,
                settings: settings.clone(),
                training_set: "01".repeat(32),
                seed: 1,
                checkpoint: blob.clone(),
            }),
            Task::Search(Search {
                dataset: dataset().id(),
                source: "ab".repeat(32),
                classes: vec![1, 4],
                look: Look::default(),
                features: vec!["23".repeat(32)],
                generator: blob.clone(),
                generator_settings: settings.clone(),
                predictor: blob,
                predictor_settings: settings,
                candidates: 500,
                sets: 10,
                seed: 1,
                constraints: Constraints::default(),
                channels: 8,
                cells_per_stage: 1,
                image_size: 16,
            }),
        ];
        let ids: Vec<String> =
            tasks.iter().map(|task| format!("{} {}", task.kind().name(), &task.id()[..16])).collect();
        insta::assert_snapshot!(ids.join("\n"), @"
        extract-features 1364e3e8a5908c69
        evaluate bcd24f6c42d8f8a7
        train-episodes ecabb780cbd5df63
        validate 558ae1437644e5b7
        search 6b40aff139b42b3f
        ");
        for task in tasks {
            let json = serde_json::to_string(&task).unwrap();
            assert_eq!(serde_json::from_str::<Task>(&json).unwrap().id(), task.id());
        }
    }
}
