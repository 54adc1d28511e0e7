//! What was published before: the models of the last few snapshots, as far as planning needs them.

use std::collections::{BTreeMap, BTreeSet};

use super::ModelSelected;
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

/// The classes of every dataset for meta-training. One that failed is among them: whether it did is nobody's business.
pub(super) fn learnt_from(study: &Study) -> Learnt {
    classes_in(study, |dataset| dataset.group == Group::MetaTrain)
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
    one.iter().any(|(source, classes)| other.get(source).is_some_and(|others| !classes.is_disjoint(others)))
}
