//! The parts of a pipeline and how far each is.

use serde::{Deserialize, Serialize};

use crate::study::Study;
use crate::tasks::{Model, Task};
use crate::training_set::Group;

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
    pub const ALL: [Self; 6] = [
        Self::Features,
        Self::Evaluations,
        Self::Generator,
        Self::Predictor,
        Self::Search,
        Self::Measurements,
    ];

    /// The stage of one of the study's tasks.
    pub fn of(study: &Study, task: &Task) -> Self {
        let of_model = |model| match model {
            Model::Generator => Self::Generator,
            Model::Predictor => Self::Predictor,
        };
        match task {
            Task::ExtractFeatures(_) => Self::Features,
            Task::Evaluate(task) => {
                let learnt = study.datasets.iter().any(|dataset| {
                    matches!(dataset.group, Group::MetaTrain | Group::MetaValid)
                        && dataset.dataset == task.dataset
                });
                if learnt { Self::Evaluations } else { Self::Measurements }
            }
            Task::TrainEpisodes(task) => of_model(task.model),
            Task::Validate(task) => of_model(task.model),
            Task::Search(_) => Self::Search,
        }
    }

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub done: u64,
    pub failed: u64,
    pub total: u64,
    /// By a person.
    #[serde(default)]
    pub cancelled: u64,
    /// Failures that a person has seen and made final.
    #[serde(default)]
    pub dropped: u64,
}

impl Progress {
    pub fn is_settled(self) -> bool {
        self.left() == 0
    }

    /// Both together.
    pub(super) fn with(self, other: Self) -> Self {
        Self {
            done: self.done + other.done,
            failed: self.failed + other.failed,
            total: self.total + other.total,
            cancelled: self.cancelled + other.cancelled,
            dropped: self.dropped + other.dropped,
        }
    }

    /// What is neither done nor set aside.
    pub fn left(self) -> u64 {
        self.total.saturating_sub(self.done + self.failed + self.cancelled + self.dropped)
    }
}

/// Where open tasks stand in a plan. The tasks of one place change together; earlier places are more urgent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    pub stage: Stage,
    /// Within the stage: a class shard, a bundle, a shard or a validation of a training, a dataset.
    pub number: u32,
}
