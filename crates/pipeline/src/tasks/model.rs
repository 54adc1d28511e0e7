//! The two models and how they are meta-trained.

use serde::{Deserialize, Serialize};

use crate::labels::Label;

/// Which of the two models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    Generator,
    Predictor,
}

impl Model {
    pub const ALL: [Self; 2] = [Self::Generator, Self::Predictor];

    pub fn name(self) -> &'static str {
        match self {
            Self::Generator => "generator",
            Self::Predictor => "predictor",
        }
    }
}

/// `paper` reproduces the published model; `default` improves on it where that was measured to be better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    Paper,
    Default,
}

/// Everything that shapes a model and its inner training steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSettings {
    pub mode: Mode,
    /// What the predictor predicts, and what the generator takes for a cell's worth.
    pub label: Label,
    pub feature_width: u32,
    pub hidden: u32,
    pub latent: u32,
    pub batch_size: u32,
    pub learning_rate: f64,
    /// Pictures drawn of each class for one encoding of a dataset.
    pub images_per_class: u32,
    /// At most so many classes of a dataset are drawn for one encoding.
    pub classes_per_dataset: u32,
    /// Generator only: the best part of each dataset's cells that it learns to draw.
    pub top_fraction: f64,
    /// Predictor only: weight of the pairwise ranking loss within a dataset.
    pub ranking_weight: f64,
}

/// How shards are averaged into the next checkpoint (DiLoCo: SGD with Nesterov momentum on the mean difference).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OuterStep {
    pub learning_rate: f64,
    pub momentum: f64,
}
