//! From the model that a training chose to the one that is published.

use super::{Context, Track};
use crate::ids::content_id;
use crate::model_gate::{GateRules, Judgement, Verdict};
use crate::planner::published::learnt_from;
use crate::planner::refresh::{Trial, rivals, usable};
use crate::planner::{Chosen, Error, Freeze, Gated, ModelSelected, Outcome, Published, Step};
use crate::tasks::Model;

/// The number of the first task of the gate: after the validations of all rounds.
pub(super) const GATE: u32 = 1 << 30;

impl Track {
    /// Settles which model is published: the new one, or, in a refresh, the published one where the new is no match for
    /// it.
    pub(super) fn pass_gate(
        &mut self,
        context: &Context<'_>,
        candidate: &ModelSelected,
        step: &mut Step,
    ) -> Result<(), Error> {
        self.gate.clear();
        let new = self.new_model(context, candidate);
        let Some(refresh) = &context.study.refresh else {
            self.chosen = Some(new);
            return Ok(());
        };
        let published: Vec<&Published> = rivals(context.existing, self.model).collect();
        if published.first().is_some_and(|newest| newest.sha256 == candidate.checkpoint.sha256) {
            self.chosen = Some(new);
            return Ok(());
        }
        let tolerance = match self.model {
            Model::Generator => refresh.generator_tolerance,
            Model::Predictor => refresh.predictor_tolerance,
        };
        let rules = GateRules { tolerance, confidence: refresh.confidence };
        let opponents: Vec<&str> = published.iter().map(|rival| rival.sha256.as_str()).collect();
        let basis = (&candidate.training, &candidate.checkpoint.sha256, opponents, rules);
        let id = content_id("model-gate", 1, &basis);
        if let Some(judgement) = context.existing.frozen::<Judgement>(&id, "model gate")? {
            match self.judged(context, new, published.first().copied(), judgement) {
                Ok(chosen) => self.chosen = Some(chosen),
                Err(reason) => step.outcome = Outcome::Blocked(reason),
            }
            return Ok(());
        }
        let trial = Trial {
            study: context.study,
            existing: context.existing,
            model: self.model,
            training_set: context.training_set,
            candidate,
            rules,
            id: &id,
        };
        match trial.judge()? {
            Ok(judgement) => {
                let detail = serde_json::to_value(judgement).expect("a judgement has string keys");
                step.freeze.push(Freeze { id, decision: "model-gate", detail });
            }
            Err(open) => {
                self.gate = open.into_iter().map(|task| (task.id(), task)).collect();
                self.open.extend((0..self.gate.len() as u32).map(|number| GATE + number));
            }
        }
        Ok(())
    }

    fn new_model(&self, context: &Context<'_>, candidate: &ModelSelected) -> Chosen {
        let mut learnt = learnt_from(context.study, context.existing.imports());
        for (source, classes) in candidate.started_from.iter().flat_map(|parent| &parent.learnt) {
            learnt.entry(source.clone()).or_default().extend(classes.iter().cloned());
        }
        let settings = context.study.settings(self.model).clone();
        Chosen { selected: candidate.clone(), candidate: candidate.clone(), settings, learnt, gate: None }
    }

    /// The frozen judgement carried out, or why it cannot be.
    fn judged(
        &self,
        context: &Context<'_>,
        new: Chosen,
        newest: Option<&Published>,
        judgement: Judgement,
    ) -> Result<Chosen, String> {
        if judgement.verdict == Verdict::Accepted {
            return Ok(Chosen { gate: Some(Gated { judgement, kept: None }), ..new });
        }
        let newest = newest.ok_or("a model was rejected though none is published")?;
        let known = usable(context.study, newest).map_err(|why| {
            format!(
                "the new {} did not pass its gate ({}), and the published one cannot be used any more ({why}); look at \
                 the figures, and `metad2a run` without `--refresh` publishes the new one",
                self.model.name(),
                judgement.reason
            )
        })?;
        Ok(Chosen {
            selected: known.selected.clone(),
            candidate: new.candidate,
            settings: known.settings.clone(),
            learnt: known.learnt.clone(),
            gate: Some(Gated { judgement, kept: Some(newest.snapshot) }),
        })
    }
}
