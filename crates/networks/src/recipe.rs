//! How a network is trained: the published recipe and its variations.

use serde::{Deserialize, Serialize};

use crate::{Result, error::require};

/// Random changes of the training pictures, drawn anew for every picture and epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    /// Mirror a picture with probability 1/2.
    pub horizontal_flip: bool,
    /// Black pixels added on each side, before a crop of the old size at a random place; 0 for no crop.
    pub crop_padding: i64,
}

/// The numbers that a network computes with. Weights, statistics, loss and updates are always f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// 32 bits everywhere.
    #[default]
    Float32,
    /// Activations, and kernels while they are used, in bfloat16. Faster where the processor or card computes with it;
    /// elsewhere it is emulated, slowly.
    Bfloat16,
}

/// The training recipe of a unit. Two equal recipes give equal numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Passes over the training pictures, at least 1.
    pub epochs: u32,
    /// Pictures per step, at least 1. The last step of an epoch takes what is left.
    pub batch_size: i64,
    /// Rate of the first epoch; it falls to 0 along a cosine, per epoch.
    pub learning_rate: f64,
    /// Momentum of SGD, in `[0, 1)`.
    pub momentum: f64,
    /// Nesterov's form of momentum.
    pub nesterov: bool,
    /// L2 penalty on *all* parameters, those of batch norms and biases too.
    pub weight_decay: f64,
    /// Channels of the first stage; the others have two and four times as many.
    pub channels: i64,
    /// Cells in each of the three stages.
    pub cells_per_stage: i64,
    /// Edge of the square pictures in pixels: a multiple of 4, at least 8.
    pub image_size: i64,
    /// Random changes of the training pictures.
    pub augmentation: Augmentation,
    /// What the network computes with.
    pub precision: Precision,
    /// Validate after every so many epochs; 0 validates after the last only, which always happens.
    pub validate_every: u32,
    /// Validate after these epochs too, counted from 1. It adds figures to their rows and changes no other number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub validate_after: Vec<u32>,
}

impl Recipe {
    /// The recipe of the benchmark (its 200 epochs at 32 × 32 pixels), with the reference's network size.
    pub fn nas_bench_201() -> Self {
        Self {
            epochs: 200,
            batch_size: 256,
            learning_rate: 0.1,
            momentum: 0.9,
            nesterov: true,
            weight_decay: 5e-4,
            channels: 16,
            cells_per_stage: 5,
            image_size: 32,
            augmentation: Augmentation { horizontal_flip: true, crop_padding: 4 },
            precision: Precision::Float32,
            validate_every: 1,
            validate_after: Vec::new(),
        }
    }

    /// Checks every rule stated at the fields; the first broken one is the error.
    pub fn validate(&self) -> Result<()> {
        require(self.epochs >= 1, "epochs", "at least 1", self.epochs)?;
        require(self.batch_size >= 1, "batch_size", "at least 1", self.batch_size)?;
        require(
            self.learning_rate.is_finite() && self.learning_rate > 0.0,
            "learning_rate",
            "a number above 0",
            self.learning_rate,
        )?;
        require((0.0..1.0).contains(&self.momentum), "momentum", "in [0, 1)", self.momentum)?;
        require(
            !self.nesterov || self.momentum > 0.0,
            "momentum",
            "above 0 where `nesterov` is true",
            self.momentum,
        )?;
        require(
            self.weight_decay.is_finite() && self.weight_decay >= 0.0,
            "weight_decay",
            "a number of at least 0",
            self.weight_decay,
        )?;
        require((1..=1024).contains(&self.channels), "channels", "between 1 and 1024", self.channels)?;
        require(
            (1..=64).contains(&self.cells_per_stage),
            "cells_per_stage",
            "between 1 and 64",
            self.cells_per_stage,
        )?;
        check_image_size(self.image_size)?;
        require(
            (0..self.image_size).contains(&self.augmentation.crop_padding),
            "augmentation.crop_padding",
            format!("at least 0 and below `image_size` ({})", self.image_size),
            self.augmentation.crop_padding,
        )
    }

    /// The rate of an epoch (0-based): `learning_rate · (1 + cos(π epoch / epochs)) / 2`, constant inside the epoch.
    pub fn learning_rate_at(&self, epoch: u32) -> f64 {
        let progress = f64::from(epoch) / f64::from(self.epochs);
        self.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
    }
}

/// Two halvings must be exact, and batch norm needs more than one value per channel even for a single picture.
pub(crate) fn check_image_size(size: i64) -> Result<()> {
    require(
        (8..=1024).contains(&size) && size % 4 == 0,
        "image_size",
        "a multiple of 4 between 8 and 1024",
        size,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_published_recipe_is_valid_and_its_rate_is_the_published_cosine() {
        let recipe = Recipe::nas_bench_201();
        recipe.validate().unwrap();
        // lr_e = 0.05 (1 + cos(π e / 200))
        for (epoch, rate) in [(0, 0.1), (50, 0.085_355_339), (100, 0.05), (199, 6.168_375e-6)] {
            assert!((recipe.learning_rate_at(epoch) - rate).abs() < 1e-9, "epoch {epoch}");
        }
    }

    #[test]
    fn a_broken_rule_is_named_with_its_value() {
        let recipe = Recipe { image_size: 30, ..Recipe::nas_bench_201() };
        assert_eq!(
            recipe.validate().unwrap_err().to_string(),
            "`image_size` must be a multiple of 4 between 8 and 1024, got `30`"
        );
        for broken in [
            Recipe { epochs: 0, ..Recipe::nas_bench_201() },
            Recipe { batch_size: 0, ..Recipe::nas_bench_201() },
            Recipe { learning_rate: f64::NAN, ..Recipe::nas_bench_201() },
            Recipe { momentum: 1.0, ..Recipe::nas_bench_201() },
            Recipe { momentum: 0.0, ..Recipe::nas_bench_201() },
            Recipe { weight_decay: -1.0, ..Recipe::nas_bench_201() },
            Recipe { channels: 0, ..Recipe::nas_bench_201() },
            Recipe { cells_per_stage: 0, ..Recipe::nas_bench_201() },
            Recipe {
                augmentation: Augmentation { horizontal_flip: true, crop_padding: 32 },
                ..Recipe::nas_bench_201()
            },
        ] {
            assert!(broken.validate().is_err(), "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn the_rate_falls_from_epoch_to_epoch_and_stays_positive(epochs in 1_u32..300) {
            let recipe = Recipe { epochs, ..Recipe::nas_bench_201() };
            let rates: Vec<f64> = (0..epochs).map(|epoch| recipe.learning_rate_at(epoch)).collect();
            prop_assert!(rates.windows(2).all(|pair| pair[1] < pair[0]));
            prop_assert!(rates.iter().all(|rate| *rate > 0.0 && *rate <= recipe.learning_rate));
        }
    }
}
