//! The frozen choice of what the models learn from.
//!
//! Which rows exist depends on results (a unit may have failed), so the choice is written down once, as a decision
//! record, before any training uses it. Its id depends on *which work* it holds, not on the files that hold it: two
//! runs that computed the same units train the same models.

use serde::{Deserialize, Serialize};

use crate::ids::{Id, content_id};
use crate::tasks::{Blob, Dataset};

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

/// Rows and features from outside, of one protocol. All of them teach; none of them selects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedRows {
    /// Figures of two protocols are never put into one dataset.
    pub protocol: String,
    /// Ids of the imports that hold the rows. An import's content never changes, so its rows need not be listed.
    pub evaluations: Vec<String>,
    /// Ids of the imports that hold the features of their classes.
    pub features: Vec<String>,
}

/// Rows of finished units with the features of their datasets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TrainingSet {
    pub datasets: Vec<TrainingDataset>,
    /// Where the rows lie: ids of `evaluate` tasks. Not part of the id: bundles are only transport.
    pub evaluations: Vec<String>,
    /// Rows from outside, by protocol.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub imported: Vec<ImportedRows>,
}

impl TrainingSet {
    pub fn id(&self) -> String {
        if self.imported.is_empty() {
            return content_id("training-set", 1, &self.datasets);
        }
        content_id("training-set", 1, &(&self.datasets, &self.imported))
    }

    /// Adds the next part of a set that is stored in parts.
    pub fn append(&mut self, part: Self) {
        self.datasets.extend(part.datasets);
        self.evaluations.extend(part.evaluations);
        self.imported.extend(part.imported);
    }
}

/// What the decision that freezes a set says of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum FrozenSet {
    /// The files that hold it, each a [`TrainingSet`] in JSON, in their order. A set may have a million units.
    Stored { parts: Vec<Blob> },
    /// All of it, as earlier builds wrote it.
    Whole(TrainingSet),
}

/// A [`TrainingSet`] that is being frozen: it reads the same, and holds its ids as bytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ChosenSet {
    pub datasets: Vec<ChosenDataset>,
    pub evaluations: Vec<Id>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub imported: Vec<ImportedRows>,
}

/// One dataset of a [`ChosenSet`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChosenDataset {
    pub id: String,
    pub group: Group,
    pub dataset: Dataset,
    pub features: Vec<String>,
    pub units: Vec<Id>,
}

/// Ids in one part of a stored set: about two megabytes of JSON.
const PART: usize = 1 << 15;

impl ChosenSet {
    /// The id of the set that it is read as.
    pub fn id(&self) -> String {
        if self.imported.is_empty() {
            return content_id("training-set", 1, &self.datasets);
        }
        content_id("training-set", 1, &(&self.datasets, &self.imported))
    }

    /// The set in parts that are small enough to be written and read one after the other: one at least, and no dataset
    /// in two of them.
    pub fn into_parts(self) -> Vec<Self> {
        self.into_parts_of(PART)
    }

    fn into_parts_of(self, ids: usize) -> Vec<Self> {
        let mut parts = Vec::new();
        // A few lines, however many rows they stand for.
        let (mut part, mut held) = (Self { imported: self.imported, ..Self::default() }, 0);
        for dataset in self.datasets {
            if held > 0 && held + dataset.units.len() > ids {
                parts.push(std::mem::take(&mut part));
                held = 0;
            }
            held += dataset.units.len();
            part.datasets.push(dataset);
        }
        let mut left = self.evaluations.as_slice();
        loop {
            let (now, later) = left.split_at(left.len().min(ids.saturating_sub(held)));
            part.evaluations = now.to_vec();
            parts.push(std::mem::take(&mut part));
            if later.is_empty() {
                return parts;
            }
            (left, held) = (later, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tasks::{Fractions, Look, PicturesPerClass};

    fn ids(domain: &str, count: usize) -> Vec<Id> {
        (0..count).map(|number| Id::of(domain, 1, &number)).collect()
    }

    /// A set with so many units in each dataset and so many evaluations.
    fn chosen(units: &[usize], evaluations: usize) -> ChosenSet {
        let dataset = |(number, count): (usize, &usize)| {
            let dataset = Dataset {
                source: "ab".to_owned(),
                classes: vec![1, number as u32 + 2],
                per_class: PicturesPerClass { train: 10, valid: 5, test: 5 },
                fractions: Fractions { train: 0.6, valid: 0.2, test: 0.2 },
                look: Look::default(),
            };
            ChosenDataset {
                id: dataset.id(),
                group: Group::MetaValid,
                dataset,
                features: vec!["f".to_owned()],
                units: ids(&format!("unit {number}"), *count),
            }
        };
        let datasets = units.iter().enumerate().map(dataset).collect();
        let imported = vec![ImportedRows {
            protocol: "p@50".to_owned(),
            evaluations: vec!["i".to_owned()],
            features: vec!["j".to_owned()],
        }];
        ChosenSet { datasets, evaluations: ids("evaluate", evaluations), imported }
    }

    fn read(set: &ChosenSet) -> TrainingSet {
        serde_json::from_slice(&serde_json::to_vec(set).unwrap()).unwrap()
    }

    #[test]
    fn a_chosen_set_reads_as_the_training_set_of_its_id() {
        let with_imports = chosen(&[2, 3], 2);
        let own = ChosenSet { imported: Vec::new(), ..with_imports.clone() };
        assert_ne!(own.id(), with_imports.id());
        for chosen in [with_imports, own] {
            let set = read(&chosen);
            assert_eq!(serde_json::to_string(&set).unwrap(), serde_json::to_string(&chosen).unwrap());
            assert_eq!(set.id(), chosen.id());
            assert_eq!(set.datasets[0].units[0], chosen.datasets[0].units[0].to_string());
        }
    }

    proptest! {
        #[test]
        fn the_parts_of_a_set_are_the_set_and_each_is_small_or_one_dataset(
            units in proptest::collection::vec(0..9_usize, 0..9),
            evaluations in 0..30_usize,
            most in 1..12_usize,
        ) {
            let set = chosen(&units, evaluations);
            let mut whole = TrainingSet::default();
            for part in set.clone().into_parts_of(most) {
                let held = part.datasets.iter().map(|dataset| dataset.units.len()).sum::<usize>();
                let alone = part.evaluations.is_empty()
                    && part.datasets.iter().filter(|dataset| !dataset.units.is_empty()).count() == 1;
                prop_assert!(held + part.evaluations.len() <= most || alone);
                whole.append(read(&part));
            }
            prop_assert_eq!(&whole, &read(&set));
            prop_assert_eq!(whole.id(), set.id());
        }
    }

    #[test]
    fn a_small_set_is_one_part_and_so_is_an_empty_one() {
        assert_eq!(chosen(&[2, 3], 2).into_parts(), [chosen(&[2, 3], 2)]);
        assert_eq!(ChosenSet::default().into_parts(), [ChosenSet::default()]);
    }

    #[test]
    fn a_record_says_where_the_set_lies_or_as_earlier_builds_wrote_it_all_of_it() {
        let part =
            Blob { path: "results/training-set/ab/ab.json".to_owned(), sha256: "ab".repeat(32), bytes: 7 };
        for record in [FrozenSet::Stored { parts: vec![part] }, FrozenSet::Whole(read(&chosen(&[2], 1)))] {
            let json = serde_json::to_value(&record).unwrap();
            assert_eq!(serde_json::from_value::<FrozenSet>(json).unwrap(), record);
        }
    }
}
