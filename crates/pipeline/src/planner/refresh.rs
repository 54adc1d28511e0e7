//! What a refresh does beyond a run: trainings that start from published models, and the model gate.
//!
//! The gate measures the published models again, on the meta-valid datasets of the new training set and on the same
//! draws, so that old and new stand side by side whatever has grown in between. It stands before the searches: a rejected
//! model proposes nothing.

use std::collections::{BTreeMap, BTreeSet};

use metad2a_randomness::Key;
use serde::{Deserialize, Serialize};

use super::published::{Published, PublishedModel, classes_of, held_out, overlap};
use super::{Error, Existing, Freeze, Learnt, ModelSelected};
use crate::ids::content_id;
use crate::model_gate::{Figures, GateRules, Judgement, Rival, judge};
use crate::study::{Study, StudyDataset};
use crate::tasks::{Blob, Model, ModelSettings, Summary, Task, Validate};
use crate::training_set::Group;

/// The model that is published, and what the gate had to say.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    pub selected: ModelSelected,
    /// The model that the training set gave: the same, unless it was rejected.
    pub candidate: ModelSelected,
    pub settings: ModelSettings,
    pub learnt: Learnt,
    /// None where no gate stood in between: outside of a refresh, or where the model is the published one.
    pub gate: Option<Gated>,
}

/// What happened at the gate.
#[derive(Debug, Clone, PartialEq)]
pub struct Gated {
    pub judgement: Judgement,
    /// The snapshot whose model stays; none where the new one is published.
    pub kept: Option<u32>,
}

/// A published model from which a training started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parent {
    pub checkpoint: Blob,
    pub learnt: Learnt,
}

/// The frozen choice of what a training starts from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Start {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<Parent>,
    reason: String,
}

/// What is known of a training's start.
pub(super) enum WarmStart {
    /// The choice is to be written down.
    Open(Freeze),
    From(Option<Parent>),
}

/// What a training starts from. The choice is frozen by `cold`, the training that would start from the seed: a later
/// refresh without new data goes on with it, whatever was published in between.
pub(super) fn warm_start(
    study: &Study,
    existing: &Existing,
    model: Model,
    cold: &str,
) -> Result<WarmStart, Error> {
    if !study.refresh.as_ref().is_some_and(|refresh| refresh.warm_start) {
        return Ok(WarmStart::From(None));
    }
    let id = content_id("warm-start", 1, &cold);
    if let Some(start) = existing.frozen::<Start>(&id, "start of a training")? {
        return Ok(WarmStart::From(start.parent));
    }
    let start = match parent(study, existing, model) {
        Ok(parent) => Start { parent: Some(parent), reason: "the last published model".to_owned() },
        Err(reason) => Start { parent: None, reason },
    };
    let detail = serde_json::to_value(&start).expect("a start has string keys");
    Ok(WarmStart::Open(Freeze { id, decision: "warm-start", detail }))
}

/// The last published model, or why no training can start from it.
fn parent(study: &Study, existing: &Existing, model: Model) -> Result<Parent, String> {
    let published = rivals(existing, model).next().ok_or("no model was published before")?;
    let known = published.known.as_ref().map_err(Clone::clone)?;
    let shape =
        |settings: &ModelSettings| (settings.mode, settings.feature_width, settings.hidden, settings.latent);
    if shape(&known.settings) != shape(study.settings(model)) {
        return Err("the last published model has another shape".to_owned());
    }
    if known.extractor != study.extractor {
        return Err("the last published model learnt from features of another extractor".to_owned());
    }
    if overlap(&known.learnt, &held_out(study)) {
        return Err("the last published model has learnt from classes that are held out now".to_owned());
    }
    Ok(Parent { checkpoint: known.weights.clone(), learnt: known.learnt.clone() })
}

/// The published models of one kind, newest first, each once.
pub(super) fn rivals(existing: &Existing, model: Model) -> impl Iterator<Item = &Published> {
    let mut seen = BTreeSet::new();
    let of_model = existing.published().iter().filter(move |published| published.model == model);
    of_model.filter(move |published| seen.insert(published.sha256.clone()))
}

/// A published model that reads the features of today.
pub(super) fn usable<'a>(study: &Study, published: &'a Published) -> Result<&'a PublishedModel, String> {
    let known = published.known.as_ref().map_err(Clone::clone)?;
    if known.extractor == study.extractor {
        Ok(known)
    } else {
        Err("it reads features of another extractor".to_owned())
    }
}

/// One new model before its gate.
pub(super) struct Trial<'a> {
    pub(super) study: &'a Study,
    pub(super) existing: &'a Existing,
    pub(super) model: Model,
    pub(super) training_set: &'a str,
    pub(super) candidate: &'a ModelSelected,
    pub(super) rules: GateRules,
    /// Of the decision; keys the bootstrap.
    pub(super) id: &'a str,
}

/// What a published model measures now: its metrics, and the datasets whose classes it has learnt from.
type Measured = Result<(BTreeMap<String, f64>, BTreeSet<String>), String>;

/// What a validation found, or why it found nothing.
type Metrics = Result<BTreeMap<String, f64>, String>;

impl Trial<'_> {
    /// The judgement, or the tasks that measure the published models on the new training set.
    pub(super) fn judge(&self) -> Result<Result<Judgement, Vec<Task>>, Error> {
        let mut measured: Vec<(u32, Measured)> = Vec::new();
        let mut open = Vec::new();
        for rival in rivals(self.existing, self.model) {
            let metrics = match self.comparable(rival) {
                Err(reason) => Err(reason),
                Ok(known) => {
                    let task = self.measure_again(known);
                    let Some(metrics) = self.metrics(&task)? else {
                        open.push(task);
                        continue;
                    };
                    metrics.map(|metrics| (metrics, self.seen_before(&known.learnt)))
                }
            };
            measured.push((rival.snapshot, metrics));
        }
        Ok(if open.is_empty() { Ok(self.judge_measured(measured)) } else { Err(open) })
    }

    fn judge_measured(&self, measured: Vec<(u32, Measured)>) -> Judgement {
        let known = measured.iter().filter_map(|(_, metrics)| Some(&metrics.as_ref().ok()?.0));
        let figure = self.figure_of(known.chain([&self.candidate.metrics]));
        let mut favoured = Vec::new();
        let mut opponents = Vec::with_capacity(measured.len());
        for (snapshot, metrics) in measured {
            let figures = metrics.map(|(metrics, seen)| {
                let all = self.figures(figure, &metrics);
                let mut unseen = all.clone();
                unseen.retain(|dataset, _| !seen.contains(dataset));
                if unseen.is_empty() && !all.is_empty() {
                    favoured.push(snapshot);
                    return all;
                }
                unseen
            });
            opponents.push(Rival { snapshot, figures });
        }
        let own = self.figures(figure, &self.candidate.metrics);
        let mut judgement = judge(&own, &opponents, self.rules, &Key::new(self.id, "model gate"));
        if judgement.comparison.as_ref().is_some_and(|strongest| favoured.contains(&strongest.snapshot)) {
            let remark = "; that model has learnt from classes of all these datasets, which favours it";
            judgement.reason.push_str(remark);
        }
        judgement
    }

    /// Can this model be measured by the same rules as the new one?
    fn comparable<'a>(&self, rival: &'a Published) -> Result<&'a PublishedModel, String> {
        let known = usable(self.study, rival)?;
        let measure = |settings: &ModelSettings| {
            let shared = (settings.label, settings.images_per_class, settings.classes_per_dataset);
            // A generator's likelihood counts what it draws, and of which cells.
            let own = (self.model == Model::Generator).then_some((settings.mode, settings.top_fraction));
            (shared, own)
        };
        if measure(&known.settings) != measure(self.study.settings(self.model)) {
            return Err("it is measured in another way: its settings differ".to_owned());
        }
        Ok(known)
    }

    fn measure_again(&self, known: &PublishedModel) -> Task {
        Task::Validate(Validate {
            model: self.model,
            settings: known.settings.clone(),
            training_set: self.training_set.to_owned(),
            seed: self.study.specification.seed,
            checkpoint: known.weights.clone(),
        })
    }

    /// What a validation found, or why nothing; none while it is open.
    fn metrics(&self, task: &Task) -> Result<Option<Metrics>, Error> {
        let id = task.id();
        Ok(match self.existing.summary(&id) {
            Some(Summary::Validation { metrics, .. }) => Some(Ok(metrics.clone())),
            None if !self.existing.is_done(&id) => self
                .existing
                .failure(&id)
                .map(|failure| Err(format!("it could not be measured: {}", failure.last_reason()))),
            _ => return Err(Error::Summary { id, expected: "validate" }),
        })
    }

    /// Ids of the meta-valid datasets with a class that was learnt from.
    fn seen_before(&self, learnt: &Learnt) -> BTreeSet<String> {
        let seen = self.meta_valid().filter(|dataset| overlap(learnt, &classes_of(self.study, dataset)));
        seen.map(|dataset| dataset.id.clone()).collect()
    }

    fn meta_valid(&self) -> impl Iterator<Item = &StudyDataset> {
        self.study.datasets.iter().filter(|dataset| dataset.group == Group::MetaValid)
    }

    /// What models are compared by. A predictor's is the rank correlation, or the error where no model has one: then all
    /// cells of every dataset have the same accuracy.
    fn figure_of<'a>(&self, mut metrics: impl Iterator<Item = &'a BTreeMap<String, f64>>) -> Figure {
        let rank = ("spearman", 1.0);
        match self.model {
            Model::Generator => ("nll_per_graph", -1.0),
            Model::Predictor if metrics.any(|metrics| !self.figures(rank, metrics).is_empty()) => rank,
            Model::Predictor => ("rmse", -1.0),
        }
    }

    /// The figures of the meta-valid datasets that have one: a dataset that failed is in no training set.
    fn figures(&self, (name, sign): Figure, metrics: &BTreeMap<String, f64>) -> Figures {
        let of_dataset = |id: &String| Some((id.clone(), sign * metrics.get(&format!("{name}.{id}"))?));
        self.meta_valid().filter_map(|dataset| of_dataset(&dataset.id)).collect()
    }
}

/// A metric, and the sign that makes higher better.
type Figure = (&'static str, f64);
