//! A paused training as safetensors: weights, running statistics and the optimiser's velocity, and in the metadata, as
//! JSON, the place, the sums of the phase so far and the curves.
//!
//! Random numbers need no state: they are keyed by unit, purpose and epoch, and an epoch's draws are made again from
//! its key. Everything is checked before it is used: a checkpoint that does not fit is an error, never a wrong number.

use metad2a_search_space::Cell;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::figures::{StoredSums, Sums};
use super::{EpochRow, Figures, Phase, Place, Training};
use crate::{Error, PreparedData, Recipe, Result, weights};

/// Raised when the form changes; another version's checkpoints are refused.
const VERSION: u32 = 1;
const VELOCITY: &str = "velocity";
const NETWORK: &str = "network.";

/// What the metadata key `metad2a` holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    version: u32,
    basis: Basis,
    place: Place,
    sums: StoredSums,
    trained: Option<Figures>,
    /// Of the epoch so far.
    seconds: f64,
    train_seconds: f64,
    curves: Vec<EpochRow>,
}

/// What the training is of. A checkpoint of any other is refused.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Basis {
    unit_id: String,
    cell: Cell,
    recipe: Recipe,
    classes: i64,
    /// Of the three splits.
    pictures: [i64; 3],
}

impl<'a> Training<'a> {
    /// Everything that the rest of the training depends on, as safetensors bytes.
    pub fn to_checkpoint(&self) -> Result<Vec<u8>> {
        let state = State {
            version: VERSION,
            basis: self.basis(),
            place: self.place,
            sums: self.sums.stored()?,
            trained: self.trained,
            seconds: self.seconds,
            train_seconds: self.unit.train_seconds,
            curves: self.unit.curves.clone(),
        };
        let state = serde_json::to_string(&state).map_err(|error| self.misfit(&error))?;
        let network = self.unit.network.parameters().iter().chain(self.unit.network.statistics());
        let mut tensors: Vec<weights::Named> =
            network.map(|(name, tensor)| (format!("{NETWORK}{name}"), tensor.shallow_clone())).collect();
        tensors.push((VELOCITY.to_owned(), self.optimizer.velocity().shallow_clone()));
        weights::encode(&tensors, state)
    }

    /// A training that goes on where [`Training::to_checkpoint`] was called, with the same arguments as
    /// [`Training::new`]. Whatever does not fit is [`Error::Checkpoint`].
    pub fn resume(
        cell: Cell,
        recipe: &Recipe,
        data: &'a PreparedData,
        unit_id: &str,
        checkpoint: &[u8],
    ) -> Result<Self> {
        let mut training = Self::new(cell, recipe, data, unit_id)?;
        let state = training.read_state(checkpoint)?;
        training.take_tensors(checkpoint)?;
        training.place = state.place;
        training.sums = Sums::restored(state.sums, data.device())?;
        training.trained = state.trained;
        training.seconds = state.seconds;
        training.unit.train_seconds = state.train_seconds;
        if let Some(row) = state.curves.last() {
            let figures = |loss, accuracy| Figures { loss, accuracy };
            training.unit.train = Some(figures(row.train_loss, row.train_accuracy));
            training.unit.valid =
                row.valid_loss.zip(row.valid_accuracy).map(|(loss, accuracy)| figures(loss, accuracy));
        }
        training.unit.curves = state.curves;
        Ok(training)
    }

    fn basis(&self) -> Basis {
        let count = |split: &Option<crate::pictures::Prepared>| {
            split.as_ref().map_or(0, crate::pictures::Prepared::count)
        };
        Basis {
            unit_id: self.unit_id.clone(),
            cell: self.unit.network.cell(),
            recipe: self.recipe.clone(),
            classes: self.data.classes(),
            pictures: [self.source.count(), count(&self.data.valid), count(&self.data.test)],
        }
    }

    fn misfit(&self, reason: &dyn std::fmt::Display) -> Error {
        Error::Checkpoint { unit_id: self.unit_id.clone(), reason: reason.to_string() }
    }

    fn read_state(&self, checkpoint: &[u8]) -> Result<State> {
        let (_, metadata) = SafeTensors::read_metadata(checkpoint).map_err(|error| self.misfit(&error))?;
        let text = metadata.metadata().as_ref().and_then(|entries| entries.get("metad2a"));
        let text = text.ok_or_else(|| self.misfit(&"it holds no state of a training"))?;
        let state: State = serde_json::from_str(text).map_err(|error| self.misfit(&error))?;
        if state.version != VERSION {
            let reason = format!("it has form {}, this program knows {VERSION}", state.version);
            return Err(self.misfit(&reason));
        }
        let basis = self.basis();
        if state.basis != basis {
            return Err(self.misfit(&format!("it is of {:?}, not of {basis:?}", state.basis)));
        }
        if self.is_possible(&state) {
            Ok(state)
        } else {
            let (place, rows) = (state.place, state.curves.len());
            Err(self.misfit(&format!("no training is at {place:?} after {rows} epochs")))
        }
    }

    /// Whether a training of this recipe and these pictures passes through the place.
    fn is_possible(&self, state: &State) -> bool {
        let Place { epoch, phase, done } = state.place;
        let [train, valid, test] = self.basis().pictures;
        let (count, rows) = match phase {
            Phase::Train => (train, epoch),
            Phase::Valid => (valid, epoch),
            Phase::Test => (test, self.recipe.epochs),
        };
        let is_last = epoch + 1 == self.recipe.epochs;
        epoch < self.recipe.epochs
            && (0..count).contains(&done)
            && state.curves.len() == rows as usize
            && state.trained.is_some() == (phase == Phase::Valid)
            && (phase != Phase::Test || is_last)
    }

    fn take_tensors(&mut self, checkpoint: &[u8]) -> Result<()> {
        let origin = "checkpoint of a training";
        let refused = |training: &Self, error: Error| match error {
            Error::Format { source, .. } => training.misfit(&source),
            Error::Weights { problems, .. } => training.misfit(&problems.join("; ")),
            other => other,
        };
        let tensors = weights::decode(checkpoint, origin).map_err(|error| refused(self, error))?;
        let (velocity, network): (Vec<_>, Vec<_>) =
            tensors.into_iter().partition(|(name, _)| name == VELOCITY);
        let network: Vec<weights::Named> = network
            .into_iter()
            .map(|(name, tensor)| (name.strip_prefix(NETWORK).unwrap_or(&name).to_owned(), tensor))
            .collect();
        let fits = match velocity.first() {
            Some((_, velocity)) => self.optimizer.set_velocity(velocity)?,
            None => false,
        };
        if !fits {
            return Err(self.misfit(&"its `velocity` is missing or of another size"));
        }
        self.unit.network.assign(&network, origin).map_err(|error| refused(self, error))
    }
}
