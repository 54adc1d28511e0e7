//! When to try again: growing, jittered pauses, up to a limit.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

use tokio::time::Instant;

use super::link::Link;
use crate::{Error, Result};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Doubling pauses, each between half and the whole of it, so that many workers do not come back in step.
#[derive(Debug)]
pub(super) struct Pauses(Duration);

impl Pauses {
    pub(super) fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    pub(super) fn next(&mut self) -> Duration {
        let jitter = (RandomState::new().build_hasher().finish() % 1000) as f64 / 1000.0;
        let pause = self.0.mul_f64(0.5 + jitter / 2.0);
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
        pause
    }
}

/// Tries of one call, until its patience ends.
pub(super) struct Retry {
    until: Instant,
    pauses: Pauses,
}

impl Retry {
    pub(super) fn new(patience: Duration) -> Self {
        Self { until: Instant::now() + patience, pauses: Pauses::new() }
    }

    /// Waits after this error, or returns it where trying again is useless or the patience has ended.
    pub(super) async fn pause(&mut self, link: &Link, error: Error) -> Result<()> {
        let pause = self.pauses.next();
        if !error.is_retryable() || Instant::now() + pause > self.until {
            return Err(error);
        }
        tracing::debug!(%error, ?pause, "trying the broker again");
        tokio::select! {
            biased;
            () = link.closed() => Err(Error::Closed),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_are_jittered() {
        let mut pauses = Pauses::new();
        for (round, whole) in [100, 200, 400, 800, 1600, 3200, 5000, 5000].into_iter().enumerate() {
            let pause = pauses.next().as_millis();
            assert!((whole / 2..=whole).contains(&pause), "pause {round}: {pause} ms");
        }
    }

    #[tokio::test]
    async fn a_retry_ends_with_the_patience_the_link_and_what_cannot_be_mended() {
        let link = Link::to_nowhere();
        let fault = || Error::Injected { what: "test" };
        let ended = Retry::new(Duration::ZERO).pause(&link, fault()).await;
        assert!(matches!(ended, Err(Error::Injected { .. })));
        let patient = || Retry::new(Duration::from_hours(1));
        assert!(patient().pause(&link, fault()).await.is_ok());
        let hopeless = patient().pause(&link, Error::NoLanes).await;
        assert!(matches!(hopeless, Err(Error::NoLanes)), "what cannot be mended is told at once");
        link.close().await;
        assert!(matches!(patient().pause(&link, fault()).await, Err(Error::Closed)));
    }
}
