//! The datasets that imported rows speak of, as rows of `datasets`.

use std::collections::BTreeSet;
use std::fmt;

use metad2a_database::tables::DatasetRow;
use metad2a_pipeline::ids::content_id;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::declaration::{DatasetDefinition, DatasetDefinitions, class_source_id, name_rule};
use crate::problems::Problems;
use crate::sheet::SourceFile;

/// More is damage: no class source has so many.
const MOST_CLASSES: u32 = 1_000_000;

/// How tasks of `MetaD2A` become datasets: each is a list of labels of one class source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskClasses {
    /// Name of the class source.
    pub class_source: String,
    /// Height and width that the pictures were trained at, in pixels.
    pub image_size: u32,
}

impl TaskClasses {
    /// The name of a task's dataset.
    pub(crate) fn name(&self, task: usize) -> String {
        format!("{}-task-{task:05}", self.class_source)
    }
}

/// Reads the definitions of `--datasets`: a JSON object of name → definition.
pub(crate) fn read_definitions(file: &SourceFile, problems: &mut Problems) -> Option<DatasetDefinitions> {
    let read = serde_json::from_slice::<Definitions>(&file.bytes);
    read.map(|definitions| definitions.0)
        .map_err(|error| problems.of_file(&file.name, format!("is no map of dataset definitions: {error}")))
        .ok()
}

/// Definitions by name, each name once: JSON parsers pass over all but the last of two.
struct Definitions(DatasetDefinitions);

impl<'de> Deserialize<'de> for Definitions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EachOnce;

        impl<'de> Visitor<'de> for EachOnce {
            type Value = Definitions;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object: name of every dataset → its definition")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Definitions, M::Error> {
                let mut definitions = DatasetDefinitions::new();
                while let Some((name, definition)) = map.next_entry::<String, DatasetDefinition>()? {
                    if definitions.contains_key(&name) {
                        return Err(Error::custom(format!("dataset `{name}` is defined twice")));
                    }
                    definitions.insert(name, definition);
                }
                Ok(Definitions(definitions))
            }
        }

        deserializer.deserialize_map(EachOnce)
    }
}

/// Reads the definitions of `--task-classes`: a JSON list of lists of labels, one a task, in the order of their numbers.
pub(crate) fn read_task_classes(file: &SourceFile, problems: &mut Problems) -> Option<Vec<Vec<u32>>> {
    let read = serde_json::from_slice(&file.bytes);
    read.map_err(|error| {
        problems.of_file(
            &file.name,
            format!("must be a list of lists of class labels, one list a task: {error}"),
        );
    })
    .ok()
}

/// The definition of one task.
pub(crate) fn task_definition(tasks: &TaskClasses, labels: &[u32]) -> DatasetDefinition {
    DatasetDefinition {
        classes: None,
        class_labels: Some(labels.to_vec()),
        class_names: None,
        class_source: Some(tasks.class_source.clone()),
        image_size: tasks.image_size,
        train_pictures: 0,
        valid_pictures: 0,
        test_pictures: 0,
    }
}

/// The row of a dataset. The error is the rule that its definition breaks.
pub(crate) fn dataset_row(
    name: &str,
    definition: &DatasetDefinition,
    provenance: String,
) -> Result<DatasetRow, String> {
    if name.trim() != name || name.is_empty() || name.len() > 100 || name.chars().any(char::is_control) {
        return Err(format!(
            "dataset `{name}` must have a name of 1 to 100 characters without spaces around it"
        ));
    }
    if let Some(source) = &definition.class_source {
        name_rule(source).map_err(|rule| format!("dataset `{name}`: `class_source` {rule}"))?;
    }
    let labels = match (&definition.class_labels, definition.classes) {
        (Some(labels), None) => labels.clone(),
        (Some(labels), Some(classes)) if labels.len() == classes as usize => labels.clone(),
        (Some(labels), Some(classes)) => {
            return Err(format!(
                "dataset `{name}` has {} `class_labels`, `classes` says {classes}",
                labels.len()
            ));
        }
        (None, Some(classes)) if classes <= MOST_CLASSES => (0..classes).collect(),
        (None, Some(classes)) => {
            return Err(format!("dataset `{name}` has {classes} classes, {MOST_CLASSES} are the most"));
        }
        (None, None) => return Err(format!("dataset `{name}` needs `classes` or `class_labels`")),
    };
    if labels.len() < 2 {
        return Err(format!("dataset `{name}` has {} classes; it must have at least 2", labels.len()));
    }
    let mut distinct = BTreeSet::new();
    if let Some(label) = labels.iter().find(|label| !distinct.insert(**label)) {
        return Err(format!("dataset `{name}` has class label {label} twice"));
    }
    let names = match &definition.class_names {
        Some(names) if names.len() == labels.len() => names.clone(),
        Some(names) => {
            return Err(format!(
                "dataset `{name}` has {} `class_names` for {} classes",
                names.len(),
                labels.len()
            ));
        }
        None => labels.iter().map(ToString::to_string).collect(),
    };
    if !(1..=4_096).contains(&definition.image_size) {
        return Err(format!(
            "dataset `{name}` has `image_size` {}; it must be 1 to 4096",
            definition.image_size
        ));
    }
    let source = definition.class_source.as_deref().unwrap_or(name);
    Ok(DatasetRow {
        dataset_id: content_id("imported-dataset", 1, &(name, definition)),
        name: name.to_owned(),
        class_group: "imported".to_owned(),
        source: source.to_owned(),
        source_content_id: class_source_id(source),
        classes: labels.len() as i64,
        class_labels: labels.into_iter().map(i64::from).collect(),
        class_names: names,
        train_pictures: definition.train_pictures.into(),
        valid_pictures: definition.valid_pictures.into(),
        test_pictures: definition.test_pictures.into(),
        image_size: definition.image_size.into(),
        data_hash: String::new(),
        provenance: Some(provenance),
        grey: None,
        resolution: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(json: &str) -> DatasetDefinition {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn classes_may_be_counted_or_listed() {
        let counted =
            dataset_row("cifar", &definition(r#"{"classes": 3, "image_size": 32}"#), String::new()).unwrap();
        assert_eq!((counted.class_labels, counted.classes), (vec![0, 1, 2], 3));
        assert_eq!(counted.source_content_id, class_source_id("cifar"));
        let listed = r#"{"class_labels": [7, 3], "class_source": "imagenet", "image_size": 32}"#;
        let listed = dataset_row("pair", &definition(listed), String::new()).unwrap();
        assert_eq!(
            (listed.class_labels, listed.class_names),
            (vec![7, 3], vec!["7".to_owned(), "3".to_owned()])
        );
        assert_eq!(listed.source_content_id, class_source_id("imagenet"));
    }

    #[test]
    fn a_dataset_that_is_defined_twice_is_refused() {
        let text = r#"{"a": {"classes": 3, "image_size": 32}, "a": {"classes": 2, "image_size": 32}}"#;
        let file = SourceFile { name: "datasets.json".to_owned(), bytes: text.as_bytes().into() };
        let mut problems = Problems::new(5);
        assert!(read_definitions(&file, &mut problems).is_none());
        let error = problems.into_error().to_string();
        assert!(error.contains("dataset `a` is defined twice"), "{error}");
    }

    #[test]
    fn a_definition_that_cannot_be_is_refused_with_its_rule() {
        for (json, part) in [
            (r#"{"image_size": 32}"#, "needs `classes` or `class_labels`"),
            (r#"{"classes": 1, "image_size": 32}"#, "must have at least 2"),
            (r#"{"class_labels": [1, 2, 1], "image_size": 32}"#, "class label 1 twice"),
            (r#"{"class_labels": [1, 2], "classes": 3, "image_size": 32}"#, "`classes` says 3"),
            (r#"{"classes": 2, "class_names": ["a"], "image_size": 32}"#, "1 `class_names` for 2 classes"),
            (r#"{"classes": 2, "image_size": 0}"#, "must be 1 to 4096"),
            (r#"{"classes": 2, "image_size": 8, "class_source": "A b"}"#, "`class_source` must be 1 to 60"),
            (r#"{"classes": 4000000000, "image_size": 32}"#, "1000000 are the most"),
        ] {
            let error = dataset_row("x", &definition(json), String::new()).unwrap_err();
            assert!(error.contains(part), "{json}: {error}");
        }
    }
}
