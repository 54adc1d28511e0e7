//! What was published before: the models of the last few snapshots, as far as planning needs them.

use std::collections::{BTreeMap, BTreeSet};

use super::ModelSelected;
use crate::imports::{Imports, class_sources_for};
use crate::study::{Study, StudyDataset};
use crate::tasks::{Blob, Extractor, Model, ModelSettings};
use crate::training_set::Group;

/// Source → names of its classes from which a model, or one that it started from, has learnt.
pub type Learnt = BTreeMap<String, BTreeSet<String>>;

/// One model of a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    pub snapshot: u32,
    pub model: Model,
    pub sha256: String,
    /// Or why nothing can be done with it, e.g. that an older version published it.
    pub known: Result<PublishedModel, String>,
}

/// A published model that can be used and measured again.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishedModel {
    pub selected: ModelSelected,
    /// Where it lies as a published model.
    pub weights: Blob,
    pub settings: ModelSettings,
    pub extractor: Extractor,
    pub learnt: Learnt,
}

/// Stands for every class of a source: an import does not name classes as the source would. If a class really has this
/// name, the comparison becomes stricter, never laxer.
const EVERY_CLASS: &str = "*";

/// The classes of every dataset for meta-training. One that failed is among them: whether it did is nobody's business.
/// Of a class source that imported rows teach about, every class.
pub(super) fn learnt_from(study: &Study, imports: &Imports) -> Learnt {
    let mut learnt = classes_in(study, |dataset| dataset.group == Group::MetaTrain);
    for source in class_sources_for(&study.specification, imports) {
        learnt.entry(source.to_owned()).or_default().insert(EVERY_CLASS.to_owned());
    }
    learnt
}

/// The classes that are held out of all training: of every dataset that is not for meta-training.
pub(super) fn held_out(study: &Study) -> Learnt {
    classes_in(study, |dataset| dataset.group != Group::MetaTrain)
}

pub(super) fn classes_of(study: &Study, dataset: &StudyDataset) -> Learnt {
    classes_in(study, |other| other.id == dataset.id)
}

fn classes_in(study: &Study, wanted: impl Fn(&StudyDataset) -> bool) -> Learnt {
    let mut found = Learnt::new();
    for dataset in study.datasets.iter().filter(|dataset| wanted(dataset)) {
        let source = &study.sources[&dataset.source];
        let classes = source.classes.iter().filter(|(label, _)| dataset.dataset.classes.contains(label));
        found.entry(dataset.source.clone()).or_default().extend(classes.map(|(_, name)| name.clone()));
    }
    found
}

/// Is any class in both?
pub(super) fn overlap(one: &Learnt, other: &Learnt) -> bool {
    let every = |classes: &BTreeSet<String>| classes.contains(EVERY_CLASS);
    one.iter().any(|(source, classes)| {
        other
            .get(source)
            .is_some_and(|others| every(classes) || every(others) || !classes.is_disjoint(others))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_import_taught_overlaps_with_every_class_of_its_source_and_of_no_other() {
        let learnt = |source: &str, classes: &[&str]| {
            Learnt::from([(source.to_owned(), classes.iter().map(|name| (*name).to_owned()).collect())])
        };
        let taught = learnt("birds", &[EVERY_CLASS]);
        for (other, expected) in
            [(learnt("birds", &["crow"]), true), (learnt("fish", &["cod"]), false), (taught.clone(), true)]
        {
            assert_eq!(overlap(&taught, &other), expected, "{other:?}");
            assert_eq!(overlap(&other, &taught), expected, "{other:?}");
        }
        assert!(!overlap(&learnt("birds", &["rook"]), &learnt("birds", &["crow"])));
    }
}
