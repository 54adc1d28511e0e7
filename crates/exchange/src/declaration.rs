//! What a person must say about a file because the file itself does not: units, training protocol, shape, origin.
//!
//! **Invariant:** everything here is part of an import's id, so the same file under another declaration is another
//! import. Deliberately absent: guesses. A unit is declared, or nothing is imported.

use std::collections::BTreeMap;

use metad2a_pipeline::ids::content_id;
use metad2a_search_space::{Cell, MacroShape, flops, parameters};
use serde::{Deserialize, Serialize};

use crate::problems::Error;

/// Raised by hand when the rows of an import change for equal files and declarations; part of every import's id.
const SEMANTICS: u32 = 1;

/// The id of an import: of what is imported, the files' contents and the declaration.
pub fn import_id<D: Serialize>(kind: &str, sha256_of_files: &[String], declaration: &D) -> String {
    content_id("import", SEMANTICS, &(kind, sha256_of_files, declaration))
}

/// Unit of the accuracies in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccuracyUnit {
    /// In [0, 1].
    Fraction,
    /// In [0, 100].
    Percent,
}

/// Pictures that an accuracy was measured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    Train,
    Valid,
    Test,
}

impl Split {
    pub const ALL: [Self; 3] = [Self::Train, Self::Valid, Self::Test];

    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        }
    }
}

/// Rows of a file that are imported, from 1, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowRange {
    pub first: u64,
    pub last: u64,
}

impl RowRange {
    /// Whether the row, counted from 0, is among them.
    pub(crate) fn holds(self, row: usize) -> bool {
        (self.first..=self.last).contains(&(row as u64 + 1))
    }
}

impl std::str::FromStr for RowRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed =
            text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        match parsed {
            Some((first, last)) if 1 <= first && first <= last => Ok(Self { first, last }),
            _ => {
                Err(format!("must be `FIRST-LAST` with rows counted from 1, such as `1-4152`, got `{text}`"))
            }
        }
    }
}

/// Shape of the networks, without the number of classes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct NetworkShape {
    pub channels: u32,
    pub cells_per_stage: u32,
}

impl NetworkShape {
    pub(crate) fn costs(self, cell: Cell, image_size: u32, classes: u64) -> (i64, i64) {
        let shape = MacroShape {
            channels: self.channels.into(),
            cells_per_stage: self.cells_per_stage.into(),
            image_size: image_size.into(),
            classes,
        };
        (parameters(cell, shape) as i64, flops(cell, shape) as i64)
    }
}

/// How the networks of a file were trained. Figures of two protocols are never mixed within a dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Protocol {
    /// Without the epochs, which a row may tell.
    pub name: String,
    pub shape: NetworkShape,
    pub batch_size: u32,
    pub learning_rate: f64,
}

impl Protocol {
    /// As tables and `pipeline.yaml` write it.
    pub(crate) fn with_epochs(&self, epochs: i64) -> String {
        format!("{}@{epochs}", self.name)
    }

    /// Takes the place of a recipe's id; never equal to one.
    pub(crate) fn recipe_id(&self, epochs: i64, image_size: u32) -> String {
        content_id("imported-recipe", 1, &(self, epochs, image_size))
    }

    pub fn validate(&self) -> Result<(), Error> {
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            let rule = format!("must be a finite number above 0, got `{}`", self.learning_rate);
            return Err(Error::Declaration { flag: "--learning-rate", rule });
        }
        check_name("--protocol", &self.name)
    }
}

/// A name that tables, ids and `pipeline.yaml` can hold.
pub(crate) fn check_name(flag: &'static str, name: &str) -> Result<(), Error> {
    name_rule(name).map_err(|rule| Error::Declaration { flag, rule })
}

/// The rule that such a name breaks.
pub(crate) fn name_rule(name: &str) -> Result<(), String> {
    let allowed =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || "-_.".contains(letter);
    if name.is_empty() || name.len() > 60 || !name.chars().all(allowed) {
        return Err(format!("must be 1 to 60 lower-case letters, digits and `-_.`, got `{name}`"));
    }
    Ok(())
}

/// The origin that is written into every row.
pub(crate) fn check_origin(origin: &str) -> Result<(), Error> {
    if origin.trim().is_empty() || origin.len() > 200 || origin.chars().any(char::is_control) {
        let rule = "must say in one line of at most 200 characters where the file comes from".to_owned();
        return Err(Error::Declaration { flag: "--origin", rule });
    }
    Ok(())
}

/// The id that features and datasets of a class source share: classes of one name are the same classes.
pub fn class_source_id(name: &str) -> String {
    content_id("class-source", 1, &name)
}

/// A dataset that rows speak of, as the file of `--datasets` defines it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetDefinition {
    /// Number of classes; left out where `class_labels` tells it.
    #[serde(default)]
    pub classes: Option<u32>,
    /// Labels in the class source, in the order of the network's outputs; 0, 1, … where absent.
    #[serde(default)]
    pub class_labels: Option<Vec<u32>>,
    /// The labels where absent.
    #[serde(default)]
    pub class_names: Option<Vec<String>>,
    /// Name of the class source whose features describe its classes; the dataset's own name where absent.
    #[serde(default)]
    pub class_source: Option<String>,
    /// Height and width that the pictures are trained at, in pixels.
    pub image_size: u32,
    #[serde(default)]
    pub train_pictures: u32,
    #[serde(default)]
    pub valid_pictures: u32,
    #[serde(default)]
    pub test_pictures: u32,
}

/// Datasets by name.
pub type DatasetDefinitions = BTreeMap<String, DatasetDefinition>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_declaration_or_content_is_another_import() {
        let files = vec!["ab".to_owned()];
        let id = import_id("evaluations", &files, &AccuracyUnit::Percent);
        assert_eq!(id, import_id("evaluations", &files, &AccuracyUnit::Percent));
        assert_ne!(id, import_id("evaluations", &files, &AccuracyUnit::Fraction));
        assert_ne!(id, import_id("features", &files, &AccuracyUnit::Percent));
        assert_ne!(id, import_id("evaluations", &["cd".to_owned()], &AccuracyUnit::Percent));
    }

    #[test]
    fn a_range_of_rows_has_both_ends_and_counts_from_1() {
        let range: RowRange = "2-3".parse().unwrap();
        let held: Vec<usize> = (0..5).filter(|row| range.holds(*row)).collect();
        assert_eq!(held, [1, 2]);
        for wrong in ["0-3", "3-2", "3", "a-b", ""] {
            assert!(wrong.parse::<RowRange>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_that_would_read_as_something_else_are_refused() {
        for wrong in ["", "A b", "x@200", "ä", &"x".repeat(61)] {
            assert!(check_name("--protocol", wrong).is_err(), "{wrong}");
        }
        check_name("--protocol", "nats-bench_1.1").unwrap();
        assert!(check_origin(" ").is_err() && check_origin("a\nb").is_err());
    }
}
