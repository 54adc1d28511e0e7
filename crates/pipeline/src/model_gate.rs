//! May a new model take the place of a published one? Pure.
//!
//! ```text
//!   figures of the new model by dataset ─┐
//!   figures of published models ─────────┴─► differences, dataset by dataset ─► bootstrap of their mean ─► judgement
//! ```
//!
//! A refresh runs unattended, so the burden of proof is the new model's: the lower bound of the mean difference must not
//! lie below minus the tolerance. Few or disagreeing datasets make a low bound, and the published model stays.

use std::collections::BTreeMap;

use metad2a_randomness::Key;
use serde::{Deserialize, Serialize};

/// How much worse a new model may be, and how sure that must be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct GateRules {
    /// In the figure's own unit; a negative one asks for progress.
    pub tolerance: f64,
    /// Of the one-sided bound, below 1.
    pub confidence: f64,
}

/// Dataset id → figure; higher is better.
pub type Figures = BTreeMap<String, f64>;

/// A published model, measured on the datasets of the new one.
#[derive(Debug, Clone, PartialEq)]
pub struct Rival {
    /// The newest snapshot that holds it.
    pub snapshot: u32,
    /// Or why it cannot be measured.
    pub figures: Result<Figures, String>,
}

/// What the gate found, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    pub verdict: Verdict,
    pub reason: String,
    /// With the strongest rival; none where there was nothing to compare.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The new model is published.
    Accepted,
    /// The published one stays.
    Rejected,
    /// No published model could be measured beside it; the published one stays.
    NotComparable,
}

/// The new model beside one rival, over the datasets on which both have a figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    pub snapshot: u32,
    pub datasets: usize,
    /// Means over the datasets.
    pub new: f64,
    pub published: f64,
    pub difference: f64,
    /// Bootstrap bound of the difference at the rules' confidence.
    pub lower_bound: f64,
    pub tolerance: f64,
    pub confidence: f64,
}

/// Enough that the bound's own noise is far below any tolerance worth setting.
const RESAMPLES: usize = 4_000;

/// Judges a model against the strongest of `rivals`: the one that it leads least. `key` keys the bootstrap.
pub fn judge(new: &Figures, rivals: &[Rival], rules: GateRules, key: &Key) -> Judgement {
    if rivals.is_empty() {
        let reason = "no model was published before".to_owned();
        return Judgement { verdict: Verdict::Accepted, reason, comparison: None };
    }
    let mut strongest: Option<Comparison> = None;
    let mut reasons = Vec::new();
    for (number, rival) in rivals.iter().enumerate() {
        match compare(new, rival, rules, key, number as u64) {
            Ok(comparison) => {
                let is_stronger =
                    strongest.as_ref().is_none_or(|known| comparison.difference < known.difference);
                if is_stronger {
                    strongest = Some(comparison);
                }
            }
            Err(Obstacle::Incomparable(reason)) => {
                reasons.push(format!("snapshot {}: {reason}", rival.snapshot));
            }
            Err(Obstacle::Missing(dataset)) => {
                let reason = format!(
                    "the new model has no figure on dataset `{dataset}`, where that of snapshot {} has one",
                    rival.snapshot
                );
                return Judgement { verdict: Verdict::Rejected, reason, comparison: None };
            }
        }
    }
    let Some(comparison) = strongest else {
        let reason = format!("not comparable with any published model ({})", reasons.join("; "));
        return Judgement { verdict: Verdict::NotComparable, reason, comparison: None };
    };
    let passes = comparison.lower_bound >= -rules.tolerance;
    let verdict = if passes { Verdict::Accepted } else { Verdict::Rejected };
    let reason = format!(
        "against snapshot {}, over {} meta-valid datasets: {:.4} where it was {:.4}, a difference of {:+.4}, with {:.0} % \
         confidence at least {:+.4}; at least {:+.4} is asked for",
        comparison.snapshot,
        comparison.datasets,
        comparison.new,
        comparison.published,
        comparison.difference,
        rules.confidence * 100.0,
        comparison.lower_bound,
        -rules.tolerance
    );
    Judgement { verdict, reason, comparison: Some(comparison) }
}

enum Obstacle {
    Incomparable(String),
    Missing(String),
}

fn compare(
    new: &Figures,
    rival: &Rival,
    rules: GateRules,
    key: &Key,
    step: u64,
) -> Result<Comparison, Obstacle> {
    let published = rival.figures.as_ref().map_err(|reason| Obstacle::Incomparable(reason.clone()))?;
    if let Some(dataset) = published.keys().find(|dataset| !new.contains_key(*dataset)) {
        return Err(Obstacle::Missing(dataset.clone()));
    }
    let pairs: Vec<(f64, f64)> = published.iter().map(|(dataset, figure)| (new[dataset], *figure)).collect();
    if pairs.is_empty() {
        return Err(Obstacle::Incomparable("it has no figure on any meta-valid dataset".to_owned()));
    }
    let count = pairs.len() as f64;
    let differences: Vec<f64> = pairs.iter().map(|(new, published)| new - published).collect();
    Ok(Comparison {
        snapshot: rival.snapshot,
        datasets: pairs.len(),
        new: pairs.iter().map(|(new, _)| new).sum::<f64>() / count,
        published: pairs.iter().map(|(_, published)| published).sum::<f64>() / count,
        difference: differences.iter().sum::<f64>() / count,
        lower_bound: lower_bound(&differences, rules.confidence, key, step),
        tolerance: rules.tolerance,
        confidence: rules.confidence,
    })
}

/// The bound that the mean of resampled differences stays above with this confidence.
fn lower_bound(differences: &[f64], confidence: f64, key: &Key, step: u64) -> f64 {
    let mut stream = key.stream(step);
    let count = differences.len();
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| (0..count).map(|_| differences[stream.below(count)]).sum::<f64>() / count as f64)
        .collect();
    means.sort_unstable_by(f64::total_cmp);
    let place = ((1.0 - confidence) * RESAMPLES as f64) as usize;
    means[place.min(RESAMPLES - 1)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULES: GateRules = GateRules { tolerance: 0.05, confidence: 0.95 };

    fn key() -> Key {
        Key::new("gate", "model gate")
    }

    fn figures(values: &[f64]) -> Figures {
        values.iter().enumerate().map(|(number, value)| (format!("d{number:02}"), *value)).collect()
    }

    fn rival(snapshot: u32, values: &[f64]) -> Rival {
        Rival { snapshot, figures: Ok(figures(values)) }
    }

    #[test]
    fn the_first_model_has_nothing_to_beat() {
        let judgement = judge(&figures(&[-0.5]), &[], RULES, &key());
        assert_eq!(judgement.verdict, Verdict::Accepted);
    }

    #[test]
    fn a_loss_within_the_tolerance_on_every_dataset_is_accepted_and_one_beyond_is_not() {
        let published = rival(4, &[0.5, 0.6, 0.7]);
        let near = judge(&figures(&[0.46, 0.56, 0.66]), std::slice::from_ref(&published), RULES, &key());
        assert_eq!(near.verdict, Verdict::Accepted);
        let far = judge(&figures(&[0.44, 0.54, 0.64]), &[published], RULES, &key());
        assert_eq!(far.verdict, Verdict::Rejected);
        insta::assert_snapshot!(far.reason, @"against snapshot 4, over 3 meta-valid datasets: 0.5400 where it was 0.6000, a difference of -0.0600, with 95 % confidence at least -0.0600; at least -0.0500 is asked for");
    }

    #[test]
    fn datasets_that_disagree_prove_nothing_even_with_an_equal_mean() {
        let published = rival(1, &[0.5, 0.5]);
        let judgement = judge(&figures(&[0.8, 0.2]), &[published], RULES, &key());
        assert_eq!(judgement.verdict, Verdict::Rejected);
        let comparison = judgement.comparison.unwrap();
        assert!(comparison.difference.abs() < 1e-12);
        assert!((comparison.lower_bound + 0.3).abs() < 1e-12);
    }

    #[test]
    fn the_best_of_the_last_few_counts_not_the_newest() {
        let rivals = [rival(9, &[0.3, 0.3]), rival(8, &[0.6, 0.6]), rival(7, &[0.4, 0.4])];
        let judgement = judge(&figures(&[0.4, 0.4]), &rivals, RULES, &key());
        assert_eq!(judgement.verdict, Verdict::Rejected);
        assert_eq!(judgement.comparison.unwrap().snapshot, 8);
    }

    #[test]
    fn what_cannot_be_measured_is_not_comparable_and_says_why() {
        let rivals = [
            Rival { snapshot: 3, figures: Err("other features".to_owned()) },
            Rival { snapshot: 2, figures: Ok(Figures::new()) },
        ];
        let judgement = judge(&figures(&[0.4]), &rivals, RULES, &key());
        assert_eq!(judgement.verdict, Verdict::NotComparable);
        insta::assert_snapshot!(judgement.reason, @"not comparable with any published model (snapshot 3: other features; snapshot 2: it has no figure on any meta-valid dataset)");
        let one_is_enough = [rivals[0].clone(), rival(1, &[0.4])];
        assert_eq!(judge(&figures(&[0.4]), &one_is_enough, RULES, &key()).verdict, Verdict::Accepted);
    }

    #[test]
    fn a_figure_that_only_the_published_model_has_is_a_loss_and_one_that_only_the_new_has_is_none() {
        let published = rival(2, &[0.1, 0.1]);
        let judgement = judge(&figures(&[0.9]), &[published], RULES, &key());
        assert_eq!(judgement.verdict, Verdict::Rejected);
        assert!(judgement.reason.contains("`d01`"), "{}", judgement.reason);
        let judgement = judge(&figures(&[0.9, -1.0]), &[rival(2, &[0.1])], RULES, &key());
        assert_eq!(judgement.verdict, Verdict::Accepted);
    }

    /// The same figures must be judged alike on every machine, for ever.
    #[test]
    fn the_bootstrap_is_keyed_and_pinned() {
        let differences = [0.113, -0.217, 0.051, 0.307, -0.153, 0.019, -0.071, 0.241, -0.037];
        let bound = |name: &str| lower_bound(&differences, 0.95, &Key::new(name, "model gate"), 0);
        assert_eq!(bound("a").to_bits(), bound("a").to_bits());
        insta::assert_snapshot!(format!("{:.6} {:.6}", bound("a"), bound("b")), @"-0.056778 -0.061222");
    }

    proptest! {
        #[test]
        fn the_bound_lies_between_the_least_difference_and_the_mean(
            differences in prop::collection::vec(-1.0..1.0_f64, 1..12), step in 0..100_u64,
        ) {
            let bound = lower_bound(&differences, 0.95, &key(), step);
            let least = differences.iter().copied().fold(f64::INFINITY, f64::min);
            let mean = differences.iter().sum::<f64>() / differences.len() as f64;
            prop_assert!(bound >= least - 1e-12 && bound <= mean + 1e-12, "{least} {bound} {mean}");
        }

        #[test]
        fn a_model_that_is_better_everywhere_is_always_accepted(
            pairs in prop::collection::vec((-1.0..1.0_f64, 0.0..0.5_f64), 1..12),
        ) {
            let (old, gain): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let new: Vec<f64> = old.iter().zip(&gain).map(|(old, gain)| old + gain).collect();
            let judgement = judge(&figures(&new), &[rival(1, &old)], RULES, &key());
            prop_assert_eq!(judgement.verdict, Verdict::Accepted);
        }
    }
}
