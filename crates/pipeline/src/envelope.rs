//! What travels through the queue: a task, and where its inputs lie today.
//!
//! Locations, attempts and trace context stand here and not in the task, because a task's id must not depend on them.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::ids::content_id;
use crate::tasks::{Kind, Task};

/// Version of the [`Envelope`] and of the records that tasks name, raised when an older worker could not work from a
/// newer one, or the other way round. 2: training sets are stored in parts. 3: they may hold imported rows,
/// which an older worker would pass over. 4: recipes may halve a bundle and a dataset may have a look, neither of which an
/// older worker would heed.
const FORMAT: u32 = 4;

/// What a worker must know to do this build's tasks, as 8 hexadecimal digits: the envelope's format and every kind's
/// semantics. It is part of the names of the queues, so builds that would give a task another id, or would not
/// understand it, never take it from each other: an old and a new build work side by side, each on its own tasks.
pub fn dialect() -> &'static str {
    static DIALECT: LazyLock<String> =
        LazyLock::new(|| token(&Kind::ALL.map(|kind| (kind.name(), kind.semantics()))));
    &DIALECT
}

fn token(semantics: &[(&str, u32)]) -> String {
    content_id("dialect", FORMAT, &semantics)[..8].to_owned()
}

/// Where an image source lies. Paths are absolute, or URLs of object stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceAddress {
    /// The name in `pipeline.yaml`, for tables and messages.
    pub name: String,
    pub format: String,
    pub paths: Vec<String>,
    /// What the source was when it was indexed; absent where nobody indexed it. A worker that finds another refuses the
    /// task: the pictures are not those that its id names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// The body of a queue message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    pub task: Task,
    /// By content id.
    pub sources: BTreeMap<String, SourceAddress>,
    /// Files of extractor weights by SHA-256.
    pub weights: BTreeMap<String, String>,
    /// The slice of the task that is asked for; 0 from the coordinator. Work goes on from the newest checkpoint in the
    /// store, whatever stands here.
    #[serde(default)]
    pub slice: u32,
    /// How often a compute process died of this task or reported an error since its last checkpoint, and why.
    pub failures: Vec<String>,
    pub max_attempts: u32,
    /// Wall-clock limit without any sign of progress, in seconds.
    pub patience_seconds: u64,
    /// Whether trained networks are measured for their latency. It adds measured columns and changes no result, so it is no
    /// part of the task.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub measure_latency: bool,
}

/// A message that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a message of the queue is not a task that this version knows: {source}")]
pub struct Unreadable {
    #[from]
    source: serde_json::Error,
}

impl Envelope {
    /// # Panics
    /// Never: an envelope always has a JSON form.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an envelope has string keys and finite shape")
    }

    pub fn decode(body: &[u8]) -> Result<Self, Unreadable> {
        Ok(serde_json::from_slice(body)?)
    }
}

/// Hints from workers to the coordinator. They may be lost: the store is the truth.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    Started {
        task: String,
        kind: String,
        worker: String,
    },
    Progress {
        task: String,
        worker: String,
        done: u64,
        total: u64,
    },
    /// A slice ended with a checkpoint: `done` of `total` in the kind's own unit.
    Sliced {
        task: String,
        kind: String,
        worker: String,
        slice: u32,
        done: u64,
        total: u64,
    },
    Finished {
        task: String,
        kind: String,
        worker: String,
        seconds: f64,
    },
    Failed {
        task: String,
        kind: String,
        worker: String,
        attempt: u32,
        reason: String,
        gave_up: bool,
    },
    /// A person decided about tasks: the decisions in the store are news.
    Decided,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A build that changes this does not share tasks with the builds before it.
    #[test]
    fn the_dialect_is_pinned() {
        assert_eq!(dialect(), "4966a844");
    }

    #[test]
    fn a_kind_with_other_semantics_or_a_further_kind_makes_another_dialect() {
        let known = [("search", 1), ("validate", 1)];
        assert_ne!(token(&known), token(&[("search", 2), ("validate", 1)]));
        assert_ne!(token(&known), token(&[("search", 1), ("validate", 2)]));
        assert_ne!(token(&known), token(&known[..1]));
        assert_eq!(token(&known), token(&known));
    }
}
