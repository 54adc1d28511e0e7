//! How a network is built and trained.

use serde::{Deserialize, Serialize};

use crate::halving::Halving;
use crate::ids::content_id;

/// Random changes of the training pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    pub horizontal_flip: bool,
    /// Zero padding before the random crop, in pixels; 0 for no crop.
    pub crop_padding: u32,
}

/// What a network computes with; weights, losses and updates are always float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    #[default]
    Float32,
    Bfloat16,
}

impl Precision {
    /// The name in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "float32",
            Self::Bfloat16 => "bfloat16",
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// How a network is built and trained (NAS-Bench-201, `spec`: SGD with Nesterov momentum, cosine per epoch).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recipe {
    pub epochs: u32,
    pub batch_size: u32,
    pub learning_rate: f64,
    pub momentum: f64,
    pub nesterov: bool,
    pub weight_decay: f64,
    /// Channels of the first stage (C).
    pub channels: u32,
    /// Cells per stage (N).
    pub cells_per_stage: u32,
    /// Side of the square picture that the network sees, in pixels.
    pub image_size: u32,
    pub augmentation: Augmentation,
    /// Left out of ids where it is float32, so that they are those from before there was a choice.
    #[serde(default, skip_serializing_if = "Precision::is_usual")]
    pub precision: Precision,
    /// Whether the worse units of a bundle are stopped early; left out of ids where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halving: Option<Halving>,
}

impl Recipe {
    /// Stable name of the recipe's content in every table.
    pub fn id(&self) -> String {
        content_id("recipe", 1, self)
    }

    /// The published recipe of 200 epochs (`spec`, section 6).
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
            halving: None,
        }
    }

    /// The published recipe of 12 epochs, with a cosine of its own.
    pub fn nas_bench_201_12() -> Self {
        Self { epochs: 12, ..Self::nas_bench_201() }
    }

    /// Seconds of a processor core: a small network on about 500 small pictures, for so many epochs that its training loss
    /// tells cells apart. Of the recipes that `scripts/experiments/gate.sh` tried the one whose losses order cells most
    /// like the published accuracies.
    pub fn small_budget() -> Self {
        Self {
            epochs: 120,
            batch_size: 64,
            channels: 8,
            cells_per_stage: 1,
            image_size: 16,
            augmentation: Augmentation { horizontal_flip: true, crop_padding: 2 },
            ..Self::nas_bench_201()
        }
    }
}
