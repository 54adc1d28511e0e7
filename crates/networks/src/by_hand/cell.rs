//! A cell forward and backward.

use metad2a_search_space::EDGES;
use tch::Tensor;

use super::convolution::{Steps, convolution_backward};
use super::loops::{MomentsOf, Rows};
use super::maps::{Extents, dense, numbers};
use super::node::{Gradient, Node, Signal, Wanted};
use super::norm::Normed;
use super::parameters::ParameterGradients;
use super::pool::{mean_pool, mean_pool_backward};
use super::vector::{Element, run};
use crate::{
    Result,
    blocks::{CellBlock, Edge},
    fused::Group,
    layers::BatchNorm,
};

/// The node whose value is the cell's output.
const OUTPUT: usize = 3;

/// What the backward pass of a cell needs.
pub(super) struct CellPass<'a> {
    cell: &'a CellBlock,
    /// Nodes 1 to 3; none is a node that is zero everywhere.
    nodes: [Option<(Node, Terms)>; OUTPUT],
    groups: Vec<GroupPass<'a>>,
}

/// Where a node's terms come from.
#[derive(Default)]
struct Terms {
    /// Of every batch norm: the group of its convolution, by position among the cell's.
    normed: Vec<usize>,
    /// Of every plain term.
    plain: Vec<(Plain, usize)>,
}

/// A plain term's way from the node that it reads.
#[derive(Clone, Copy)]
enum Plain {
    Identity,
    Pool,
}

/// Convolutions of one node, computed together.
struct GroupPass<'a> {
    group: &'a Group,
    /// None where the node is zero.
    input: Option<Tensor>,
    weight: Tensor,
    output: Tensor,
    /// Of the output; edges fill in their channels.
    gradient: Option<Tensor>,
    /// How many did.
    filled: usize,
}

/// Which forms of a node the computed edges out of it read.
pub(super) fn reads(cell: &CellBlock, node: usize) -> Wanted {
    let mut wanted = Wanted::default();
    for (position, _) in EDGES.iter().enumerate().filter(|(_, (from, _))| *from == node) {
        if cell.reaching()[position] {
            match &cell.edges()[position] {
                Edge::None => {}
                Edge::Identity | Edge::Pool => wanted.value = true,
                Edge::Convolution(_) => wanted.rectified = true,
            }
        }
    }
    wanted
}

/// Batch norms of some layers of one map, which lie in it one after another.
pub(super) fn normed<'a, E: Element>(
    map: &Tensor,
    norms: impl Iterator<Item = &'a BatchNorm>,
    train: bool,
) -> Result<Vec<Normed>> {
    let extents = Extents::of(map)?;
    let channels = extents.channels as usize;
    let moments = if train {
        run(MomentsOf { pixels: extents.pixels(), channels, map: Rows::whole(numbers::<E>(map)?, channels) })
    } else {
        Vec::new()
    };
    let mut offset = 0;
    norms
        .map(|norm| {
            let start = offset;
            offset += norm.channels();
            if train {
                Normed::of_batch(norm, map, start, &moments)
            } else {
                Normed::of_running(norm, map, start)
            }
        })
        .collect()
}

impl<'a> CellPass<'a> {
    pub(super) fn forward<E: Element>(
        cell: &'a CellBlock,
        input: Signal,
        wanted: Wanted,
        train: bool,
    ) -> Result<(Self, Signal)> {
        let extents = input.extents;
        let mut signals = [Some(input), None, None, None];
        let mut pass = Self { cell, nodes: [const { None }; OUTPUT], groups: Vec::new() };
        // Of every edge with a convolution: its group and its batch norm, which its node takes.
        let mut edges: [Option<(usize, Normed)>; EDGES.len()] = [const { None }; EDGES.len()];
        let groups = cell.groups(extents.pixels() * extents.channels as usize);
        for to in 1..=OUTPUT {
            for group in groups.iter().filter(|group| group.from + 1 == to) {
                let computed = GroupPass::forward::<E>(cell, group, signals[group.from].as_ref(), extents)?;
                let norms = cell.layers(group).map(|layer| &layer.norm);
                let normed = normed::<E>(&computed.output, norms, train)?;
                for (position, normed) in group.positions.iter().zip(normed) {
                    edges[*position] = Some((pass.groups.len(), normed));
                }
                pass.groups.push(computed);
            }
            let (mut terms, mut normed, mut plain) = (Terms::default(), Vec::new(), Vec::new());
            for (position, (from, _)) in EDGES.iter().enumerate().filter(|(_, edge)| edge.1 == to) {
                if !cell.reaching()[position] {
                    continue;
                }
                match (&cell.edges()[position], &signals[*from]) {
                    (Edge::None, _) | (Edge::Identity | Edge::Pool, None) => {}
                    (Edge::Identity, Some(signal)) => {
                        terms.plain.push((Plain::Identity, *from));
                        plain.push(signal.value().shallow_clone());
                    }
                    (Edge::Pool, Some(signal)) => {
                        terms.plain.push((Plain::Pool, *from));
                        plain.push(mean_pool::<E>(signal.value())?);
                    }
                    (Edge::Convolution(_), _) => {
                        let (group, norm) = edges[position].take().expect("its group was computed");
                        terms.normed.push(group);
                        normed.push(norm);
                    }
                }
            }
            if !(normed.is_empty() && plain.is_empty()) {
                let wanted = if to == OUTPUT { wanted } else { reads(cell, to) };
                let (node, signal) = Node::sum::<E>(extents, normed, &plain, wanted)?;
                pass.nodes[to - 1] = Some((node, terms));
                signals[to] = Some(signal);
            }
        }
        let output = match signals[OUTPUT].take() {
            Some(output) => output,
            None => Signal::zeros::<E>(extents, wanted)?,
        };
        Ok((pass, output))
    }

    /// Gradients of the cell's input, of those of its output. They are empty where nothing of it arrives.
    pub(super) fn backward<E: Element>(
        mut self,
        gradient: Gradient,
        parameters: &mut ParameterGradients,
    ) -> Result<Gradient> {
        let mut gradients = [const { Gradient { value: Vec::new(), rectified: Vec::new() } }; OUTPUT + 1];
        gradients[OUTPUT] = gradient;
        for node in (1..=OUTPUT).rev() {
            self.groups_backward(node, &mut gradients, parameters)?;
            let gradient = std::mem::take(&mut gradients[node]);
            let Some((node, terms)) = self.nodes[node - 1].take() else { continue };
            if gradient.is_empty() {
                continue;
            }
            let total = node.total::<E>(&gradient)?;
            let deviations = &total.sums.deviations;
            for ((normed, group), deviations) in node.normed().iter().zip(&terms.normed).zip(deviations) {
                let into = self.groups[*group].gradient_mut::<E>()?;
                normed.backward::<E>(&total.gradient, &total.sums.plain, deviations, into, parameters)?;
            }
            for (plain, from) in &terms.plain {
                gradients[*from].value.push(match plain {
                    Plain::Identity => total.gradient.shallow_clone(),
                    Plain::Pool => mean_pool_backward::<E>(&total.gradient)?,
                });
            }
        }
        self.groups_backward(0, &mut gradients, parameters)?;
        let [of_input, ..] = gradients;
        Ok(of_input)
    }

    /// Through the convolutions out of a node, all of whose outputs' gradients are known.
    fn groups_backward(
        &mut self,
        node: usize,
        gradients: &mut [Gradient; OUTPUT + 1],
        parameters: &mut ParameterGradients,
    ) -> Result<()> {
        for pass in self.groups.iter_mut().filter(|pass| pass.group.from == node) {
            let Some(gradient) = pass.gradient.take() else { continue };
            assert_eq!(pass.filled, pass.group.positions.len(), "every edge has a gradient");
            let of_weight = match &pass.input {
                None => pass.weight.f_zeros_like()?,
                Some(input) => {
                    let steps = Steps { stride: 1, padding: pass.group.kernel / 2 };
                    let found = convolution_backward(&gradient, input, &pass.weight, steps, true)?;
                    gradients[node].rectified.push(dense(found.input.expect("it was asked for"))?);
                    found.weight
                }
            };
            let mut start = 0;
            for layer in self.cell.layers(pass.group) {
                let outputs = layer.norm.channels() as i64;
                let mut part = of_weight.f_narrow(0, start, outputs)?;
                start += outputs;
                let kernel = layer.convolution.kernel();
                let border = (pass.group.kernel - kernel) / 2;
                for side in [2, 3] {
                    part = part.f_narrow(side, border, kernel)?;
                }
                parameters.put_converted(layer.convolution.place(), &part)?;
            }
        }
        Ok(())
    }
}

impl<'a> GroupPass<'a> {
    fn forward<E: Element>(
        cell: &CellBlock,
        group: &'a Group,
        input: Option<&Signal>,
        extents: Extents,
    ) -> Result<Self> {
        let kernels = cell.layers(group).map(|layer| layer.convolution.weight_padded_to(group.kernel));
        let kernels = kernels.collect::<Result<Vec<_>>>()?;
        let weight = match &*kernels {
            [only] => only.f_detach()?,
            several => Tensor::f_cat(several, 0)?,
        };
        let weight = weight.f_to_kind(E::KIND)?;
        let input = input.map(|signal| signal.rectified().shallow_clone());
        // Not zero behind a batch norm, whose shift remains.
        let zeros = if input.is_none() { Some(extents.zeros::<E>()?) } else { None };
        let source = input.as_ref().or(zeros.as_ref()).expect("one of them is there");
        let padding = [group.kernel / 2; 2];
        let output = dense(source.f_conv2d(&weight, None::<&Tensor>, [1, 1], padding, [1, 1], 1)?)?;
        Ok(Self { group, input, weight, output, gradient: None, filled: 0 })
    }

    fn gradient_mut<E: Element>(&mut self) -> Result<&mut Tensor> {
        if self.gradient.is_none() {
            self.gradient = Some(Extents::of(&self.output)?.empty::<E>()?);
        }
        self.filled += 1;
        Ok(self.gradient.as_mut().expect("set above"))
    }
}
