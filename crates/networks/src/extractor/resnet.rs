//! ResNet-18 without its classifier, as torchvision defines and names it.

use tch::Tensor;

use super::weights::{Extents, Folded, Weights};
use crate::Result;

const EPSILON: f64 = 1e-5;

#[derive(Debug)]
pub(super) struct ResNet18 {
    stem: Folded,
    blocks: Vec<Block>,
}

#[derive(Debug)]
struct Block {
    first: Folded,
    second: Folded,
    downsample: Option<Folded>,
}

impl ResNet18 {
    pub(super) fn new(weights: &mut Weights) -> Result<Self> {
        let extents =
            |inputs, outputs, kernel, stride| Extents { inputs, outputs, kernel, stride, groups: 1 };
        let stem = weights.folded("conv1", "bn1", extents(3, 64, 7, 2), EPSILON)?;
        let mut blocks = Vec::new();
        let mut inputs = 64;
        for (layer, outputs) in [(1, 64), (2, 128), (3, 256), (4, 512)] {
            for repeat in 0..2 {
                let stride = if inputs == outputs { 1 } else { 2 };
                let name = |part: &str| format!("layer{layer}.{repeat}.{part}");
                let mut folded = |convolution: &str, norm: &str, extents| {
                    weights.folded(&name(convolution), &name(norm), extents, EPSILON)
                };
                blocks.push(Block {
                    first: folded("conv1", "bn1", extents(inputs, outputs, 3, stride))?,
                    second: folded("conv2", "bn2", extents(outputs, outputs, 3, 1))?,
                    downsample: match stride {
                        1 => None,
                        _ => Some(folded("downsample.0", "downsample.1", extents(inputs, outputs, 1, 2))?),
                    },
                });
                inputs = outputs;
            }
        }
        Ok(Self { stem, blocks })
    }

    /// Normalised (n, 3, s, s) → (n, 512).
    pub(super) fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let stem = self.stem.forward(images)?.f_relu()?;
        let mut features = stem.f_max_pool2d([3, 3], [2, 2], [1, 1], [1, 1], false)?;
        for block in &self.blocks {
            let inner = block.first.forward(&features)?.f_relu()?;
            let shortcut = match &block.downsample {
                Some(downsample) => downsample.forward(&features)?,
                None => features,
            };
            features = block.second.forward(&inner)?.f_add_(&shortcut)?.f_relu()?;
        }
        Ok(features.f_mean_dim([2_i64, 3].as_slice(), false, None)?)
    }
}
