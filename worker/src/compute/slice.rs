//! One slice of a task, as its handler sees it, and the order to end it early.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells the supervisor how far the task is, and the task when its slice is over.
pub struct Slice<'a> {
    report: &'a mut dyn FnMut(u64, u64),
    over: &'a mut dyn FnMut() -> bool,
}

impl<'a> Slice<'a> {
    /// `report` gets how much is done of how much, in the kind's own unit; `over` is asked whether it is time to pause.
    pub fn new(report: &'a mut dyn FnMut(u64, u64), over: &'a mut dyn FnMut() -> bool) -> Self {
        Self { report, over }
    }

    /// A sign of life; the same figures twice are one, too.
    pub(super) fn progress(&mut self, done: u64, total: u64) {
        (self.report)(done, total);
    }

    /// Asked after every batch, and never before the first: a slice that does nothing would be followed by another.
    pub(super) fn is_over(&mut self) -> bool {
        (self.over)()
    }
}

/// The supervisor's orders, as the thread that reads them hands them on: jobs are counted, and a pause is for the last
/// one that was read. So an order that comes late cannot pause the next job.
#[derive(Debug, Clone, Default)]
pub(super) struct Pauses {
    last_paused: Arc<AtomicU64>,
}

impl Pauses {
    /// The job of this number, from 1, and all before it are to pause.
    pub(super) fn pause(&self, number: u64) {
        self.last_paused.store(number, Ordering::Relaxed);
    }

    pub(super) fn is_paused(&self, number: u64) -> bool {
        self.last_paused.load(Ordering::Relaxed) >= number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_for_the_last_job_that_was_read() {
        let pauses = Pauses::default();
        assert!(!pauses.is_paused(1));
        pauses.pause(2);
        assert!(pauses.is_paused(1) && pauses.is_paused(2));
        assert!(!pauses.is_paused(3), "the next job is not paused");
    }
}
