//! What is to be done with a message, before and after the attempt. Pure: no queue, no store, no clock.
//!
//! ```text
//!   marker, decision ──► before ──► Skip | Work
//!   failures so far, outcome ──► judge ──► Commit | TryAgain | GiveUp
//! ```
//!
//! Attempts travel in the message itself (`Envelope::failures`), because a broker's own counter also counts lost
//! connections and machines, which are nobody's fault.

use std::fmt::Write as _;

use metad2a_pipeline::verdict;

/// A reason is kept to this many characters: all reasons travel in one message.
const LONGEST_REASON: usize = 2_000;

/// The newest decision about a task, as far as a worker cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// No decision, or one that does not stand in the way (such as a retry).
    Open,
    Failed,
    Cancelled,
}

impl Standing {
    /// From the word in the decision record.
    pub fn of(decision: Option<&str>) -> Self {
        use verdict::Verdict::{Cancelled, Dropped, Failed, Retry};
        match decision.and_then(verdict::Verdict::of) {
            Some(Failed | Dropped) => Self::Failed,
            Some(Cancelled) => Self::Cancelled,
            Some(Retry) | None => Self::Open,
        }
    }
}

/// Whether a message needs any work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Work,
    /// Acknowledge unworked; the text says why.
    Skip(&'static str),
}

/// Read before a task is started, and again before its result is committed.
pub fn before(is_done: bool, standing: Standing) -> Before {
    match (is_done, standing) {
        (true, _) => Before::Skip("already done"),
        (false, Standing::Failed) => Before::Skip("given up earlier"),
        (false, Standing::Cancelled) => Before::Skip("cancelled"),
        (false, Standing::Open) => Before::Work,
    }
}

/// How an attempt ended without a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The compute process ended by itself: a signal, an exit code, out of memory.
    Died { how: String, last_lines: Vec<String> },
    /// No progress for the task's patience; the process was killed.
    Stalled { seconds: u64, last_lines: Vec<String> },
    /// The task reported an error. `permanent`: bad input, which no further attempt can cure.
    Reported { reason: String, permanent: bool },
}

impl Failure {
    /// One text for decision, event and log.
    pub fn reason(&self) -> String {
        let (mut text, last_lines): (String, &[String]) = match self {
            Self::Died { how, last_lines } => (format!("the compute process {how}"), last_lines),
            Self::Stalled { seconds, last_lines } => {
                (format!("no progress for {seconds} s; the compute process was killed"), last_lines)
            }
            Self::Reported { reason, .. } => (reason.clone(), &[]),
        };
        if !last_lines.is_empty() {
            // Writing to a string cannot fail.
            let _ = write!(text, "; its last lines: {}", last_lines.join(" | "));
        }
        shortened(&text)
    }
}

/// Keeps both ends: the start names the failure, the end holds the last log lines.
fn shortened(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= LONGEST_REASON {
        return text.to_owned();
    }
    let half = LONGEST_REASON / 2;
    let head: String = letters[..half].iter().collect();
    let tail: String = letters[letters.len() - half..].iter().collect();
    format!("{head} … {tail}")
}

/// What to do after a failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Publish the message again with these failures, then acknowledge the old one.
    TryAgain { failures: Vec<String> },
    /// Write the decision `failed` with all reasons, then hand the message to the dead letters.
    GiveUp { reasons: Vec<String> },
}

/// Counts the attempt. At least one attempt is always made, whatever `max_attempts` says.
pub fn judge(earlier: &[String], max_attempts: u32, failure: &Failure) -> Verdict {
    let mut reasons = earlier.to_vec();
    reasons.push(failure.reason());
    let permanent = matches!(failure, Failure::Reported { permanent: true, .. });
    if permanent || reasons.len() >= max_attempts as usize {
        Verdict::GiveUp { reasons }
    } else {
        Verdict::TryAgain { failures: reasons }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn crash() -> Failure {
        Failure::Died { how: "was killed by signal 9".into(), last_lines: vec!["epoch 3".into()] }
    }

    #[test]
    fn a_done_or_decided_task_is_never_worked_on() {
        assert_eq!(before(false, Standing::of(None)), Before::Work);
        assert_eq!(before(false, Standing::of(Some("retry"))), Before::Work);
        assert_eq!(before(true, Standing::of(Some("retry"))), Before::Skip("already done"));
        assert_eq!(before(false, Standing::of(Some("failed"))), Before::Skip("given up earlier"));
        assert_eq!(before(false, Standing::of(Some("dropped"))), Before::Skip("given up earlier"));
        assert_eq!(before(false, Standing::of(Some("cancelled"))), Before::Skip("cancelled"));
    }

    #[test]
    fn a_death_says_how_and_shows_the_last_lines() {
        assert_eq!(crash().reason(), "the compute process was killed by signal 9; its last lines: epoch 3");
    }

    #[test]
    fn bad_input_is_given_up_at_once() {
        let failure = Failure::Reported { reason: "class 3 has 2 pictures".into(), permanent: true };
        let reasons = vec!["class 3 has 2 pictures".to_owned()];
        assert_eq!(judge(&[], 3, &failure), Verdict::GiveUp { reasons });
    }

    proptest! {
        #[test]
        fn a_task_is_tried_exactly_max_attempts_times(max_attempts in 1..10_u32) {
            let mut failures = Vec::new();
            let mut attempts = 0;
            loop {
                attempts += 1;
                match judge(&failures, max_attempts, &crash()) {
                    Verdict::TryAgain { failures: next } => failures = next,
                    Verdict::GiveUp { reasons } => {
                        prop_assert_eq!(reasons.len(), attempts);
                        break;
                    }
                }
            }
            prop_assert_eq!(attempts, max_attempts as usize);
        }

        #[test]
        fn a_reason_stays_short_and_keeps_its_start(text in ".{0,5000}") {
            let reason = Failure::Reported { reason: text.clone(), permanent: false }.reason();
            prop_assert!(reason.chars().count() <= LONGEST_REASON + 3);
            let start: String = text.chars().take(100).collect();
            prop_assert!(reason.starts_with(&start));
        }
    }
}
