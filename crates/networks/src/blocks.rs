//! The blocks of a network: a cell's graph of operations, and the reductions between the stages.

use metad2a_search_space::{Cell, EDGES, Operation};
use tch::Tensor;

use crate::{
    Result,
    layers::{BatchNorm, Builder, Convolution},
};

/// The node whose value is the cell's output; node 0 is its input.
const OUTPUT: usize = 3;
/// PyTorch's default.
pub(crate) const EPSILON: f64 = 1e-5;

/// One element of a stage, (n, c, h, w) to the same shape or to (n, 2c, h/2, w/2).
#[derive(Debug)]
pub(crate) enum Block {
    Cell(Box<[Edge; 6]>),
    /// Residual block of stride 2 without a rectifier at its end. The shortcut reads the raw input.
    Reduction {
        first: ConvNorm,
        second: ConvNorm,
        shortcut: Convolution,
    },
}

/// The operation of an edge.
#[derive(Debug)]
pub(crate) enum Edge {
    None,
    Identity,
    Pool,
    Convolution(ConvNorm),
}

/// Convolution and batch norm of an input that is rectified already.
#[derive(Debug)]
pub(crate) struct ConvNorm {
    convolution: Convolution,
    norm: BatchNorm,
}

impl ConvNorm {
    fn new(builder: &mut Builder, name: &str, extents: (i64, i64, i64), stride: i64) -> Result<Self> {
        let (_, outputs, kernel) = extents;
        Ok(Self {
            convolution: builder.convolution(&format!("{name}.op.1"), extents, stride, kernel / 2)?,
            norm: builder.batch_norm(&format!("{name}.op.2"), outputs, EPSILON)?,
        })
    }

    fn forward(&self, rectified: &Tensor, train: bool) -> Result<Tensor> {
        self.norm.forward(&self.convolution.forward(rectified)?, train)
    }
}

impl Block {
    pub(crate) fn cell(builder: &mut Builder, name: &str, cell: Cell, channels: i64) -> Result<Self> {
        let mut edges = [const { Edge::None }; 6];
        for (position, operation) in cell.operations().into_iter().enumerate() {
            let mut convolution = |kernel| -> Result<Edge> {
                let name = format!("{name}.layers.{position}");
                Ok(Edge::Convolution(ConvNorm::new(builder, &name, (channels, channels, kernel), 1)?))
            };
            edges[position] = match operation {
                Operation::None => Edge::None,
                Operation::SkipConnect => Edge::Identity,
                Operation::NorConv1x1 => convolution(1)?,
                Operation::NorConv3x3 => convolution(3)?,
                Operation::AvgPool3x3 => Edge::Pool,
            };
        }
        Ok(Self::Cell(Box::new(edges)))
    }

    pub(crate) fn reduction(builder: &mut Builder, name: &str, channels: i64) -> Result<Self> {
        let wide = 2 * channels;
        Ok(Self::Reduction {
            first: ConvNorm::new(builder, &format!("{name}.conv_a"), (channels, wide, 3), 2)?,
            second: ConvNorm::new(builder, &format!("{name}.conv_b"), (wide, wide, 3), 1)?,
            shortcut: builder.convolution(&format!("{name}.downsample.1"), (channels, wide, 1), 1, 0)?,
        })
    }

    pub(crate) fn forward(&self, input: &Tensor, computed: [bool; 6], train: bool) -> Result<Tensor> {
        match self {
            Self::Cell(edges) => forward_cell(edges, input, computed, train),
            Self::Reduction { first, second, shortcut } => {
                let halved = first.forward(&input.f_relu()?, train)?;
                let main = second.forward(&halved.f_relu()?, train)?;
                let pooled = input.f_avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>)?;
                Ok(shortcut.forward(&pooled)?.f_add(&main)?)
            }
        }
    }
}

/// Node i is the sum of its computed edges; a node without any is zero.
fn forward_cell(edges: &[Edge; 6], input: &Tensor, computed: [bool; 6], train: bool) -> Result<Tensor> {
    let zeros_like_input = || input.f_zeros_like();
    // None is a node that is zero everywhere.
    let mut nodes: [Option<Tensor>; 4] = [Some(input.shallow_clone()), None, None, None];
    let mut rectified: [Option<Tensor>; 4] = Default::default();
    for (position, &(from, to)) in EDGES.iter().enumerate() {
        if !computed[position] {
            continue;
        }
        let term = match (&edges[position], &nodes[from]) {
            (Edge::None, _) | (Edge::Identity | Edge::Pool, None) => continue,
            (Edge::Identity, Some(node)) => node.shallow_clone(),
            // The border counts existing pixels only.
            (Edge::Pool, Some(node)) => {
                node.f_avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None::<i64>)?
            }
            (Edge::Convolution(layer), node) => {
                if rectified[from].is_none() {
                    rectified[from] = Some(match node {
                        Some(node) => node.f_relu()?,
                        // Not zero behind its batch norm, whose shift remains.
                        None => zeros_like_input()?,
                    });
                }
                let source = rectified[from].as_ref().expect("set above");
                layer.forward(source, train)?
            }
        };
        nodes[to] = Some(match nodes[to].take() {
            Some(sum) => sum.f_add(&term)?,
            None => term,
        });
    }
    match nodes[OUTPUT].take() {
        Some(output) => Ok(output),
        None => Ok(zeros_like_input()?),
    }
}
