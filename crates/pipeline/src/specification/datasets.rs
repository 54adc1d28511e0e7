//! The datasets of `pipeline.yaml`: of each group one kind, or a list of kinds that really differ.

use super::read::{check_name, thirds};
use super::section::Section;
use super::{ClassShares, DatasetKind, Datasets};
use crate::tasks::{Look, PicturesPerClass};

/// Longer sides than this are no reduction worth its name.
const MOST_PIXELS: u32 = 1_024;

pub(super) fn datasets(mut section: Section<'_>) -> Datasets {
    let mut shares = section.section("class_shares");
    let [train, valid, test] = thirds(&mut shares, [0.7, 0.15, 0.15]);
    shares.finish();
    let meta_train = kinds(&mut section, "meta_train", 8);
    let meta_valid = kinds(&mut section, "meta_valid", 2);
    let meta_test = kinds(&mut section, "meta_test", 0);
    for (key, kinds) in [("meta_train.count", &meta_train), ("meta_valid.count", &meta_valid)] {
        if kinds.iter().all(|kind| kind.count == 0) {
            section.problem(
                key,
                "must be at least 1: models learn from one and are chosen on the other".to_owned(),
            );
        }
    }
    let target_pictures = pictures(section.section("target_pictures_per_class"), 100, 50, 1_000);
    section.finish();
    Datasets {
        class_shares: ClassShares { train, valid, test },
        meta_train,
        meta_valid,
        meta_test,
        target_pictures,
    }
}

/// The kinds of a group. A list says of each how many there are; a single mapping has a usual count.
fn kinds(section: &mut Section<'_>, key: &'static str, usual_count: u32) -> Vec<DatasetKind> {
    let (sections, is_list) = section.one_or_more(key);
    let kinds: Vec<DatasetKind> = sections
        .into_iter()
        .map(|entry| {
            if is_list {
                entry.require("count", "a whole number: how many datasets of this kind");
            }
            kind(entry, usual_count)
        })
        .collect();
    for (at, kind) in kinds.iter().enumerate() {
        if kinds[..at].iter().any(|other| other.name == kind.name) {
            let rule = match &kind.name {
                Some(name) => format!("must be another than that of an earlier kind, got `{name}`"),
                None => {
                    "is missing; only one kind of a group may go without, and its name keys what is drawn"
                        .to_owned()
                }
            };
            section.problem(&format!("{key}[{at}].name"), rule);
        }
    }
    kinds
}

fn kind(mut section: Section<'_>, usual_count: u32) -> DatasetKind {
    let name: Option<String> = section.optional("name", "a name of lower-case letters, digits and dashes");
    if let Some(name) = &name {
        check_name(&section, "name", name);
    }
    let least_classes = section.count("least_classes", 10, 2, 10_000);
    let most_classes = section.count("most_classes", least_classes.max(20), 2, 10_000);
    if least_classes > most_classes {
        let rule = format!("must be at most `most_classes` ({most_classes}), got `{least_classes}`");
        section.problem("least_classes", rule);
    }
    let kind = DatasetKind {
        name,
        count: section.count("count", usual_count, 0, 100_000),
        least_classes,
        most_classes,
        pictures_per_class: pictures(section.section("pictures_per_class"), 25, 10, 0),
        look: look(section.section("look")),
    };
    section.finish();
    kind
}

fn look(mut section: Section<'_>) -> Look {
    let grey = section.optional("grey", "`true` or `false`").unwrap_or(false);
    let expected = format!("a whole number from 1 to {MOST_PIXELS}");
    let resolution: Option<u32> = section.optional("resolution", &expected);
    if let Some(pixels) = resolution.filter(|pixels| !(1..=MOST_PIXELS).contains(pixels)) {
        section.problem("resolution", format!("must be {expected}, got `{pixels}`"));
    }
    section.finish();
    Look { grey, resolution }
}

fn pictures(mut section: Section<'_>, train: u32, valid: u32, test: u32) -> PicturesPerClass {
    let pictures = PicturesPerClass {
        train: section.count("train", train, 5, 1_000_000),
        valid: section.count("valid", valid, 1, 1_000_000),
        test: section.count("test", test, 0, 1_000_000),
    };
    section.finish();
    pictures
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::specification::section::Problems;

    fn read(value: Value) -> Result<Datasets, String> {
        let problems = Problems::default();
        let datasets = datasets(Section::new("datasets", value, &problems));
        let problems: Vec<String> = problems.take().iter().map(ToString::to_string).collect();
        if problems.is_empty() { Ok(datasets) } else { Err(problems.join("\n")) }
    }

    #[test]
    fn one_mapping_is_one_kind_without_a_name() {
        let one = read(json!({"meta_train": {"count": 3, "least_classes": 5}})).unwrap();
        let listed = read(json!({"meta_train": [{"count": 3, "least_classes": 5}]})).unwrap();
        assert_eq!(one, listed);
        let [kind] = &one.meta_train[..] else { panic!("{one:?}") };
        assert_eq!((kind.count, kind.name.as_deref(), kind.look), (3, None, Look::default()));
        assert_eq!((one.meta_valid[0].count, one.meta_test[0].count), (2, 0));
        // As specifications were written before there were lists.
        let written = serde_json::to_value(&one.meta_test[0]).unwrap();
        assert_eq!(serde_json::to_value(&one).unwrap()["meta_test"], written);
        let keys: Vec<&String> = written.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["count", "least_classes", "most_classes", "pictures_per_class"]);
    }

    #[test]
    fn kinds_differ_in_classes_pictures_and_look() {
        let read = read(json!({"meta_train": [
            {"count": 8, "least_classes": 20, "most_classes": 20},
            {"name": "grey", "count": 5, "look": {"grey": true}},
            {"name": "blurred", "count": 3, "look": {"resolution": 8}, "pictures_per_class": {"train": 50}},
        ]}));
        let kinds = read.unwrap().meta_train;
        assert_eq!(kinds.iter().map(|kind| kind.count).collect::<Vec<_>>(), [8, 5, 3]);
        assert_eq!(kinds[1].look, Look { grey: true, resolution: None });
        assert_eq!(kinds[2].look, Look { grey: false, resolution: Some(8) });
        assert_eq!(kinds[2].pictures_per_class.train, 50);
    }

    #[test]
    fn problems_of_kinds_name_their_place_in_the_list() {
        let problems = read(json!({"meta_train": [
            {"least_classes": 30, "most_classes": 20},
            {"count": 2, "name": "Grey", "look": {"gray": true, "resolution": 0}},
            {"count": 2},
            {"count": 2, "name": "small"},
            {"count": 2, "name": "small"},
        ], "meta_valid": []}));
        insta::assert_snapshot!(problems.unwrap_err(), @"
        `datasets.meta_train[0].count` is missing; it must be a whole number: how many datasets of this kind
        `datasets.meta_train[0].least_classes` must be at most `most_classes` (20), got `30`
        `datasets.meta_train[1].name` must be 1 to 60 lower-case letters, digits and dashes, got `Grey`
        `datasets.meta_train[1].look.resolution` must be a whole number from 1 to 1024, got `0`
        `datasets.meta_train[1].look.gray` is not a known key; did you mean `grey`?
        `datasets.meta_train[2].name` is missing; only one kind of a group may go without, and its name keys what is drawn
        `datasets.meta_train[4].name` must be another than that of an earlier kind, got `small`
        `datasets.meta_valid.count` must be at least 1: models learn from one and are chosen on the other
        ");
    }
}
