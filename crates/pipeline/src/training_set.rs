//! The frozen choice of what the models learn from.
//!
//! Which rows exist depends on results (a unit may have failed), so the choice is written down once, as a decision
//! record, before any training uses it. Its id depends on *which work* it holds, not on the files that hold it: two
//! runs that computed the same units train the same models.

use serde::{Deserialize, Serialize};

use crate::ids::content_id;
use crate::tasks::Dataset;

/// The role of a group of classes. No class is in two groups, whatever the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// The models learn from these.
    MetaTrain,
    /// Early stopping and quality gates.
    MetaValid,
    /// Reports only.
    MetaTest,
    /// Never-seen sources for which cells are searched.
    Target,
}

impl Group {
    pub fn name(self) -> &'static str {
        match self {
            Self::MetaTrain => "meta-train",
            Self::MetaValid => "meta-valid",
            Self::MetaTest => "meta-test",
            Self::Target => "target",
        }
    }
}

/// One dataset of a training set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingDataset {
    pub id: String,
    pub group: Group,
    pub dataset: Dataset,
    /// Ids of the `extract-features` tasks that hold its classes.
    pub features: Vec<String>,
    /// The units whose rows are used.
    pub units: Vec<String>,
}

/// Rows of finished units with the features of their datasets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingSet {
    pub datasets: Vec<TrainingDataset>,
    /// Where the rows lie: ids of `evaluate` tasks. Not part of the id: bundles are only transport.
    pub evaluations: Vec<String>,
}

impl TrainingSet {
    pub fn id(&self) -> String {
        content_id("training-set", 1, &self.datasets)
    }
}
