//! Meta-training by rounds: shards → outer step → checkpoint → validation → the chosen model.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Error, Freeze, Merge, Outcome, Planner, Stage};
use crate::ids::content_id;
use crate::specification::Training;
use crate::tasks::{Blob, Model, Summary, Task, TrainEpisodes, Validate};
use crate::training_set::TrainingSet;

/// What a finished shard gave.
#[derive(Debug, Clone, PartialEq)]
pub struct ShardResult {
    pub task: String,
    pub start: Blob,
    pub parameters: Blob,
    pub optimiser: Blob,
    pub loss: f64,
}

/// The frozen end of a round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundClosed {
    /// Ids of the shards' tasks, in shard order.
    pub shards: Vec<String>,
    pub checkpoint: Blob,
    /// Absent where the outer step has no momentum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum: Option<Blob>,
    /// Each shard's optimiser state, in shard order.
    pub optimisers: Vec<Blob>,
    /// Mean loss over the shards.
    pub loss: f64,
}

/// The frozen choice of a training's best checkpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelSelected {
    pub training: String,
    /// The round whose checkpoint it is, from 0.
    pub round: u32,
    pub checkpoint: Blob,
    /// The validation's score; higher is better.
    pub score: f64,
    pub metrics: BTreeMap<String, f64>,
    /// Every round's loss and every validation's metrics: the learning curve.
    pub history: Vec<RoundMetrics>,
}

/// One round of a learning curve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundMetrics {
    pub round: u32,
    pub loss: f64,
    /// Empty where the round was not validated.
    pub validation: BTreeMap<String, f64>,
}

/// The id of a training, however many rounds it has: more rounds of the same training go on from the last.
pub fn training_id(model: Model, training: &Training, training_set: &str, seed: u64) -> String {
    let shape = (training.shards, training.steps_per_round, training.outer);
    content_id("training", 1, &(model, &training.settings, training_set, seed, shape))
}

/// A validated checkpoint.
struct Validated {
    round: u32,
    checkpoint: Blob,
    score: f64,
    metrics: BTreeMap<String, f64>,
}

impl Planner<'_> {
    /// Plans the training of one model; the chosen checkpoint once it is frozen.
    pub(super) fn train(
        &mut self,
        model: Model,
        training_set: &TrainingSet,
    ) -> Result<Option<ModelSelected>, Error> {
        let specification = &self.study.specification;
        let (stage, training) = match model {
            Model::Generator => (Stage::Generator, &specification.generator),
            Model::Predictor => (Stage::Predictor, &specification.predictor),
        };
        let set = training_set.id();
        let id = training_id(model, training, &set, specification.seed);
        let selection = content_id("model-selection", 1, &(&id, training.rounds, training.validate_every));
        if let Some(selected) = self.existing.frozen::<ModelSelected>(&selection, "selected model")? {
            self.count(stage).done = training.rounds.into();
            return Ok(Some(selected));
        }
        let mut history = Vec::new();
        let mut validated = Vec::new();
        let mut open = false;
        let mut last: Option<RoundClosed> = None;
        for round in 0..training.rounds {
            let decision = content_id("round", 1, &(&id, round));
            let Some(closed) = self.existing.frozen::<RoundClosed>(&decision, "closed round")? else {
                self.plan_round(model, training, &set, round, last.as_ref(), decision)?;
                open = true;
                break;
            };
            self.count(stage).done += 1;
            let mut metrics = RoundMetrics { round, loss: closed.loss, validation: BTreeMap::new() };
            if (round + 1) % training.validate_every == 0 || round + 1 == training.rounds {
                let validate = Task::Validate(Validate {
                    model,
                    settings: training.settings.clone(),
                    training_set: set.clone(),
                    seed: specification.seed,
                    checkpoint: closed.checkpoint.clone(),
                });
                match self.validation(validate, round, &closed)? {
                    Validation::Done(result) => {
                        metrics.validation.clone_from(&result.metrics);
                        validated.push(result);
                    }
                    Validation::Open => open = true,
                    Validation::Failed => {}
                }
            }
            history.push(metrics);
            last = Some(closed);
        }
        if !open {
            self.select(model, id, selection, validated, history);
        }
        Ok(None)
    }

    /// Enqueues the missing shards of the first round that is not closed, or asks for its outer step.
    fn plan_round(
        &mut self,
        model: Model,
        training: &Training,
        training_set: &str,
        round: u32,
        before: Option<&RoundClosed>,
        decision: String,
    ) -> Result<(), Error> {
        let mut shards = Vec::new();
        for shard in 0..training.shards {
            let task = Task::TrainEpisodes(TrainEpisodes {
                model,
                settings: training.settings.clone(),
                training_set: training_set.to_owned(),
                seed: self.study.specification.seed,
                round,
                shard,
                steps: training.steps_per_round,
                base: before.map(|closed| closed.checkpoint.clone()),
                optimiser: before.map(|closed| closed.optimisers[shard as usize].clone()),
            });
            let id = task.id();
            match self.existing.done(&id).map(|done| &done.summary) {
                Some(Summary::Shard { start, parameters, optimiser, loss }) => shards.push(ShardResult {
                    task: id,
                    start: start.clone(),
                    parameters: parameters.clone(),
                    optimiser: optimiser.clone(),
                    loss: *loss,
                }),
                Some(_) => return Err(Error::Summary { id, expected: "train-episodes" }),
                None => match self.existing.failure(&id) {
                    Some(failure) => {
                        let reason = format!(
                            "shard {shard} of round {round} of the {} failed: {}",
                            model.name(),
                            failure.last_reason()
                        );
                        self.plan.problems.push(reason.clone());
                        self.plan.outcome = Outcome::Blocked(reason);
                    }
                    None => self.plan.enqueue.push(task),
                },
            }
        }
        if shards.len() == training.shards as usize {
            let momentum = before.and_then(|closed| closed.momentum.clone());
            self.plan.merge.push(Merge {
                id: decision,
                model,
                round,
                shards,
                momentum,
                outer: training.outer,
            });
        }
        Ok(())
    }

    fn validation(&mut self, task: Task, round: u32, closed: &RoundClosed) -> Result<Validation, Error> {
        let id = task.id();
        match self.existing.done(&id).map(|done| &done.summary) {
            Some(Summary::Validation { score, metrics }) => Ok(Validation::Done(Validated {
                round,
                checkpoint: closed.checkpoint.clone(),
                score: *score,
                metrics: metrics.clone(),
            })),
            Some(_) => Err(Error::Summary { id, expected: "validate" }),
            None => {
                if let Some(failure) = self.existing.failure(&id) {
                    let line = format!("validation of round {round} failed: {}", failure.last_reason());
                    self.plan.problems.push(line);
                    return Ok(Validation::Failed);
                }
                self.plan.enqueue.push(task);
                Ok(Validation::Open)
            }
        }
    }

    /// Freezes the checkpoint with the highest score, the earliest of equals.
    fn select(
        &mut self,
        model: Model,
        training: String,
        selection: String,
        validated: Vec<Validated>,
        history: Vec<RoundMetrics>,
    ) {
        let better = |best: Validated, next: Validated| if next.score > best.score { next } else { best };
        let Some(best) = validated.into_iter().reduce(better) else {
            let reason = format!("no checkpoint of the {} could be validated", model.name());
            self.plan.outcome = Outcome::Blocked(reason);
            return;
        };
        let selected = ModelSelected {
            training,
            round: best.round,
            checkpoint: best.checkpoint,
            score: best.score,
            metrics: best.metrics,
            history,
        };
        let detail = serde_json::to_value(&selected).expect("a selection has string keys");
        self.plan.freeze.push(Freeze { id: selection, decision: "model-selected", detail });
    }
}

enum Validation {
    Done(Validated),
    Open,
    Failed,
}
