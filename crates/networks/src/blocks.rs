//! The blocks of a network: a cell's graph of operations, and the reductions between the stages.

use metad2a_search_space::{Cell, EDGE_COUNT, EDGES, Operation};
use tch::{Device, Kind, Tensor};

use crate::{
    Result,
    fused::{Fused, Group, fills_lanes, group, layers, singles},
    layers::{BatchNorm, Builder, Convolution, channels_last},
    network::Computation,
};

/// The node whose value is the cell's output; node 0 is its input.
const OUTPUT: usize = 3;

/// Numbers of a map that is large: measured with a second-level cache of 1 MiB.
const LARGE_MAP: usize = 1 << 19;

/// One element of a stage, (n, c, h, w) to the same shape or to (n, 2c, h/2, w/2).
#[derive(Debug)]
pub(crate) enum Block {
    Cell(Box<CellBlock>),
    /// Residual block of stride 2 without a rectifier at its end. The shortcut reads the raw input.
    Reduction(Box<ReductionBlock>),
}

/// What is between two stages.
#[derive(Debug)]
pub(crate) struct ReductionBlock {
    pub(crate) first: ConvNorm,
    pub(crate) second: ConvNorm,
    pub(crate) shortcut: Convolution,
}

/// A cell.
#[derive(Debug)]
pub(crate) struct CellBlock {
    edges: [Edge; EDGE_COUNT],
    /// Which edges are on a path to the output.
    reaching: [bool; EDGE_COUNT],
    /// All convolutions that are computed, those of one node together.
    groups: Vec<Group>,
    /// The same one by one.
    singles: Vec<Group>,
    channels: i64,
    fused: Fused,
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
    pub(crate) convolution: Convolution,
    pub(crate) norm: BatchNorm,
}

impl ConvNorm {
    fn new(builder: &mut Builder, name: &str, extents: (i64, i64, i64), stride: i64) -> Result<Self> {
        let (_, outputs, kernel) = extents;
        Ok(Self {
            convolution: builder.convolution(&format!("{name}.op.1"), extents, stride, kernel / 2)?,
            norm: builder.batch_norm(&format!("{name}.op.2"), outputs)?,
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
        let reaching = cell.edges_reaching_output();
        let kernels = std::array::from_fn(|position| match &edges[position] {
            Edge::Convolution(layer) if reaching[position] => Some(layer.convolution.kernel()),
            _ => None,
        });
        let groups = group(kernels, channels as usize);
        let fused = Fused::new(&edges, &groups)?;
        let singles = singles(kernels);
        Ok(Self::Cell(Box::new(CellBlock { edges, reaching, groups, singles, channels, fused })))
    }

    pub(crate) fn reduction(builder: &mut Builder, name: &str, channels: i64) -> Result<Self> {
        let wide = 2 * channels;
        Ok(Self::Reduction(Box::new(ReductionBlock {
            first: ConvNorm::new(builder, &format!("{name}.conv_a"), (channels, wide, 3), 2)?,
            second: ConvNorm::new(builder, &format!("{name}.conv_b"), (wide, wide, 3), 1)?,
            shortcut: builder.convolution(&format!("{name}.downsample.1"), (channels, wide, 1), 1, 0)?,
        })))
    }

    pub(crate) fn forward(&self, input: &Tensor, computation: Computation, train: bool) -> Result<Tensor> {
        match self {
            Self::Cell(cell) => cell.forward(input, computation, train),
            Self::Reduction(block) => {
                let ReductionBlock { first, second, shortcut } = &**block;
                let halved = first.forward(&input.f_relu()?, train)?;
                let main = second.forward(&halved.f_relu()?, train)?;
                let pooled = input.f_avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>)?;
                Ok(shortcut.forward(&pooled)?.f_add(&main)?)
            }
        }
    }
}

impl CellBlock {
    pub(crate) fn edges(&self) -> &[Edge; EDGE_COUNT] {
        &self.edges
    }

    /// Which edges are on a path to the output: those that are computed.
    pub(crate) fn reaching(&self) -> &[bool; EDGE_COUNT] {
        &self.reaching
    }

    /// The convolutions for maps of so many numbers: those of one node together where that pays. Where a map fills
    /// vector registers by itself and no longer the nearer caches, it does not.
    pub(crate) fn groups(&self, numbers: usize) -> &[Group] {
        if fills_lanes(self.channels) && numbers > LARGE_MAP { &self.singles } else { &self.groups }
    }

    /// The convolutions of a group with their batch norms.
    pub(crate) fn layers<'a>(&'a self, group: &'a Group) -> impl Iterator<Item = &'a ConvNorm> {
        layers(&self.edges, group)
    }

    /// Node i is the sum of its computed edges; a node without any is zero.
    fn forward(&self, input: &Tensor, computation: Computation, train: bool) -> Result<Tensor> {
        let zeros_like_input = || input.f_zeros_like();
        // None is a node that is zero everywhere.
        let mut nodes: [Option<Tensor>; 4] = [Some(input.shallow_clone()), None, None, None];
        let mut rectified: [Option<Tensor>; 4] = Default::default();
        // Outputs that were computed together with another edge's.
        let mut at_hand: [Option<Tensor>; EDGE_COUNT] = Default::default();
        for (position, &(from, to)) in EDGES.iter().enumerate() {
            if computation != Computation::Plain && !self.reaching[position] {
                continue;
            }
            let term = match (&self.edges[position], &nodes[from]) {
                (Edge::None, _) | (Edge::Identity | Edge::Pool, None) => continue,
                (Edge::Identity, Some(node)) => node.shallow_clone(),
                (Edge::Pool, Some(node)) => mean_pool(node, computation)?,
                (Edge::Convolution(layer), node) => {
                    if rectified[from].is_none() {
                        rectified[from] = Some(match node {
                            Some(node) => node.f_relu()?,
                            // Not zero behind its batch norm, whose shift remains.
                            None => zeros_like_input()?,
                        });
                    }
                    let source = rectified[from].as_ref().expect("set above");
                    if computation != Computation::Plain && at_hand[position].is_none() {
                        for (edge, output) in self.fused.forward(&self.edges, position, source, train)? {
                            at_hand[edge] = Some(output);
                        }
                    }
                    match at_hand[position].take() {
                        Some(output) => output,
                        None => layer.forward(source, train)?,
                    }
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
}

/// Means over 3x3 pixels; at the border over those that exist.
fn mean_pool(node: &Tensor, computation: Computation) -> Result<Tensor> {
    if computation == Computation::Plain || node.device() != Device::Cpu {
        return Ok(node.f_avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None::<i64>)?);
    }
    // On processors a convolution of each channel by itself is up to three times as fast.
    let size = node.size();
    let sums = |of: &Tensor, channels: i64| -> Result<Tensor> {
        let ones = Tensor::f_ones([channels, 1, 3, 3], (of.kind(), of.device()))?;
        Ok(of.f_conv2d(&channels_last(&ones)?, None::<&Tensor>, [1, 1], [1, 1], [1, 1], channels)?)
    };
    // Never in bfloat16, which would round a ninth for all pixels alike.
    let kind = if node.kind() == Kind::BFloat16 { Kind::Float } else { node.kind() };
    let pixels = sums(&Tensor::f_ones([1, 1, size[2], size[3]], (kind, node.device()))?, 1)?;
    Ok(sums(node, size[1])?.f_mul(&pixels.f_reciprocal()?)?.f_to_kind(node.kind())?)
}
