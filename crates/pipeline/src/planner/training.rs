//! What a meta-training leaves behind: closed rounds and the chosen checkpoint, as decision records hold them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Parent;
use crate::ids::content_id;
use crate::specification::Training;
use crate::tasks::{Blob, Kind, Model};

/// What a finished shard gave.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardResult {
    /// Number of the shard in its round, from 0.
    pub shard: u32,
    pub task: String,
    pub start: Blob,
    pub parameters: Blob,
    pub optimiser: Blob,
    pub loss: f64,
}

/// The frozen end of a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundClosed {
    /// Ids of the accepted shards' tasks, in shard order.
    pub shards: Vec<String>,
    /// Numbers of the accepted shards where a quorum closed the round without some; empty where all are in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<u32>,
    pub checkpoint: Blob,
    /// Absent where the outer step has no momentum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum: Option<Blob>,
    /// Of every shard the optimiser state of its last accepted round, in shard order; none before the first.
    pub optimisers: Vec<Option<Blob>>,
    /// Mean loss over the accepted shards.
    pub loss: f64,
}

/// The frozen choice of a training's best checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSelected {
    pub training: String,
    /// The round whose checkpoint it is, from 0.
    pub round: u32,
    pub checkpoint: Blob,
    /// The validation's score; higher is better.
    pub score: f64,
    pub metrics: BTreeMap<String, f64>,
    /// Every round's loss and every validation's metrics: the learning curve.
    pub history: Vec<RoundMetrics>,
    /// How many shards sufficed for a round, where fewer than all did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<u32>,
    /// Shards and validations that were given up and that the training went on without: ids of their tasks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given_up: Vec<String>,
    /// Id of this decision, by which a published model is found again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<String>,
    /// The published model that the training started from; none where it started from the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_from: Option<Parent>,
}

impl ModelSelected {
    /// Whether the same training, done again, gives the same model. With a quorum below all shards it depends on who
    /// was late.
    pub fn is_reproducible(&self) -> bool {
        self.quorum.is_none()
    }
}

/// One round of a learning curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundMetrics {
    pub round: u32,
    pub loss: f64,
    /// Empty where the round was not validated.
    pub validation: BTreeMap<String, f64>,
    /// Shards that a quorum closed the round without.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missing_shards: u32,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Names a training: everything its checkpoints depend on, except how many rounds there are. So more rounds, asked for
/// later, go on from the last one. `parent` is the checkpoint that it starts from, where that is not drawn from the seed.
pub fn training_id(
    model: Model,
    training: &Training,
    training_set: &str,
    seed: u64,
    parent: Option<&str>,
) -> String {
    let semantics = Kind::TrainEpisodes.semantics();
    let shape = (training.shards, training.steps_per_round, training.outer);
    let cold = match training.quorum_below_all() {
        None => content_id("training", semantics, &(model, &training.settings, training_set, seed, shape)),
        // Rounds that may lack a shard never serve a training that promises all of them.
        Some(quorum) => {
            content_id("training", semantics, &(model, &training.settings, training_set, seed, shape, quorum))
        }
    };
    match parent {
        None => cold,
        Some(parent) => content_id("warm training", 1, &(cold, parent)),
    }
}
