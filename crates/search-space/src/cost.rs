//! Parameters and multiply-adds of a cell's network, as the benchmark counts them.
//!
//! The benchmark builds every edge of a cell, also one that cannot influence the output, and counts it: so do we. The
//! network has a stem, three stages of cells at C, 2C and 4C channels with a residual block of stride 2 between them,
//! and a head.

use crate::cell::Cell;
use crate::operation::Operation;

/// The sizes of the network that is built from a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MacroShape {
    /// Channels of the first stage (16 in the benchmark).
    pub channels: u64,
    /// Cells in each of the three stages (5 in the benchmark).
    pub cells_per_stage: u64,
    /// Height and width of the pictures in pixels; the networks need a multiple of 4 (32 in the benchmark, 16 for
    /// ImageNet16-120).
    pub image_size: u64,
    /// Classes to tell apart.
    pub classes: u64,
}

impl MacroShape {
    /// The benchmark's network.
    pub const fn nas_bench_201(image_size: u64, classes: u64) -> Self {
        Self { channels: 16, cells_per_stage: 5, image_size, classes }
    }

    /// (channels, height and width in pixels) of the three stages.
    fn stages(self) -> [(u64, u64); 3] {
        let half = self.image_size.div_ceil(2);
        [
            (self.channels, self.image_size),
            (self.channels.saturating_mul(2), half),
            (self.channels.saturating_mul(4), half.div_ceil(2)),
        ]
    }
}

/// One convolution: its sizes, the pixels of its result, and whether batch normalisation follows.
struct Convolution {
    kernel: u64,
    channels_in: u64,
    channels_out: u64,
    size_out: u64,
    normalised: bool,
}

impl Convolution {
    fn weights(&self) -> u64 {
        product(&[self.kernel, self.kernel, self.channels_in, self.channels_out])
    }

    fn parameters(&self) -> u64 {
        // Batch normalisation has a scale and a bias per channel; the convolution itself has no bias.
        let normalisation = if self.normalised { product(&[2, self.channels_out]) } else { 0 };
        self.weights().saturating_add(normalisation)
    }

    fn multiply_adds(&self) -> u64 {
        product(&[self.weights(), self.size_out, self.size_out])
    }
}

/// The network's convolutions, each with how often it occurs.
fn convolutions(cell: Cell, shape: MacroShape) -> Vec<(u64, Convolution)> {
    let stages = shape.stages();
    let stem = Convolution {
        kernel: 3,
        channels_in: 3,
        channels_out: shape.channels,
        size_out: shape.image_size,
        normalised: true,
    };
    let mut all = vec![(1, stem)];
    for (channels, size_out) in stages {
        for operation in cell.operations() {
            let kernel = match operation {
                Operation::NorConv1x1 => 1,
                Operation::NorConv3x3 => 3,
                Operation::None | Operation::SkipConnect | Operation::AvgPool3x3 => continue,
            };
            let edge = Convolution {
                kernel,
                channels_in: channels,
                channels_out: channels,
                size_out,
                normalised: true,
            };
            all.push((shape.cells_per_stage, edge));
        }
    }
    for pair in stages.windows(2) {
        let ((channels_in, _), (channels_out, size_out)) = (pair[0], pair[1]);
        let first = Convolution { kernel: 3, channels_in, channels_out, size_out, normalised: true };
        let second = Convolution { channels_in: channels_out, ..first };
        let shortcut = Convolution { kernel: 1, normalised: false, ..first };
        all.extend([first, second, shortcut].map(|convolution| (1, convolution)));
    }
    all
}

/// The number of parameters of the cell's network: convolutions, batch normalisations (scale and bias) and classifier.
/// A count beyond `u64` reads as `u64::MAX`.
pub fn parameters(cell: Cell, shape: MacroShape) -> u64 {
    let width = shape.stages()[2].0;
    // The last normalisation, and a classifier with bias.
    let head = product(&[2, width]).saturating_add(classifier(width, shape.classes));
    convolutions(cell, shape)
        .iter()
        .map(|(times, convolution)| product(&[*times, convolution.parameters()]))
        .fold(head, u64::saturating_add)
}

/// The multiply-adds of one picture through the cell's network, as published under the name FLOPs: convolutions, the
/// classifier and its bias; normalisation, pooling and sums are not counted. A count beyond `u64` reads as `u64::MAX`.
pub fn flops(cell: Cell, shape: MacroShape) -> u64 {
    let head = classifier(shape.stages()[2].0, shape.classes);
    convolutions(cell, shape)
        .iter()
        .map(|(times, convolution)| product(&[*times, convolution.multiply_adds()]))
        .fold(head, u64::saturating_add)
}

/// Weights and biases of the classifier; as many multiply-adds.
fn classifier(width: u64, classes: u64) -> u64 {
    product(&[width.saturating_add(1), classes])
}

fn product(factors: &[u64]) -> u64 {
    factors.iter().fold(1, |product, factor| product.saturating_mul(*factor))
}
