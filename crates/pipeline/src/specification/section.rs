//! Reads a mapping of `pipeline.yaml` key by key and collects every problem, instead of stopping at the first.

use std::cell::RefCell;
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// One thing that is wrong: the key, the rule and the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub key: String,
    pub rule: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "`{}` {}", self.key, self.rule)
    }
}

/// Where problems are collected; shared by all sections of one file.
pub(super) type Problems = RefCell<Vec<Problem>>;

/// A mapping whose keys are taken one after another; what is left over at the end is unknown.
pub(super) struct Section<'a> {
    path: String,
    entries: BTreeMap<String, Value>,
    known: Vec<&'static str>,
    problems: &'a Problems,
}

impl<'a> Section<'a> {
    /// A section from any value; anything but a mapping is a problem.
    pub(super) fn new(path: &str, value: Value, problems: &'a Problems) -> Self {
        let entries = match value {
            Value::Object(map) => map.into_iter().collect(),
            Value::Null => BTreeMap::new(),
            other => {
                let key = if path.is_empty() { "(the file)" } else { path };
                let rule = format!("must be a mapping of keys to values, got `{other}`");
                problems.borrow_mut().push(Problem { key: key.to_owned(), rule });
                BTreeMap::new()
            }
        };
        Self { path: path.to_owned(), entries, known: Vec::new(), problems }
    }

    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn problem(&self, key: &str, rule: String) {
        self.problems.borrow_mut().push(Problem { key: self.key(key), rule });
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.entries.remove(key).filter(|value| !value.is_null())
    }

    /// A value that may be absent. `expected` completes the sentence "must be …".
    pub(super) fn optional<T: DeserializeOwned>(&mut self, key: &'static str, expected: &str) -> Option<T> {
        let value = self.take(key)?;
        let parsed = serde_json::from_value(value.clone()).ok();
        if parsed.is_none() {
            self.problem(key, format!("must be {expected}, got `{value}`"));
        }
        parsed
    }

    /// A value that must be there.
    pub(super) fn required<T: DeserializeOwned>(&mut self, key: &'static str, expected: &str) -> Option<T> {
        if !self.require(key, expected) {
            self.known.push(key);
            return None;
        }
        self.optional(key, expected)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|value| !value.is_null())
    }

    /// Whether a value is there, which is a problem where it is not.
    pub(super) fn require(&self, key: &'static str, expected: &str) -> bool {
        let is_there = self.has(key);
        if !is_there {
            self.problem(key, format!("is missing; it must be {expected}"));
        }
        is_there
    }

    /// A whole number within bounds, or the default.
    pub(super) fn count(&mut self, key: &'static str, default: u32, least: u32, most: u32) -> u32 {
        let expected = format!("a whole number from {least} to {most}");
        let number: u32 = self.optional(key, &expected).unwrap_or(default);
        if !(least..=most).contains(&number) {
            self.problem(key, format!("must be {expected}, got `{number}`"));
            return default;
        }
        number
    }

    /// A number within bounds, or the default.
    pub(super) fn number(&mut self, key: &'static str, default: f64, least: f64, most: f64) -> f64 {
        let expected = format!("a number from {least} to {most}");
        let number: f64 = self.optional(key, &expected).unwrap_or(default);
        if !(least..=most).contains(&number) {
            self.problem(key, format!("must be {expected}, got `{number}`"));
            return default;
        }
        number
    }

    /// A nested mapping; an absent one is empty.
    pub(super) fn section(&mut self, key: &'static str) -> Section<'a> {
        let value = self.take(key).unwrap_or(Value::Null);
        Section::new(&self.key(key), value, self.problems)
    }

    /// A nested mapping, where there is one.
    pub(super) fn optional_section(&mut self, key: &'static str) -> Option<Section<'a>> {
        let value = self.take(key)?;
        Some(Section::new(&self.key(key), value, self.problems))
    }

    /// One nested mapping, or a list of them, which is what the flag says. An absent one is an empty mapping.
    pub(super) fn one_or_more(&mut self, key: &'static str) -> (Vec<Section<'a>>, bool) {
        let path = self.key(key);
        match self.take(key) {
            Some(Value::Array(items)) => {
                let item = |(at, item)| Section::new(&format!("{path}[{at}]"), item, self.problems);
                (items.into_iter().enumerate().map(item).collect(), true)
            }
            other => (vec![Section::new(&path, other.unwrap_or(Value::Null), self.problems)], false),
        }
    }

    /// A nested mapping that must be there.
    pub(super) fn required_section(&mut self, key: &'static str) -> Section<'a> {
        if self.entries.get(key).is_none_or(Value::is_null) {
            self.problem(key, "is missing; it must be a mapping".to_owned());
        }
        self.section(key)
    }

    /// All remaining entries as named sections, for mappings whose keys are the user's.
    pub(super) fn named_sections(mut self) -> Vec<(String, Section<'a>)> {
        let entries = std::mem::take(&mut self.entries);
        let path = self.path.clone();
        let problems = self.problems;
        entries
            .into_iter()
            .map(|(name, value)| {
                let section = Section::new(&format!("{path}.{name}"), value, problems);
                (name, section)
            })
            .collect()
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self) {
        for key in self.entries.keys() {
            let known = self.known.join("`, `");
            let hint = self
                .known
                .iter()
                .find(|candidate| resembles(candidate, key))
                .map_or(format!("known here: `{known}`"), |candidate| format!("did you mean `{candidate}`?"));
            self.problem(key, format!("is not a known key; {hint}"));
        }
    }
}

/// Equal but for one edit or a swap of neighbours: enough to catch typing errors.
fn resembles(known: &str, typed: &str) -> bool {
    let (known, typed): (Vec<char>, Vec<char>) = (known.chars().collect(), typed.chars().collect());
    let shared = known.iter().zip(&typed).take_while(|(a, b)| a == b).count();
    let tail =
        known[shared..].iter().rev().zip(typed[shared..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (left_known, left_typed) = (known.len() - shared - tail, typed.len() - shared - tail);
    left_known.max(left_typed) <= 2 && shared + tail >= 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_problem_is_collected_with_key_rule_and_value() {
        let problems = Problems::default();
        let mut section = Section::new(
            "search",
            json!({"candidates": 0, "sets": "ten", "chosne": 3, "zebra": 1}),
            &problems,
        );
        section.count("candidates", 500, 1, 15_625);
        section.count("sets", 10, 1, 100);
        section.count("chosen", 3, 1, 100);
        let _: Option<String> = section.required("recipe", "the name of a recipe");
        section.finish();
        let lines: Vec<String> = problems.borrow().iter().map(ToString::to_string).collect();
        insta::assert_snapshot!(lines.join("\n"), @r#"
        `search.candidates` must be a whole number from 1 to 15625, got `0`
        `search.sets` must be a whole number from 1 to 100, got `"ten"`
        `search.recipe` is missing; it must be the name of a recipe
        `search.chosne` is not a known key; did you mean `chosen`?
        `search.zebra` is not a known key; known here: `candidates`, `sets`, `chosen`, `recipe`
        "#);
    }

    #[test]
    fn a_list_where_a_mapping_belongs_is_named() {
        let problems = Problems::default();
        Section::new("sources", json!([1]), &problems).finish();
        assert_eq!(
            problems.borrow()[0].to_string(),
            "`sources` must be a mapping of keys to values, got `[1]`"
        );
    }
}
