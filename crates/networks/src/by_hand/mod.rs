//! A step of training without autograd, for processors: forward and backward pass written out.
//!
//! ```text
//!   images ─► stem ─► block … ─► last norm ─► features ─► classifier, loss (autograd)
//!                                                 │
//!   gradients of all parameters ◄─ block … ◄──────┘
//! ```
//!
//! Half of a step of autograd goes into passes over memory: a batch norm alone reads its input three times forward and
//! twice backward, then the sum of the edges and the rectifier read and write everything again. Here one pass takes the
//! moments of a convolution's output, and one more normalises all edges into a node, sums and rectifies them; backward it
//! is one pass for the sums and one for the gradients of the convolutions' outputs. Convolutions stay libtorch's.
//!
//! Feature maps are stored channels last, in f32, bfloat16, or (for tests) f64; sums are those of f32 or f64. One thread
//! only: where a process has more, libtorch's own operations share the work among them.

mod cell;
mod convolution;
mod loops;
mod maps;
mod node;
mod norm;
mod parameters;
mod pool;
mod reduction;
#[cfg(test)]
mod tests;
mod vector;

use half::bf16;
use tch::{Device, Kind, Tensor};

use self::cell::{CellPass, normed};
use self::convolution::{Steps, convolution_backward};
use self::maps::{Extents, dense};
use self::node::{Gradient, Node, Wanted};
use self::parameters::ParameterGradients;
use self::reduction::{ReductionPass, convolved};
use self::vector::Element;
use crate::{
    Network, Precision, Result, Step,
    blocks::Block,
    layers::{channels_last, cross_entropy},
};

/// Everything up to the features.
struct Pass<'a> {
    images: Tensor,
    stem: Node,
    blocks: Vec<BlockPass<'a>>,
    last: Node,
    /// The last norm's output.
    extents: Extents,
}

enum BlockPass<'a> {
    Cell(CellPass<'a>),
    Reduction(ReductionPass<'a>),
}

/// Which forms of its input a block reads.
fn reads(block: &Block) -> Wanted {
    match block {
        Block::Cell(cell) => cell::reads(cell, 0),
        Block::Reduction(_) => reduction::READS,
    }
}

impl Network {
    /// Whether passes by hand are possible here and now.
    pub(crate) fn can_be_computed_by_hand(&self) -> bool {
        self.device() == Device::Cpu && tch::get_num_threads() == 1
    }

    /// Logits (n, classes) of pictures (n, 3, s, s), with the running statistics, by hand.
    pub(crate) fn predict_by_hand(&self, images: &Tensor) -> Result<Tensor> {
        let features = match self.map_kind() {
            Kind::BFloat16 => Pass::features::<bf16>(self, images)?,
            Kind::Double => Pass::features::<f64>(self, images)?,
            _ => Pass::features::<f32>(self, images)?,
        };
        self.classifier.forward(&features)
    }

    /// Loss and gradients of a batch, by hand.
    pub(crate) fn step_by_hand(&self, images: &Tensor, labels: &Tensor) -> Result<Step> {
        match self.map_kind() {
            Kind::BFloat16 => self.step_in::<bf16>(images, labels),
            Kind::Double => self.step_in::<f64>(images, labels),
            _ => self.step_in::<f32>(images, labels),
        }
    }

    /// The kind of feature maps.
    fn map_kind(&self) -> Kind {
        match self.precision {
            Precision::Bfloat16 => Kind::BFloat16,
            Precision::Float32 => self.classifier.kind(),
        }
    }

    fn step_in<E: Element>(&self, images: &Tensor, labels: &Tensor) -> Result<Step> {
        let kind = self.classifier.kind();
        let (pass, features) = {
            let _guard = tch::no_grad_guard();
            Pass::forward::<E>(self, images, true)?
        };
        let features = features.f_set_requires_grad(true)?;
        let logits = self.classifier.forward(&features)?;
        let loss = cross_entropy(&logits, labels)?;
        let [weight, bias] = self.classifier.affine();
        let head = Tensor::f_run_backward(&[&loss], &[&features, weight, bias], false, false)?;
        let [of_features, of_weight, of_bias] = <[Tensor; 3]>::try_from(head).expect("one for each input");
        let _guard = tch::no_grad_guard();
        let mut parameters = ParameterGradients::new(self.parameters().len(), kind);
        parameters.put(self.classifier.place(), of_weight);
        parameters.put(self.classifier.place() + 1, of_bias);
        pass.backward::<E>(self, &of_features, &mut parameters)?;
        Ok(Step {
            logits: logits.f_detach()?,
            loss: loss.f_detach()?,
            gradients: parameters.at(self.places_in_use()),
        })
    }
}

impl<'a> Pass<'a> {
    /// Features (n, c) with the running statistics.
    fn features<E: Element>(network: &'a Network, images: &Tensor) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        Ok(Self::forward::<E>(network, images, false)?.1)
    }

    /// Features (n, c), in the kind of the classifier. Without `train` nothing is kept for a backward pass.
    fn forward<E: Element>(network: &'a Network, images: &Tensor, train: bool) -> Result<(Self, Tensor)> {
        let images = channels_last(images)?.f_to_kind(E::KIND)?;
        let (convolution, norm) = &network.stem;
        let map = convolved::<E>(convolution, &images)?;
        let normed_map = normed::<E>(&map, [norm].into_iter(), train)?;
        let last_wanted = Wanted { value: true, rectified: false };
        let mut wanted = network.blocks.iter().map(reads).chain([last_wanted]);
        let mut next = || wanted.next().expect("one for each block and the last norm");
        let (stem, mut signal) = Node::sum::<E>(Extents::of(&map)?, normed_map, &[], next())?;
        let mut blocks = Vec::new();
        for block in &network.blocks {
            let pass;
            (pass, signal) = match block {
                Block::Cell(cell) => {
                    let (pass, signal) = CellPass::forward::<E>(cell, signal, next(), train)?;
                    (BlockPass::Cell(pass), signal)
                }
                Block::Reduction(block) => {
                    let (pass, signal) = ReductionPass::forward::<E>(block, signal, next(), train)?;
                    (BlockPass::Reduction(pass), signal)
                }
            };
            if train {
                blocks.push(pass);
            }
        }
        let extents = signal.extents;
        let normed_map = normed::<E>(signal.value(), [&network.last_norm].into_iter(), train)?;
        let (last, output) =
            Node::sum::<E>(extents, normed_map, &[], Wanted { value: false, rectified: true })?;
        let kind = network.classifier.kind();
        let features = output.rectified().f_mean_dim([2_i64, 3].as_slice(), false, kind)?;
        Ok((Self { images, stem, blocks, last, extents }, features))
    }

    fn backward<E: Element>(
        self,
        network: &Network,
        of_features: &Tensor,
        parameters: &mut ParameterGradients,
    ) -> Result<()> {
        let Extents { images, channels, height, width } = self.extents;
        let of_pixel = of_features.f_mul_scalar(1.0 / (height * width) as f64)?.f_to_kind(E::KIND)?;
        let of_output =
            of_pixel.f_view([images, channels, 1, 1])?.f_expand([images, channels, height, width], false)?;
        let of_output = Gradient { value: Vec::new(), rectified: vec![dense(of_output)?] };
        let (_, of_map) = norm_backward::<E>(&self.last, &of_output, parameters)?;
        let mut gradient = Gradient { value: vec![of_map], rectified: Vec::new() };
        for block in self.blocks.into_iter().rev() {
            gradient = match block {
                BlockPass::Cell(pass) => pass.backward::<E>(gradient, parameters)?,
                BlockPass::Reduction(pass) => pass.backward::<E>(&gradient, parameters)?,
            };
            if gradient.is_empty() {
                // Nothing that came before matters.
                return Ok(());
            }
        }
        let (_, of_map) = norm_backward::<E>(&self.stem, &gradient, parameters)?;
        let (convolution, _) = &network.stem;
        let weight = convolution.weight().f_detach()?.f_to_kind(E::KIND)?;
        let found = convolution_backward(&of_map, &self.images, &weight, Steps::of(convolution), false)?;
        parameters.put_converted(convolution.place(), &found.weight)
    }
}

/// Gradients of a node's sum, and of the input of the only batch norm among its terms.
fn norm_backward<E: Element>(
    node: &Node,
    gradient: &Gradient,
    parameters: &mut ParameterGradients,
) -> Result<(Tensor, Tensor)> {
    let total = node.total::<E>(gradient)?;
    let (normed, deviations) = (&node.normed()[0], &total.sums.deviations[0]);
    let mut of_map = Extents::of(&total.gradient)?.empty::<E>()?;
    normed.backward::<E>(&total.gradient, &total.sums.plain, deviations, &mut of_map, parameters)?;
    Ok((total.gradient, of_map))
}
