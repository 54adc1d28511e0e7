//! The frozen choice of what the models learn from.
//!
//! Which rows exist depends on results (a unit may have failed), so the choice is written down once, as a decision
//! record, before any training uses it. Its id depends on *which work* it holds, not on the files that hold it: two
//! runs that computed the same units train the same models.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::ids::content_id;
use crate::tasks::Dataset;

/// The role of a group of classes. No class is in two groups, whatever the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// The models learn from these.
    MetaTrain,
    /// Early stopping and quality gates.
    MetaValid,
    /// Reports only.
    MetaTest,
    /// Never-seen sources for which cells are searched.
    Target,
}

impl Group {
    pub fn name(self) -> &'static str {
        match self {
            Self::MetaTrain => "meta-train",
            Self::MetaValid => "meta-valid",
            Self::MetaTest => "meta-test",
            Self::Target => "target",
        }
    }
}

/// One dataset of a training set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingDataset {
    pub id: String,
    pub group: Group,
    pub dataset: Dataset,
    /// Ids of the `extract-features` tasks that hold its classes.
    pub features: Vec<String>,
    /// The units whose rows are used.
    pub units: Vec<String>,
}

/// Rows of finished units with the features of their datasets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingSet {
    pub datasets: Vec<TrainingDataset>,
    /// Where the rows lie: ids of `evaluate` tasks. Not part of the id: bundles are only transport.
    pub evaluations: Vec<String>,
}

impl TrainingSet {
    pub fn id(&self) -> String {
        content_id("training-set", 1, &self.datasets)
    }

    /// The set as the particulars of its record. Moves the ids, of which there may be a million, instead of copying
    /// them.
    ///
    /// # Panics
    /// Never: every part has a JSON form.
    pub fn into_value(self) -> Value {
        let texts = |texts: Vec<String>| Value::Array(texts.into_iter().map(Value::String).collect());
        let datasets = self.datasets.into_iter().map(|mut dataset| {
            let units = texts(std::mem::take(&mut dataset.units));
            let mut value = serde_json::to_value(dataset).expect("a dataset has string keys");
            value["units"] = units;
            value
        });
        let datasets = datasets.collect();
        json!({ "datasets": Value::Array(datasets), "evaluations": texts(self.evaluations) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::{Fractions, PicturesPerClass};

    #[test]
    fn a_set_that_is_moved_into_its_record_reads_as_itself() {
        let dataset = Dataset {
            source: "ab".to_owned(),
            classes: vec![1, 4],
            per_class: PicturesPerClass { train: 10, valid: 5, test: 5 },
            fractions: Fractions { train: 0.6, valid: 0.2, test: 0.2 },
        };
        let set = TrainingSet {
            datasets: vec![TrainingDataset {
                id: dataset.id(),
                group: Group::MetaValid,
                dataset,
                features: vec!["f".to_owned()],
                units: vec!["u".to_owned(), "v".to_owned()],
            }],
            evaluations: vec!["e".to_owned()],
        };
        assert_eq!(serde_json::to_value(&set).unwrap(), set.clone().into_value());
        assert_eq!(serde_json::from_value::<TrainingSet>(set.clone().into_value()).unwrap(), set);
    }
}
