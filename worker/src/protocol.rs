//! What supervisor and compute process say to each other: JSON, one value a line, orders on standard input and reports on
//! standard output. Logs go to standard error, whose last lines explain a death.

use metad2a_database::{Checkpoint, FileRef};
use metad2a_pipeline::envelope::Envelope;
use metad2a_pipeline::tasks::Summary;
use serde::{Deserialize, Serialize};

/// One task for the compute process, for the length of a slice.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The task's id.
    pub id: String,
    pub envelope: Envelope,
    /// The process pauses the task after so many seconds, if the kind can be paused.
    pub slice_seconds: u64,
    /// Newest first; the task goes on from the first one that can be used.
    pub checkpoints: Vec<Checkpoint>,
}

/// What the supervisor says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    Work(Box<Job>),
    /// Pause the job at once, as if its slice were over. Ignored where there is none.
    Pause,
}

/// An unfinished task. The files are in the store already; without a record they are harmless orphans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Paused {
    /// Of the checkpoint.
    pub files: Vec<FileRef>,
    /// In the kind's own unit, as in [`Report::Progress`].
    pub done: u64,
    pub total: u64,
}

/// How a job ended well.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Finished(Finished),
    Paused(Paused),
}

/// A finished task. The data files are in the store already; without a marker they are harmless orphans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    pub files: Vec<FileRef>,
    /// Ids of the units whose rows the files hold; empty for kinds without units.
    pub units: Vec<String>,
    pub summary: Summary,
}

/// What a compute process says of itself and of its job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "kebab-case")]
pub enum Report {
    /// Said once, before the first job: the store opens and the device works.
    Ready {
        device: String,
        gpu: bool,
    },
    /// Any sign of progress; `total` is in the kind's own unit (epochs, steps, pictures).
    Progress {
        done: u64,
        total: u64,
    },
    Finished(Box<Finished>),
    Paused(Box<Paused>),
    /// `permanent`: every further attempt must end the same way.
    Failed {
        reason: String,
        permanent: bool,
    },
    /// The store could not be reached: not the task's fault, and no attempt.
    Interrupted {
        reason: String,
    },
}
