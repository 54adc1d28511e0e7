//! Meta-training by rounds: shards → outer step → checkpoint → validation → the chosen model.
//!
//! A round closes when all its shards are in. A shard that is missing at the deadline is published again under its id.
//! Where the pipeline sets a quorum below all shards, a round whose deadline has passed closes without the missing
//! ones. Which shards closed a round is frozen with its checkpoint and the only truth from then on: the result of a
//! late shard is looked at by nobody, and each shard goes on from the optimiser state of its last accepted round.

mod closing;
mod gate;

use std::collections::{BTreeMap, BTreeSet};

use self::closing::shard_problem;
use self::gate::GATE;
use super::refresh::{WarmStart, warm_start};
use super::training::{ModelSelected, RoundClosed, RoundMetrics, training_id};
use super::{Chosen, Error, Existing, Flight, Freeze, Outcome, Parent, Step};
use crate::ids::content_id;
use crate::specification::Training;
use crate::study::Study;
use crate::tasks::{Blob, Model, Summary, Task, TrainEpisodes, Validate};

/// The number of a validation's place: after the shards, which others wait for.
const VALIDATIONS: u32 = 1 << 16;

/// One model's training as far as it is known: each closed round is read once.
#[derive(Debug, Clone)]
pub(super) struct Track {
    model: Model,
    names: Option<Names>,
    selected: Option<ModelSelected>,
    /// The model that is published.
    chosen: Option<Chosen>,
    /// Measurements of published models that the gate waits for.
    gate: Vec<(String, Task)>,
    /// Closed rounds.
    closed: u32,
    last: Option<RoundClosed>,
    history: Vec<RoundMetrics>,
    /// Validations of closed rounds without a result, by round.
    unvalidated: BTreeMap<u32, (String, Task)>,
    best: Option<Validated>,
    /// Shards that rounds were closed without: round, shard, id of the task.
    absent: Vec<(u32, u32, String)>,
    /// All shards of the first round that is not closed.
    round: Vec<(String, Task)>,
    /// Numbers of the places with an open task.
    open: Vec<u32>,
    changed: BTreeSet<u32>,
    problems: Vec<String>,
}

/// Ids that do not change while a training goes on.
#[derive(Debug, Clone)]
struct Names {
    training_set: String,
    training: String,
    selection: String,
    /// Where the first round starts, if not from the seed.
    parent: Option<Parent>,
}

/// A validated checkpoint.
#[derive(Debug, Clone)]
struct Validated {
    round: u32,
    checkpoint: Blob,
    score: f64,
    metrics: BTreeMap<String, f64>,
}

/// What a training is planned with.
pub(super) struct Context<'a> {
    pub(super) study: &'a Study,
    pub(super) existing: &'a Existing,
    pub(super) training_set: &'a str,
    pub(super) flight: &'a Flight,
}

impl Context<'_> {
    fn training(&self, model: Model) -> &Training {
        match model {
            Model::Generator => &self.study.specification.generator,
            Model::Predictor => &self.study.specification.predictor,
        }
    }
}

impl Track {
    pub(super) fn new(model: Model) -> Self {
        Self {
            model,
            names: None,
            selected: None,
            chosen: None,
            gate: Vec::new(),
            closed: 0,
            last: None,
            history: Vec::new(),
            unvalidated: BTreeMap::new(),
            best: None,
            absent: Vec::new(),
            round: Vec::new(),
            open: Vec::new(),
            changed: BTreeSet::new(),
            problems: Vec::new(),
        }
    }

    /// The model that is published, once its training is over and its gate passed.
    pub(super) fn chosen(&self) -> Option<&Chosen> {
        self.chosen.as_ref()
    }

    pub(super) fn rounds_done(&self, rounds: u32) -> u64 {
        if self.selected.is_some() { rounds.into() } else { self.closed.into() }
    }

    /// Numbers of the places with an open task.
    pub(super) fn open(&self) -> impl Iterator<Item = u32> {
        self.open.iter().copied()
    }

    /// The open task at a place.
    pub(super) fn task(&self, number: u32) -> Option<&(String, Task)> {
        if !self.open.contains(&number) {
            return None;
        }
        if let Some(number) = number.checked_sub(GATE) {
            return self.gate.get(number as usize);
        }
        match number.checked_sub(VALIDATIONS) {
            Some(round) => self.unvalidated.get(&round),
            None => self.round.get(number as usize),
        }
    }

    /// Places whose open task may be another since the last call.
    pub(super) fn take_changes(&mut self) -> BTreeSet<u32> {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Reads what is new, and plans what comes next.
    pub(super) fn advance(&mut self, context: &Context<'_>, step: &mut Step) -> Result<(), Error> {
        let before = (self.closed, std::mem::take(&mut self.open));
        self.problems.clear();
        self.go_on(context, step)?;
        if before != (self.closed, self.open.clone()) {
            self.changed.extend(before.1);
            self.changed.extend(&self.open);
        }
        Ok(())
    }

    fn go_on(&mut self, context: &Context<'_>, step: &mut Step) -> Result<(), Error> {
        let training = context.training(self.model);
        if !self.is_named(context, training, step)? {
            return Ok(());
        }
        if self.selected.is_none() {
            let selection = &self.names().selection;
            self.selected = context.existing.frozen::<ModelSelected>(selection, "selected model")?;
        }
        if let Some(selected) = self.selected.clone() {
            self.problems = given_up(context.existing, self.model, &selected);
            if self.chosen.is_none() {
                self.pass_gate(context, &selected, step)?;
            }
            return Ok(());
        }
        while self.closed < training.rounds {
            self.open_round(context, training);
            let decision = self.round_decision();
            let Some(closed) = context.existing.frozen::<RoundClosed>(&decision, "closed round")? else {
                break;
            };
            self.enter_round(context, training, closed);
        }
        for (round, shard, id) in &self.absent {
            if let Some(failure) = context.existing.failure(id).filter(|failure| failure.is_problem()) {
                self.problems.push(shard_problem(self.model, *round, *shard, &failure.told(id)));
            }
        }
        let validating = self.enter_validations(context.existing)?;
        if self.closed < training.rounds {
            self.plan_round(context, training, step)?;
        } else if !validating {
            self.select(context.existing, training, step);
        }
        Ok(())
    }

    /// Names the training, unless what it starts from is still to be written down.
    fn is_named(
        &mut self,
        context: &Context<'_>,
        training: &Training,
        step: &mut Step,
    ) -> Result<bool, Error> {
        if self.names.is_some() {
            return Ok(true);
        }
        let seed = context.study.specification.seed;
        let id = |parent| training_id(self.model, training, context.training_set, seed, parent);
        let parent = match warm_start(context.study, context.existing, self.model, &id(None))? {
            WarmStart::From(parent) => parent,
            WarmStart::Open(freeze) => {
                step.freeze.push(freeze);
                return Ok(false);
            }
        };
        let id = id(parent.as_ref().map(|parent| parent.checkpoint.sha256.as_str()));
        let selection = content_id("model-selection", 1, &(&id, training.rounds, training.validate_every));
        let training_set = context.training_set.to_owned();
        self.names = Some(Names { training_set, training: id, selection, parent });
        Ok(true)
    }

    fn names(&self) -> &Names {
        self.names.as_ref().expect("a training is named before it is planned")
    }

    /// Id of the record that closes the first round that is not closed.
    fn round_decision(&self) -> String {
        content_id("round", 1, &(&self.names().training, self.closed))
    }

    /// Names the shards of the first round that is not closed.
    fn open_round(&mut self, context: &Context<'_>, training: &Training) {
        if !self.round.is_empty() {
            return;
        }
        let before = self.last.as_ref();
        let start = self.names().parent.as_ref().map(|parent| &parent.checkpoint);
        let task = |shard: u32| {
            Task::TrainEpisodes(TrainEpisodes {
                model: self.model,
                settings: training.settings.clone(),
                training_set: self.names().training_set.clone(),
                seed: context.study.specification.seed,
                round: self.closed,
                shard,
                steps: training.steps_per_round,
                base: before.map(|closed| &closed.checkpoint).or(start).cloned(),
                optimiser: before.and_then(|closed| closed.optimisers.get(shard as usize)?.clone()),
            })
        };
        self.round = (0..training.shards).map(task).map(|task| (task.id(), task)).collect();
    }

    fn enter_round(&mut self, context: &Context<'_>, training: &Training, closed: RoundClosed) {
        let round = self.closed;
        for (shard, (id, _)) in std::mem::take(&mut self.round).into_iter().enumerate() {
            let shard = shard as u32;
            if !(closed.accepted.is_empty() || closed.accepted.contains(&shard)) {
                self.absent.push((round, shard, id));
            }
        }
        let missing_shards = training.shards - closed.shards.len() as u32;
        let validation = BTreeMap::new();
        self.history.push(RoundMetrics { round, loss: closed.loss, validation, missing_shards });
        if (round + 1).is_multiple_of(training.validate_every) || round + 1 == training.rounds {
            let task = Task::Validate(Validate {
                model: self.model,
                settings: training.settings.clone(),
                training_set: self.names().training_set.clone(),
                seed: context.study.specification.seed,
                checkpoint: closed.checkpoint.clone(),
            });
            self.unvalidated.insert(round, (task.id(), task));
        }
        self.last = Some(closed);
        self.closed += 1;
    }

    /// Enters results of validations; whether some are still to come.
    fn enter_validations(&mut self, existing: &Existing) -> Result<bool, Error> {
        let mut scores = Vec::new();
        for (round, (id, task)) in &self.unvalidated {
            match (existing.summary(id), task) {
                (Some(Summary::Validation { score, metrics }), Task::Validate(task)) => {
                    let (checkpoint, metrics) = (task.checkpoint.clone(), metrics.clone());
                    scores.push(Validated { round: *round, checkpoint, score: *score, metrics });
                }
                (None, _) if !existing.is_done(id) => match existing.failure(id) {
                    Some(failure) if failure.is_problem() => {
                        self.problems.push(format!("validation of round {round} {}", failure.told(id)));
                    }
                    Some(_) => {}
                    None => self.open.push(VALIDATIONS + round),
                },
                _ => return Err(Error::Summary { id: id.clone(), expected: "validate" }),
            }
        }
        for validated in scores {
            self.unvalidated.remove(&validated.round);
            self.history[validated.round as usize].validation.clone_from(&validated.metrics);
            self.enter_score(validated);
        }
        Ok(!self.open.is_empty())
    }

    /// The highest score holds, the earliest of equals.
    fn enter_score(&mut self, next: Validated) {
        let better = self.best.as_ref().is_none_or(|best| {
            next.score > best.score || (next.score >= best.score && next.round < best.round)
        });
        if better {
            self.best = Some(next);
        }
    }

    /// Freezes the best checkpoint.
    fn select(&self, existing: &Existing, training: &Training, step: &mut Step) {
        let Some(best) = self.best.clone() else {
            let reason = format!("no checkpoint of the {} could be validated", self.model.name());
            step.outcome = Outcome::Blocked(reason);
            return;
        };
        let absent = self.absent.iter().map(|(_, _, id)| id).filter(|id| existing.failure(id).is_some());
        let unvalidated = self.unvalidated.values().map(|(id, _)| id);
        let selected = ModelSelected {
            training: self.names().training.clone(),
            round: best.round,
            checkpoint: best.checkpoint,
            score: best.score,
            metrics: best.metrics,
            history: self.history.clone(),
            quorum: training.quorum_below_all(),
            given_up: absent.chain(unvalidated).cloned().collect(),
            selection: Some(self.names().selection.clone()),
            started_from: self.names().parent.clone(),
        };
        let detail = serde_json::to_value(&selected).expect("a selection has string keys");
        let id = self.names().selection.clone();
        step.freeze.push(Freeze { id, decision: "model-selected", detail });
    }
}

/// What a finished training went on without, one line each.
fn given_up(existing: &Existing, model: Model, selected: &ModelSelected) -> Vec<String> {
    let failure = |id: &String| {
        let failure = existing.failure(id).filter(|failure| failure.is_problem())?;
        Some((id.clone(), failure.last_reason().to_owned()))
    };
    let line = |(id, reason)| format!("task `{id}` of the training of the {} failed: {reason}", model.name());
    selected.given_up.iter().filter_map(failure).map(line).collect()
}
