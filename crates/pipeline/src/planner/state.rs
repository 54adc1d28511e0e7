//! The planner's memory of a study, kept up to date as facts come in.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::around_best::SecondWave;
use super::board::{Board, Look};
use super::searches::{Measurements, Searches};
use super::track::{Context, Track};
use super::{
    Error, Existing, Fact, Flight, Freeze, Outcome, Place, Progress, Results, Stage, Step, evaluations,
};
use crate::ids::{Id, content_id};
use crate::study::Study;
use crate::tasks::{Model, Task};

/// Knows a study and what exists of it, and says what is to be done next.
#[derive(Debug, Clone)]
pub struct Planner<'a> {
    pub(super) study: &'a Study,
    pub(super) existing: Cow<'a, Existing>,
    pub(super) features: Board,
    pub(super) evaluations: Board,
    /// Behind the places of the first wave; there once its cells are frozen.
    pub(super) second_wave: Option<SecondWave<'a>>,
    /// Id of the record that chooses the training set: a hash of the whole study, made once.
    choice: Option<String>,
    pub(super) generator: Track,
    pub(super) predictor: Track,
    pub(super) searches: Option<Searches<'a>>,
    pub(super) measurements: Option<Measurements>,
    /// Something was lifted: what was planned on top of it is planned anew.
    is_stale: bool,
    /// Places that had open tasks before that.
    pub(super) retired: BTreeSet<Place>,
}

impl<'a> Planner<'a> {
    /// Looks at everything that the study holds.
    pub fn new(study: &'a Study, existing: Existing) -> Self {
        Self::over(study, Cow::Owned(existing))
    }

    pub(super) fn over(study: &'a Study, existing: Cow<'a, Existing>) -> Self {
        let extractions = study.extractions.len();
        let features = Board::new(extractions, extractions as u64, |place, ids| {
            let id = extraction(study, place).id();
            ids.extend(Id::parse(&id));
            look_at_task(&existing, &id)
        });
        let evaluations = Board::new(study.bundles().len(), study.unit_count(), |place, ids| {
            evaluations::sort(&existing, &study.bundle(place as usize), ids).look()
        });
        Self {
            study,
            existing,
            features,
            evaluations,
            second_wave: None,
            choice: None,
            generator: Track::new(Model::Generator),
            predictor: Track::new(Model::Predictor),
            searches: None,
            measurements: None,
            is_stale: false,
            retired: BTreeSet::new(),
        }
    }

    /// Looks at everything again. A lifted task may open a stage that was settled, and closes all that came after it:
    /// rare, and a person's wish, so it may cost what a start does.
    fn start_anew(&mut self) {
        let mut retired: BTreeSet<Place> = self.take_changes().into_iter().collect();
        retired.extend(self.open_places());
        let existing = std::mem::replace(&mut self.existing, Cow::Owned(Existing::default()));
        let choice = self.choice.take();
        *self = Self { choice, retired, ..Self::over(self.study, existing) };
    }

    pub fn study(&self) -> &'a Study {
        self.study
    }

    pub fn existing(&self) -> &Existing {
        &self.existing
    }

    /// Enters something that the store turned out to hold. Costs what it changes.
    pub fn learn(&mut self, fact: Fact) {
        let mut concerned: Vec<Id> = Vec::new();
        match &fact {
            Fact::Done { id, done } => {
                concerned.extend([id].into_iter().chain(&done.units).filter_map(|id| Id::parse(id)));
            }
            Fact::Failed { id, failure } => {
                concerned.extend(Id::parse(id));
                if let Some(Task::Evaluate(task)) = &failure.task {
                    concerned.extend(task.units.iter().filter_map(|unit| Id::parse(&task.unit_id(unit))));
                }
            }
            Fact::Lifted { id } => {
                self.is_stale |= self.existing.to_mut().lift_failure(id);
            }
            Fact::Frozen { .. } => {}
        }
        // A failure that does not hold its task may concern any unit that is open.
        let anywhere = matches!(&fact, Fact::Failed { failure, .. } if failure.task.is_none());
        self.existing.to_mut().learn(fact);
        for id in concerned {
            self.look_again(|board| board.concerned(id));
        }
        if anywhere {
            self.look_again(|board| board.open().collect());
        }
    }

    /// Looks again at the places of each board that `places` names.
    fn look_again(&mut self, places: impl Fn(&Board) -> Vec<u32>) {
        let (study, existing) = (self.study, &*self.existing);
        for place in places(&self.features) {
            let id = extraction(study, place).id();
            self.features.put(place, look_at_task(existing, &id));
        }
        for place in places(&self.evaluations) {
            let sorted = evaluations::sort(existing, &study.bundle(place as usize), &mut Vec::new());
            self.evaluations.put(place, sorted.look());
        }
        if let Some(wave) = &mut self.second_wave {
            for place in places(&wave.board) {
                wave.look_again(study, existing, place);
            }
        }
        if let Some(searches) = &mut self.searches {
            for place in places(&searches.board) {
                searches.look_again(existing, place);
            }
        }
        if let Some(measurements) = &mut self.measurements {
            for place in places(&measurements.board) {
                measurements.look_again(study, existing, place);
            }
        }
    }

    /// Decides what is to be done. `flight` says how long tasks have been out.
    pub fn step(&mut self, flight: &Flight) -> Result<Step, Error> {
        if self.is_stale {
            self.start_anew();
        }
        let mut step = Step {
            freeze: Vec::new(),
            around_best: None,
            merge: Vec::new(),
            overdue: Vec::new(),
            training_set: None,
            stages: BTreeMap::new(),
            outcome: Outcome::Running,
        };
        let second_wave_is_settled = self.second_wave(&mut step)?;
        if second_wave_is_settled
            && self.features.progress().is_settled()
            && self.evaluations.progress().is_settled()
            && let Some(training_set) = self.training_set(&mut step)?
        {
            let context =
                Context { study: self.study, existing: &self.existing, training_set: &training_set, flight };
            self.generator.advance(&context, &mut step)?;
            self.predictor.advance(&context, &mut step)?;
            self.search_and_measure()?;
            self.finish(training_set, &mut step);
        }
        step.stages = self.stages();
        Ok(step)
    }

    /// Id of the frozen training set, or none while it is being frozen or where too much has failed.
    fn training_set(&mut self, step: &mut Step) -> Result<Option<String>, Error> {
        let study = self.study;
        let choice =
            self.choice.get_or_insert_with(|| content_id("training-set-choice", 1, &study.id())).clone();
        // The set itself is not read: it was written before its choice.
        if let Some(id) = self.existing.frozen::<String>(&choice, "training set's id")? {
            return Ok(Some(id));
        }
        match self.choose_training_set() {
            Ok(set) => {
                let id = set.id();
                step.freeze.push(Freeze { id: choice, decision: "training-set-choice", detail: id.into() });
                step.training_set = Some(set);
            }
            Err(reason) => step.outcome = Outcome::Blocked(reason),
        }
        Ok(None)
    }

    fn finish(&self, training_set: String, step: &mut Step) {
        let (Some(generator), Some(predictor)) = (self.generator.chosen(), self.predictor.chosen()) else {
            return;
        };
        if let Some(measurements) = &self.measurements
            && measurements.board.progress().is_settled()
        {
            step.outcome = Outcome::Finished(Box::new(Results {
                training_set,
                generator: generator.clone(),
                predictor: predictor.clone(),
                around_best: self.second_wave.iter().flat_map(SecondWave::units).collect(),
                searches: measurements.results(self.study, &self.existing),
            }));
        }
    }

    /// How far each stage is; those that cannot start yet with what they will hold, so that a reader sees the whole
    /// way.
    fn stages(&self) -> BTreeMap<Stage, Progress> {
        let specification = &self.study.specification;
        let rounds = |track: &Track, rounds: u32| Progress {
            done: track.rounds_done(rounds),
            total: rounds.into(),
            ..Progress::default()
        };
        let expected = |total: u64| Progress { total, ..Progress::default() };
        let second_wave = self.second_wave.as_ref().map(|wave| wave.board.progress());
        let second_wave = second_wave.unwrap_or_else(|| expected(self.study.second_wave_units()));
        let searched = self.study.searched().count() as u64;
        let cells = u64::from(specification.search.chosen + specification.search.random);
        let seeds = specification.search.seeds.len() as u64;
        let searches = self.searches.as_ref().map(|searches| searches.board.progress());
        let measurements = self.measurements.as_ref().map(|measurements| measurements.board.progress());
        BTreeMap::from([
            (Stage::Features, self.features.progress()),
            (Stage::Evaluations, self.evaluations.progress().with(second_wave)),
            (Stage::Generator, rounds(&self.generator, specification.generator.rounds)),
            (Stage::Predictor, rounds(&self.predictor, specification.predictor.rounds)),
            (Stage::Search, searches.unwrap_or_else(|| expected(searched))),
            (Stage::Measurements, measurements.unwrap_or_else(|| expected(searched * cells * seeds))),
        ])
    }
}

pub(super) fn extraction(study: &Study, place: u32) -> Task {
    Task::ExtractFeatures(study.extractions[place as usize].clone())
}

fn look_at_task(existing: &Existing, id: &str) -> Look {
    if existing.is_done(id) {
        Look { done: 1, ..Look::default() }
    } else if let Some(failure) = existing.failure(id) {
        Look::stopped(failure.verdict)
    } else {
        Look { open: true, ..Look::default() }
    }
}
