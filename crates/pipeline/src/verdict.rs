//! Decisions about single tasks: given up, cancelled, dropped, or to be tried again.
//!
//! ```text
//!   open ──failed───► given up ──drop──► dropped        the newest decision about a task holds
//!    │ ▲                 │                  │
//!    │ └──── retry ◄─────┴──────────────────┤
//!    └────cancelled──► cancelled ───────────┘
//! ```
//!
//! A task that is done is done, whatever was decided about it: the last worker may have finished after all.

use serde::{Deserialize, Serialize};

use crate::tasks::Task;

/// What was decided about a task. Decisions of other words freeze choices and concern no single task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It failed too often, or its input is bad; somebody should look.
    Failed,
    /// A person does not want it done.
    Cancelled,
    /// It failed, and a person has seen it: the failure is final and nobody need look any more.
    Dropped,
    /// It may be tried again: lifts what was decided before.
    Retry,
}

impl Verdict {
    /// The word in decision records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Dropped => "dropped",
            Self::Retry => "retry",
        }
    }

    /// None for the words of other decisions.
    pub fn of(word: &str) -> Option<Self> {
        [Self::Failed, Self::Cancelled, Self::Dropped, Self::Retry]
            .into_iter()
            .find(|verdict| verdict.name() == word)
    }

    /// Whether a task of this verdict is left alone.
    pub fn stops(self) -> bool {
        match self {
            Self::Failed | Self::Cancelled | Self::Dropped => true,
            Self::Retry => false,
        }
    }
}

/// What a person asks for a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    Cancel,
    Retry,
    Drop,
}

/// Why a request changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it is done")]
    Done,
    #[error("it is cancelled already")]
    AlreadyCancelled,
    #[error("it is dropped already")]
    AlreadyDropped,
    #[error("it was given up already; `metad2a dead-letters drop` makes that final")]
    GivenUp,
    #[error("it is neither given up nor cancelled, so there is nothing to lift")]
    NothingToLift,
    #[error("it was not given up; `metad2a tasks cancel` stops a task")]
    NotGivenUp,
}

impl Request {
    /// The verdict to be written, given what holds for the task.
    pub fn judge(self, is_done: bool, newest: Option<Verdict>) -> Result<Verdict, Refusal> {
        if is_done {
            return Err(Refusal::Done);
        }
        match (self, newest) {
            (Self::Cancel, None | Some(Verdict::Retry)) => Ok(Verdict::Cancelled),
            (Self::Cancel, Some(Verdict::Cancelled)) => Err(Refusal::AlreadyCancelled),
            (Self::Cancel, Some(Verdict::Failed)) => Err(Refusal::GivenUp),
            (Self::Cancel | Self::Drop, Some(Verdict::Dropped)) => Err(Refusal::AlreadyDropped),
            (Self::Retry, Some(verdict)) if verdict.stops() => Ok(Verdict::Retry),
            (Self::Retry, _) => Err(Refusal::NothingToLift),
            (Self::Drop, Some(Verdict::Failed)) => Ok(Verdict::Dropped),
            (Self::Drop, _) => Err(Refusal::NotGivenUp),
        }
    }
}

/// The detail of such a decision. The task stands in it because no other place keeps it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct VerdictDetail {
    /// Kind of the task.
    pub kind: Option<String>,
    /// The pipeline in whose name it was decided.
    pub pipeline: Option<String>,
    /// One for each failed attempt, oldest first; of a person's decision, what they said.
    pub reasons: Vec<String>,
    /// Who decided, where a person did.
    pub by: Option<String>,
    pub task: Option<Task>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verdict_reads_back_from_its_word_and_other_words_are_none() {
        for verdict in [Verdict::Failed, Verdict::Cancelled, Verdict::Dropped, Verdict::Retry] {
            assert_eq!(Verdict::of(verdict.name()), Some(verdict));
            assert_eq!(verdict.stops(), verdict != Verdict::Retry);
        }
        assert_eq!(Verdict::of("round-closed"), None);
    }

    #[test]
    fn every_request_ends_where_its_name_says_or_changes_nothing() {
        use Verdict::{Cancelled, Dropped, Failed, Retry};
        let all = [None, Some(Retry), Some(Failed), Some(Cancelled), Some(Dropped)];
        let judge = |request: Request| all.map(|newest| request.judge(false, newest).ok());
        assert_eq!(judge(Request::Cancel), [Some(Cancelled), Some(Cancelled), None, None, None]);
        assert_eq!(judge(Request::Retry), [None, None, Some(Retry), Some(Retry), Some(Retry)]);
        assert_eq!(judge(Request::Drop), [None, None, Some(Dropped), None, None]);
        for request in [Request::Cancel, Request::Retry, Request::Drop] {
            for newest in all {
                assert_eq!(request.judge(true, newest), Err(Refusal::Done));
            }
        }
    }

    #[test]
    fn a_record_of_an_earlier_version_can_be_read() {
        let detail: VerdictDetail =
            serde_json::from_str(r#"{"kind": "evaluate", "reasons": ["out of memory"]}"#).unwrap();
        assert_eq!((detail.reasons.len(), detail.pipeline, detail.task), (1, None, None));
    }
}
