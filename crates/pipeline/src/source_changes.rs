//! What became of the sources since the last snapshot, and whether a refresh may go on. Pure.
//!
//! A folder that is not mounted, or half copied, looks like a smaller source. A refresh that took it in would publish a
//! snapshot without most of its rows. So a source that cannot be read, is gone, or has shrunk beyond the tolerance stops
//! the refresh before anything is computed, and the last snapshot stays.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A source as it was indexed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    pub content_id: String,
    pub classes: u64,
    pub pictures: u64,
}

/// Names of sources, by what became of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceChanges {
    pub new: Vec<String>,
    pub changed: Vec<String>,
    pub unchanged: Vec<String>,
    /// Published once, and not in `pipeline.yaml` any more.
    pub lost: Vec<String>,
    pub unreadable: Vec<String>,
}

/// How much may be lost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShrinkRules {
    /// The share of a count that may be lost, in [0, 1].
    pub tolerance: f64,
    /// A person said that it is meant to shrink.
    pub allowed: bool,
}

impl ShrinkRules {
    /// The fewest that are left of `count` without breaking the rules.
    pub fn least_of(self, count: u64) -> u64 {
        if self.allowed { 0 } else { (count as f64 * (1.0 - self.tolerance)).ceil() as u64 }
    }
}

/// Compares the sources of the last snapshot with those that were found: each as indexed, or why it could not be. The
/// second value lists every broken rule.
pub fn compare(
    published: &BTreeMap<String, SourceState>,
    found: &BTreeMap<String, Result<SourceState, String>>,
    rules: ShrinkRules,
) -> (SourceChanges, Vec<String>) {
    let mut changes = SourceChanges::default();
    let mut broken = Vec::new();
    for (name, state) in found {
        match (published.get(name), state) {
            (_, Err(reason)) => {
                changes.unreadable.push(name.clone());
                broken.push(format!("source `{name}` cannot be used: {reason}"));
            }
            (None, Ok(_)) => changes.new.push(name.clone()),
            (Some(before), Ok(now)) if before.content_id == now.content_id => {
                changes.unchanged.push(name.clone());
            }
            (Some(before), Ok(now)) => {
                changes.changed.push(name.clone());
                let counts =
                    [("classes", before.classes, now.classes), ("pictures", before.pictures, now.pictures)];
                for (what, before, now) in counts {
                    let least = rules.least_of(before);
                    if now < least {
                        broken.push(format!(
                            "source `{name}` has {now} {what} where the last snapshot had {before}, and needs \
                             {least}; if it is meant to shrink, run once with `--allow-shrink`"
                        ));
                    }
                }
            }
        }
    }
    for name in published.keys().filter(|name| !found.contains_key(*name)) {
        changes.lost.push(name.clone());
        if !rules.allowed {
            broken.push(format!(
                "source `{name}` of the last snapshot is not in the pipeline's file any more; if it is meant to go, run \
                 once with `--allow-shrink`"
            ));
        }
    }
    (changes, broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: ShrinkRules = ShrinkRules { tolerance: 0.1, allowed: false };

    fn state(content_id: &str, classes: u64, pictures: u64) -> SourceState {
        SourceState { content_id: content_id.to_owned(), classes, pictures }
    }

    fn published() -> BTreeMap<String, SourceState> {
        ["a", "b", "c"].map(|name| (name.to_owned(), state(name, 40, 1_000))).into()
    }

    fn found(states: &[(&str, SourceState)]) -> BTreeMap<String, Result<SourceState, String>> {
        states.iter().map(|(name, state)| ((*name).to_owned(), Ok(state.clone()))).collect()
    }

    #[test]
    fn every_source_is_told_apart_by_what_became_of_it() {
        let now = [("a", state("a", 40, 1_000)), ("b", state("b2", 41, 1_100)), ("d", state("d", 2, 10))];
        let (changes, broken) = compare(&published(), &found(&now), ShrinkRules { allowed: true, ..RULES });
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let expected = SourceChanges {
            new: names(&["d"]),
            changed: names(&["b"]),
            unchanged: names(&["a"]),
            lost: names(&["c"]),
            unreadable: Vec::new(),
        };
        assert_eq!((changes, broken), (expected, Vec::new()));
    }

    #[test]
    fn what_is_unreadable_gone_or_much_smaller_breaks_a_rule_and_says_what_to_do() {
        let mut now = found(&[("b", state("b2", 35, 899))]);
        now.insert("a".to_owned(), Err("`/data/a` cannot be read".to_owned()));
        let (changes, broken) = compare(&published(), &now, RULES);
        assert_eq!(changes.unreadable, ["a"]);
        insta::assert_snapshot!(broken.join("\n"), @"
        source `a` cannot be used: `/data/a` cannot be read
        source `b` has 35 classes where the last snapshot had 40, and needs 36; if it is meant to shrink, run once with `--allow-shrink`
        source `b` has 899 pictures where the last snapshot had 1000, and needs 900; if it is meant to shrink, run once with `--allow-shrink`
        source `c` of the last snapshot is not in the pipeline's file any more; if it is meant to go, run once with `--allow-shrink`
        ");
    }

    #[test]
    fn a_loss_within_the_tolerance_is_a_change_like_any_other() {
        let now =
            found(&[("a", state("a2", 36, 900)), ("b", state("b", 40, 1_000)), ("c", state("c", 40, 1_000))]);
        let (changes, broken) = compare(&published(), &now, RULES);
        assert_eq!((changes.changed, broken), (vec!["a".to_owned()], Vec::new()));
    }

    #[test]
    fn no_permission_makes_an_unreadable_source_readable() {
        let now = BTreeMap::from([("a".to_owned(), Err("gone".to_owned()))]);
        let (_, broken) = compare(&BTreeMap::new(), &now, ShrinkRules { allowed: true, ..RULES });
        assert_eq!(broken, ["source `a` cannot be used: gone"]);
    }
}
