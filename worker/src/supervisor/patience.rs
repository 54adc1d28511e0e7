//! How long a worker works and waits.

use std::time::Duration;

/// From the end of a slice to the answer to the queue: the batch under way, the checkpoint or the results, and a store
/// that wants several attempts.
const FOR_STORING: Duration = Duration::from_mins(3);

/// Times of a worker, for all its slots.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// A task is paused after so long. Below what the broker waits for an acknowledgement.
    pub slice: Duration,
    /// From the stop to the end of the process.
    pub grace: Duration,
}

impl Patience {
    /// The longest time from taking a message to answering it, on a machine and a store that do what they should.
    pub(super) fn for_delivery(self) -> Duration {
        self.slice + FOR_STORING
    }

    /// From the stop until a slot whose process has no checkpoint yet is late.
    pub(super) fn for_checkpoint(self) -> Duration {
        self.grace * 4 / 5
    }

    /// From the stop until the slots must have ended, which record checkpoints and answer the queue.
    pub(super) fn for_slots(self) -> Duration {
        self.grace * 9 / 10
    }

    /// The rest: for closing the queue.
    pub(super) fn for_goodbye(self) -> Duration {
        self.grace / 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_grace_are_in_order_and_fill_it() {
        for seconds in [1, 25, 3_600] {
            let patience = Patience { slice: Duration::from_mins(10), grace: Duration::from_secs(seconds) };
            assert!(patience.for_checkpoint() < patience.for_slots());
            assert_eq!(patience.for_slots() + patience.for_goodbye(), patience.grace);
            assert!(!patience.for_goodbye().is_zero());
        }
    }
}
