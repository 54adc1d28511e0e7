//! What a finished task's marker tells beside its files.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Blob, Kind, RankedCell};

/// What a marker says of its task's outcome beyond the files: all that planning needs, so that a plan reads no data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Summary {
    Features {
        pictures: u64,
    },
    Evaluations {
        units: u64,
        diverged: u64,
        /// Units that could not be trained.
        #[serde(default, skip_serializing_if = "is_zero")]
        failed: u64,
        /// Units that were stopped early, on purpose.
        #[serde(default, skip_serializing_if = "is_zero")]
        stopped: u64,
        train_pictures: u64,
        valid_pictures: u64,
        test_pictures: u64,
        /// Hash over the dataset's picture hashes, splits and labels.
        data_hash: String,
    },
    Shard {
        /// Parameters that the shard started from: the base of the outer step.
        start: Blob,
        parameters: Blob,
        optimiser: Blob,
        /// Mean loss of the shard's steps.
        loss: f64,
    },
    Validation {
        /// Higher is better; selects the checkpoint.
        score: f64,
        /// Means by name, and the figures of each dataset as `name.dataset-id`.
        metrics: BTreeMap<String, f64>,
    },
    Search {
        drawn: u64,
        valid: u64,
        distinct: u64,
        /// Best first.
        ranked: Vec<RankedCell>,
    },
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Summary {
    /// The kind of the task that it is of.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Features { .. } => Kind::ExtractFeatures,
            Self::Evaluations { .. } => Kind::Evaluate,
            Self::Shard { .. } => Kind::TrainEpisodes,
            Self::Validation { .. } => Kind::Validate,
            Self::Search { .. } => Kind::Search,
        }
    }
}
