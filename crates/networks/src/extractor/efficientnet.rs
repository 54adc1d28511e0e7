//! EfficientNet-Lite0: the EfficientNet-B0 of small devices, with `ReLU6` and without squeeze-and-excitation.
//!
//! Source: `efficientnet_lite_builder.py` of TensorFlow's TPU models; tensor names of the PyTorch port.

use tch::Tensor;

use super::weights::{Extents, Folded, Weights};
use crate::Result;

const EPSILON: f64 = 1e-3;

/// (repeats, kernel, stride of the first, expansion, inputs, outputs) of each stage.
const STAGES: [(i64, i64, i64, i64, i64, i64); 7] = [
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
];

#[derive(Debug)]
pub(super) struct EfficientNetLite0 {
    stem: Folded,
    blocks: Vec<Block>,
    head: Folded,
}

/// Inverted bottleneck: widen, convolve every channel by itself, narrow.
#[derive(Debug)]
struct Block {
    expand: Option<Folded>,
    depthwise: Folded,
    project: Folded,
    has_shortcut: bool,
}

impl EfficientNetLite0 {
    pub(super) fn new(weights: &mut Weights) -> Result<Self> {
        let extents =
            |inputs, outputs, kernel, stride, groups| Extents { inputs, outputs, kernel, stride, groups };
        let stem = weights.folded("_conv_stem", "_bn0", extents(3, 32, 3, 2, 1), EPSILON)?;
        let mut blocks = Vec::new();
        for (repeats, kernel, first_stride, expansion, first_inputs, outputs) in STAGES {
            for repeat in 0..repeats {
                let (inputs, stride) = if repeat == 0 { (first_inputs, first_stride) } else { (outputs, 1) };
                let wide = inputs * expansion;
                let name = |part: &str| format!("_blocks.{}.{part}", blocks.len());
                let mut layer = |convolution: &str, norm: &str, extents| {
                    weights.folded(&name(convolution), &name(norm), extents, EPSILON)
                };
                let expand = match expansion {
                    1 => None,
                    _ => Some(layer("_expand_conv", "_bn0", extents(inputs, wide, 1, 1, 1))?),
                };
                let block = Block {
                    expand,
                    depthwise: layer("_depthwise_conv", "_bn1", extents(1, wide, kernel, stride, wide))?,
                    project: layer("_project_conv", "_bn2", extents(wide, outputs, 1, 1, 1))?,
                    has_shortcut: stride == 1 && inputs == outputs,
                };
                blocks.push(block);
            }
        }
        let head = weights.folded("_conv_head", "_bn1", extents(320, 1280, 1, 1, 1), EPSILON)?;
        Ok(Self { stem, blocks, head })
    }

    /// Normalised (n, 3, s, s) → (n, 1280).
    pub(super) fn forward(&self, images: &Tensor) -> Result<Tensor> {
        let mut features = self.stem.forward_same(images)?.f_relu6()?;
        for block in &self.blocks {
            let mut inner = match &block.expand {
                Some(expand) => expand.forward(&features)?.f_relu6()?,
                None => features.shallow_clone(),
            };
            inner = block.depthwise.forward_same(&inner)?.f_relu6()?;
            inner = block.project.forward(&inner)?;
            features = if block.has_shortcut { inner.f_add_(&features)? } else { inner };
        }
        let features = self.head.forward(&features)?.f_relu6()?;
        Ok(features.f_mean_dim([2_i64, 3].as_slice(), false, None)?)
    }
}
