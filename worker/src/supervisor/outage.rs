//! Waiting for a store that is out of reach when the worker starts.
//!
//! A store may be away for a minute or two, and workers start all the time: those that ended at once would only be
//! started again and again. Once at work, a slot waits as long as it takes (see [`super::slot`]); a worker that starts
//! ends after a while, because its address may be wrong, and nobody would see that.

use std::fmt::Display;
use std::time::Duration;

use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// No wait ends later than this after the start.
const LONGEST: Duration = Duration::from_mins(5);

/// The waits of one start.
#[derive(Debug)]
pub(super) struct Outage {
    began: Instant,
    pause: Duration,
}

impl Outage {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), pause: FIRST_PAUSE }
    }

    /// Waits before the next attempt. False, at once, where that would take too long.
    pub(super) async fn wait(&mut self, why: &dyn Display) -> bool {
        if self.began.elapsed() + self.pause > LONGEST {
            return false;
        }
        tracing::warn!(pause = ?self.pause, "{why}; the worker starts when the store answers");
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_start_outlives_an_outage_of_minutes_and_gives_up_in_the_end() {
        let began = Instant::now();
        let mut outage = Outage::new();
        let mut waits = 0;
        while outage.wait(&"503").await {
            waits += 1;
        }
        assert_eq!(waits, 13);
        assert!((Duration::from_mins(4)..=LONGEST).contains(&began.elapsed()), "{:?}", began.elapsed());
    }
}
