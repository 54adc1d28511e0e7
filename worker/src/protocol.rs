//! What supervisor and compute process say to each other: JSON, one value a line, jobs on standard input and reports on
//! standard output. Logs go to standard error, whose last lines explain a death.

use metad2a_database::FileRef;
use metad2a_pipeline::envelope::Envelope;
use metad2a_pipeline::tasks::Summary;
use serde::{Deserialize, Serialize};

/// One task for the compute process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The task's id.
    pub id: String,
    pub envelope: Envelope,
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
    /// `permanent`: every further attempt must end the same way.
    Failed {
        reason: String,
        permanent: bool,
    },
}
