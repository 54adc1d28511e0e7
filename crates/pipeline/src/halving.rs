//! Early stopping of the units of a bundle: successive halving (Jamieson and Talwalkar, AISTATS 2016). Pure.
//!
//! ```text
//!   all units, up to the first rung ─► the best `keep` of them, up to the next ─► … ─► the rest, to the last epoch
//! ```
//!
//! A unit that diverged or failed is out of the race and no part of what `keep` is a share of. Companions decide how far
//! a unit gets, and nothing else about it.

use serde::{Deserialize, Serialize};

/// Products of counts and shares that should be whole come out a little above: 100 · 0.07 is 7.000000000000001.
const ROUNDING: f64 = 1e-9;

/// At which epochs a bundle's units are compared, by what, and which share of them goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Halving {
    /// Epochs after which the worse units stop: ascending, all before the last epoch.
    pub rungs: Vec<u32>,
    /// The share that goes on at each rung, between 0 and 1; rounded up.
    pub keep: f64,
    pub by: Signal,
}

/// What units are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signal {
    /// Sum of the training losses of all epochs so far, less is better (Ru et al. 2021, arXiv 2006.04492).
    TrainLossSum,
    /// Validation accuracy after the rung's epoch, more is better.
    ValidAccuracy,
}

impl Signal {
    /// The name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::TrainLossSum => "train-loss-sum",
            Self::ValidAccuracy => "valid-accuracy",
        }
    }

    /// The figure with a sign that makes more better.
    fn worth(self, figure: f64) -> f64 {
        match self {
            Self::TrainLossSum => -figure,
            Self::ValidAccuracy => figure,
        }
    }
}

/// A rule that a [`Halving`] breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`halving.{key}` {rule}")]
pub struct BrokenRule {
    pub key: &'static str,
    pub rule: String,
}

/// What a rung says about one unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// From 1, which is best, among the units that reached the rung.
    pub rank: usize,
    pub goes_on: bool,
}

impl Halving {
    /// The rules at the fields, for a recipe of so many epochs.
    pub fn broken_rules(&self, epochs: u32) -> Vec<BrokenRule> {
        let mut broken = Vec::new();
        let ascend = self.rungs.is_sorted_by(|a, b| a < b);
        let inside = self.rungs.iter().all(|rung| (1..epochs).contains(rung));
        if self.rungs.is_empty() || !ascend || !inside {
            let rule = format!(
                "must be ascending epochs, at least one, each from 1 and before the last (`epochs` is {epochs}), got \
                 `{:?}`",
                self.rungs
            );
            broken.push(BrokenRule { key: "rungs", rule });
        }
        if !(self.keep > 0.0 && self.keep < 1.0) {
            let rule = format!("must be a number between 0 and 1, both excluded, got `{}`", self.keep);
            broken.push(BrokenRule { key: "keep", rule });
        }
        broken
    }

    /// How many of `units` go on: at least 1 where there is one.
    pub fn kept(&self, units: usize) -> usize {
        let wanted = (units as f64 * self.keep - ROUNDING).ceil().max(1.0);
        (wanted as usize).min(units)
    }

    /// What becomes of the units that reached a rung, in their order, by their figures. Of equal ones the earlier is
    /// the better.
    pub fn standings(&self, figures: &[f64]) -> Vec<Standing> {
        let mut order: Vec<usize> = (0..figures.len()).collect();
        order.sort_by(|a, b| self.by.worth(figures[*b]).total_cmp(&self.by.worth(figures[*a])));
        let kept = self.kept(figures.len());
        let mut standings = vec![Standing { rank: 0, goes_on: false }; figures.len()];
        for (place, unit) in order.into_iter().enumerate() {
            standings[unit] = Standing { rank: place + 1, goes_on: place < kept };
        }
        standings
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn halving(keep: f64, by: Signal) -> Halving {
        Halving { rungs: vec![3, 6], keep, by }
    }

    fn going_on(halving: &Halving, figures: &[f64]) -> Vec<bool> {
        halving.standings(figures).iter().map(|standing| standing.goes_on).collect()
    }

    #[test]
    fn the_least_loss_and_the_most_accuracy_go_on() {
        let figures = [0.3, 0.1, 0.4, 0.2];
        assert_eq!(going_on(&halving(0.5, Signal::TrainLossSum), &figures), [false, true, false, true]);
        assert_eq!(going_on(&halving(0.5, Signal::ValidAccuracy), &figures), [true, false, true, false]);
        let ranks = halving(0.5, Signal::ValidAccuracy).standings(&figures).into_iter().map(|unit| unit.rank);
        assert_eq!(ranks.collect::<Vec<_>>(), [2, 4, 1, 3]);
    }

    #[test]
    fn of_equal_units_the_earlier_goes_on() {
        for by in [Signal::TrainLossSum, Signal::ValidAccuracy] {
            assert_eq!(going_on(&halving(0.5, by), &[0.2; 3]), [true, true, false]);
        }
    }

    #[test]
    fn the_share_is_rounded_up_as_it_is_meant_and_never_to_nobody() {
        let kept = |keep: f64, units| halving(keep, Signal::TrainLossSum).kept(units);
        assert_eq!([kept(0.5, 4), kept(0.5, 5), kept(0.01, 5), kept(0.9, 3)], [2, 3, 1, 3]);
        assert_eq!(kept(0.07, 100), 7, "100 · 0.07 is a little more than 7");
        assert_eq!([kept(0.5, 1), kept(0.5, 0)], [1, 0]);
    }

    #[test]
    fn broken_rules_are_all_named_with_their_values() {
        let rules = |rungs: &[u32], keep| {
            let halving = Halving { rungs: rungs.to_vec(), keep, by: Signal::TrainLossSum };
            let broken = halving.broken_rules(20);
            broken.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(rules(&[1, 10, 19], 0.5), "");
        insta::assert_snapshot!(rules(&[10, 20], 1.0), @"
        `halving.rungs` must be ascending epochs, at least one, each from 1 and before the last (`epochs` is 20), got `[10, 20]`
        `halving.keep` must be a number between 0 and 1, both excluded, got `1`
        ");
        for (rungs, keep) in [(&[][..], 0.5), (&[0, 4], 0.5), (&[4, 4], 0.5), (&[5, 4], 0.5)] {
            assert!(rules(rungs, keep).starts_with("`halving.rungs` must be ascending"), "{rungs:?}");
        }
        for keep in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(rules(&[4], keep).starts_with("`halving.keep` must be a number"), "{keep}");
        }
    }

    proptest! {
        #[test]
        fn whoever_goes_on_is_no_worse_than_whoever_stops(
            figures in prop::collection::vec(0.0..5.0_f64, 1..40), keep in 0.01..0.99_f64, accuracy in any::<bool>(),
        ) {
            let by = if accuracy { Signal::ValidAccuracy } else { Signal::TrainLossSum };
            let halving = halving(keep, by);
            let standings = halving.standings(&figures);
            let of = |goes_on: bool| {
                let found = standings.iter().zip(&figures).filter(move |(unit, _)| unit.goes_on == goes_on);
                found.map(|(_, figure)| by.worth(*figure))
            };
            prop_assert_eq!(of(true).count(), halving.kept(figures.len()));
            let worst = of(true).fold(f64::INFINITY, f64::min);
            prop_assert!(of(false).all(|stopped| stopped <= worst));
            let mut ranks: Vec<usize> = standings.iter().map(|unit| unit.rank).collect();
            ranks.sort_unstable();
            prop_assert!(ranks.into_iter().eq(1..=figures.len()));
        }

        /// Order of the units decides ties alone.
        #[test]
        fn distinct_units_fare_alike_in_any_order(figures in prop::collection::hash_set(0_u32..1_000, 1..20)) {
            let halving = halving(0.4, Signal::TrainLossSum);
            let figures: Vec<f64> = figures.into_iter().map(f64::from).collect();
            let mut turned = halving.standings(&figures.iter().rev().copied().collect::<Vec<_>>());
            turned.reverse();
            prop_assert_eq!(halving.standings(&figures), turned);
        }
    }
}
