//! What is destroyed when. Pure: a function of the seed.
//!
//! Blows that must fall (broker, coordinator, store) are tied to the run's progress, so that they fall on a fast
//! machine as on a slow one; workers are killed by the clock.

use std::time::Duration;

use metad2a_randomness::{Key, Stream};

/// How much is destroyed.
#[derive(Debug, Clone)]
pub struct Violence {
    pub seed: u64,
    pub workers: usize,
    pub broker_kills: usize,
    pub coordinator_kills: usize,
    /// How often the store turns bad and good again.
    pub bad_times: usize,
    /// How often no request to the store succeeds for `outage`.
    pub outages: usize,
    pub outage: Duration,
    /// Mean time between two killed workers.
    pub worker_gap: Duration,
}

/// One blow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Blow {
    KillBroker,
    KillCoordinator,
    StoreTurnsBad,
    StoreTurnsGood,
    StoreOutage,
}

/// A blow and the part of the run that is done when it falls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Milestone {
    pub(super) at: f64,
    pub(super) blow: Blow,
}

/// Nothing falls later: the end of a run is quick.
const LAST: f64 = 0.85;

impl Violence {
    /// Every blow, in the order in which they fall.
    pub(super) fn milestones(&self) -> Vec<Milestone> {
        let mut stream = Key::new(&self.seed.to_string(), "chaos").stream(0);
        let mut blows = [
            vec![Blow::KillBroker; self.broker_kills],
            vec![Blow::KillCoordinator; self.coordinator_kills],
            vec![Blow::StoreTurnsBad; self.bad_times],
            vec![Blow::StoreOutage; self.outages],
        ]
        .concat();
        stream.shuffle(&mut blows);
        let step = LAST / blows.len().max(1) as f64;
        let mut milestones = Vec::new();
        for (number, blow) in blows.into_iter().enumerate() {
            let at = step * (number as f64 + 0.9 * stream.uniform());
            milestones.push(Milestone { at, blow });
            if blow == Blow::StoreTurnsBad {
                let good = (at + 1.5 * step).min(LAST + 0.1);
                milestones.push(Milestone { at: good, blow: Blow::StoreTurnsGood });
            }
        }
        milestones.sort_by(|a, b| a.at.total_cmp(&b.at).then(a.blow.cmp(&b.blow)));
        milestones
    }

    /// Which worker is killed next, and how long after the last.
    pub(super) fn worker_kills(&self) -> WorkerKills {
        let stream = Key::new(&self.seed.to_string(), "chaos").stream(1);
        WorkerKills { stream, workers: self.workers, gap: self.worker_gap }
    }
}

/// An endless row of deaths.
#[derive(Debug)]
pub(super) struct WorkerKills {
    stream: Stream,
    workers: usize,
    gap: Duration,
}

impl Iterator for WorkerKills {
    type Item = (Duration, usize);

    fn next(&mut self) -> Option<Self::Item> {
        let gap = self.gap.mul_f64(self.stream.uniform_between(0.3, 1.7));
        Some((gap, self.stream.below(self.workers)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violence(seed: u64) -> Violence {
        Violence {
            seed,
            workers: 3,
            broker_kills: 3,
            coordinator_kills: 4,
            bad_times: 2,
            outages: 1,
            outage: Duration::from_secs(5),
            worker_gap: Duration::from_secs(4),
        }
    }

    #[test]
    fn a_seed_repeats_its_blows() {
        assert_eq!(violence(3).milestones(), violence(3).milestones());
        assert_ne!(violence(3).milestones(), violence(4).milestones());
        let kills = |seed| violence(seed).worker_kills().take(20).collect::<Vec<_>>();
        assert_eq!(kills(3), kills(3));
        assert_ne!(kills(3), kills(4));
    }

    #[test]
    fn every_blow_falls_in_order_and_before_the_end_of_the_run() {
        for seed in 0..50 {
            let milestones = violence(seed).milestones();
            assert!(milestones.is_sorted_by(|a, b| a.at <= b.at));
            assert!(milestones.iter().all(|milestone| milestone.at < 1.0));
            let count = |blow| milestones.iter().filter(|milestone| milestone.blow == blow).count();
            assert_eq!(count(Blow::KillBroker), 3);
            assert_eq!(count(Blow::KillCoordinator), 4);
            assert_eq!(count(Blow::StoreTurnsBad), 2);
            assert_eq!(count(Blow::StoreTurnsGood), 2);
            assert_eq!(count(Blow::StoreOutage), 1);
            let last = milestones
                .iter()
                .rfind(|milestone| matches!(milestone.blow, Blow::StoreTurnsBad | Blow::StoreTurnsGood));
            assert_eq!(last.unwrap().blow, Blow::StoreTurnsGood, "seed {seed}");
        }
    }
}
