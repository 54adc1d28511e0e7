//! The parts of a pipeline and how far each is.

use serde::{Deserialize, Serialize};

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

/// Where open tasks stand in a plan. The tasks of one place change together; earlier places are more urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub stage: Stage,
    /// Within the stage: a class shard, a bundle, a shard or a validation of a training, a dataset.
    pub number: u32,
}
