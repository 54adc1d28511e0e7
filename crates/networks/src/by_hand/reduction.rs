//! A reduction forward and backward.

use tch::Tensor;

use super::cell::normed;
use super::convolution::{Steps, convolution_backward};
use super::maps::{Extents, dense};
use super::node::{Gradient, Node, Signal, Wanted};
use super::norm_backward;
use super::parameters::ParameterGradients;
use super::vector::Element;
use crate::{
    Result,
    blocks::{ConvNorm, ReductionBlock},
    layers::Convolution,
};

/// What the backward pass of a reduction needs.
pub(super) struct ReductionPass<'a> {
    block: &'a ReductionBlock,
    input: Signal,
    pooled: Tensor,
    /// Between the two convolutions.
    halved: (Node, Signal),
    output: Node,
}

/// Both convolutions read the rectified input, the shortcut the raw one.
pub(super) const READS: Wanted = Wanted { value: true, rectified: true };

/// The output of a convolution.
pub(super) fn convolved<E: Element>(convolution: &Convolution, input: &Tensor) -> Result<Tensor> {
    let Steps { stride, padding } = Steps::of(convolution);
    let weight = convolution.weight().f_detach()?.f_to_kind(E::KIND)?;
    dense(input.f_conv2d(&weight, None::<&Tensor>, [stride; 2], [padding; 2], [1, 1], 1)?)
}

/// Puts the gradient of a convolution's weight to the others, and gives that of its input.
fn convolved_backward<E: Element>(
    convolution: &Convolution,
    gradient: &Tensor,
    input: &Tensor,
    parameters: &mut ParameterGradients,
) -> Result<Tensor> {
    let weight = convolution.weight().f_detach()?.f_to_kind(E::KIND)?;
    let found = convolution_backward(gradient, input, &weight, Steps::of(convolution), true)?;
    parameters.put_converted(convolution.place(), &found.weight)?;
    dense(found.input.expect("it was asked for"))
}

impl<'a> ReductionPass<'a> {
    pub(super) fn forward<E: Element>(
        block: &'a ReductionBlock,
        input: Signal,
        wanted: Wanted,
        train: bool,
    ) -> Result<(Self, Signal)> {
        let node = |layer: &ConvNorm, input: &Tensor, plain: &[Tensor], wanted: Wanted| {
            let map = convolved::<E>(&layer.convolution, input)?;
            let normed = normed::<E>(&map, [&layer.norm].into_iter(), train)?;
            Node::sum::<E>(Extents::of(&map)?, normed, plain, wanted)
        };
        let halved = node(&block.first, input.rectified(), &[], Wanted { value: false, rectified: true })?;
        let pooled = input.value().f_avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>)?;
        let pooled = dense(pooled)?;
        let shortcut = convolved::<E>(&block.shortcut, &pooled)?;
        let (output, signal) = node(&block.second, halved.1.rectified(), &[shortcut], wanted)?;
        Ok((Self { block, input, pooled, halved, output }, signal))
    }

    /// Gradients of the input, of those of the output.
    pub(super) fn backward<E: Element>(
        self,
        gradient: &Gradient,
        parameters: &mut ParameterGradients,
    ) -> Result<Gradient> {
        let Self { block, input, pooled, halved: (halved, between), output } = self;
        let mut through = |node: &Node, layer: &ConvNorm, gradient: &Gradient, input: &Tensor| {
            let (of_sum, of_map) = norm_backward::<E>(node, gradient, parameters)?;
            let of_input = convolved_backward::<E>(&layer.convolution, &of_map, input, parameters)?;
            Ok::<_, crate::Error>((of_sum, of_input))
        };
        let (of_output, of_between) = through(&output, &block.second, gradient, between.rectified())?;
        let of_between = Gradient { value: Vec::new(), rectified: vec![of_between] };
        let (_, of_rectified) = through(&halved, &block.first, &of_between, input.rectified())?;
        let of_pooled = convolved_backward::<E>(&block.shortcut, &of_output, &pooled, parameters)?;
        let value = input.value();
        let of_value =
            value.f_avg_pool2d_backward(&of_pooled, [2, 2], [2, 2], [0, 0], false, true, None::<i64>)?;
        Ok(Gradient { value: vec![dense(of_value)?], rectified: vec![of_rectified] })
    }
}
