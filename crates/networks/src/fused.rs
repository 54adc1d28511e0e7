//! Convolutions of one node computed together.
//!
//! A cell's edges out of one node read the same rectified tensor. Their kernels, stacked, are one convolution with more
//! outputs, and their batch norms one over more channels, as a batch norm treats channels apart. That pays on processors:
//! vector units are 16 numbers wide and a convolution to 8 channels leaves half of them empty, and every operation
//! passes over memory once for all edges. Where lanes would stay empty even then, 1x1 kernels are padded with zeros and
//! ride along with the 3x3 ones.
//!
//! Parameters stay those of the edges. The running statistics of a group are one tensor, into which the edges' look.

use metad2a_search_space::{EDGE_COUNT, EDGES};
use tch::Tensor;

use crate::{
    Result,
    blocks::{ConvNorm, Edge},
    layers::{BatchNorm, Statistics},
};

/// Numbers (f32) in a vector register of AVX-512.
const LANES: usize = 16;

/// Edges out of one node, by position in the cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) from: usize,
    /// Side of the common kernel.
    pub(crate) kernel: i64,
    pub(crate) positions: Vec<usize>,
}

/// [`Group`]s of at least two edges, with the running statistics of all their batch norms.
#[derive(Debug)]
pub(crate) struct Fused {
    groups: Vec<(Group, Statistics)>,
}

impl Fused {
    /// From now on the running statistics of grouped edges are parts of the group's.
    pub(crate) fn new(edges: &[Edge; EDGE_COUNT], groups: &[Group]) -> Result<Self> {
        let groups = groups.iter().filter(|group| group.positions.len() > 1).map(|group| {
            let norms: Vec<&BatchNorm> = layers(edges, group).map(|layer| &layer.norm).collect();
            let statistics = Statistics::joined(&norms)?;
            Ok((group.clone(), statistics))
        });
        Ok(Self { groups: groups.collect::<Result<_>>()? })
    }

    /// The outputs of the group that the edge at `position` is in, edge by edge; none where it is in no group.
    pub(crate) fn forward(
        &self,
        edges: &[Edge; EDGE_COUNT],
        position: usize,
        rectified: &Tensor,
        train: bool,
    ) -> Result<Vec<(usize, Tensor)>> {
        let Some((group, statistics)) =
            self.groups.iter().find(|(group, _)| group.positions.contains(&position))
        else {
            return Ok(Vec::new());
        };
        let (mut kernels, mut norms) = (Vec::new(), Vec::new());
        for layer in layers(edges, group) {
            kernels.push(layer.convolution.weight_padded_to(group.kernel)?);
            norms.push(&layer.norm);
        }
        let outputs = rectified.f_conv2d(
            &Tensor::f_cat(&kernels, 0)?.f_to_kind(rectified.kind())?,
            None::<&Tensor>,
            [1, 1],
            [group.kernel / 2; 2],
            [1, 1],
            1,
        )?;
        let outputs = statistics.forward(&norms, &outputs, train)?;
        let parts = outputs.f_chunk(group.positions.len() as i64, 1)?;
        Ok(group.positions.iter().copied().zip(parts).collect())
    }
}

/// The convolutions of a group with their batch norms.
pub(crate) fn layers<'a>(
    edges: &'a [Edge; EDGE_COUNT],
    group: &'a Group,
) -> impl Iterator<Item = &'a ConvNorm> {
    group.positions.iter().filter_map(|position| match &edges[*position] {
        Edge::Convolution(layer) => Some(layer),
        Edge::None | Edge::Identity | Edge::Pool => None,
    })
}

/// All edges with a convolution in groups; `kernels` has none for an edge without.
pub(crate) fn group(kernels: [Option<i64>; EDGE_COUNT], channels: usize) -> Vec<Group> {
    let mut groups = Vec::new();
    for from in 0..3 {
        let of = |kernel| {
            let found = (0..EDGE_COUNT)
                .filter(|position| EDGES[*position].0 == from && kernels[*position] == Some(kernel));
            found.collect::<Vec<usize>>()
        };
        let (mut large, mut small) = (of(3), of(1));
        if !large.is_empty() {
            let empty_lanes = (LANES - large.len() * channels % LANES) % LANES;
            let passengers = (empty_lanes / channels).min(small.len());
            large.extend(small.drain(..passengers));
        }
        for (kernel, positions) in [(3, large), (1, small)] {
            if !positions.is_empty() {
                groups.push(Group { from, kernel, positions });
            }
        }
    }
    groups
}

/// Every edge with a convolution by itself.
pub(crate) fn singles(kernels: [Option<i64>; EDGE_COUNT]) -> Vec<Group> {
    let edges = EDGES.iter().zip(kernels).enumerate();
    let single = |(position, (edge, kernel)): (usize, (&(usize, usize), Option<i64>))| {
        Some(Group { from: edge.0, kernel: kernel?, positions: vec![position] })
    };
    edges.filter_map(single).collect()
}

/// Whether a convolution to so many channels leaves no lane of a vector register empty.
pub(crate) fn fills_lanes(channels: i64) -> bool {
    channels % LANES as i64 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grouped(kernels: [i64; EDGE_COUNT], channels: usize) -> Vec<(i64, Vec<usize>)> {
        let kernels = kernels.map(|kernel| (kernel > 0).then_some(kernel));
        let several = group(kernels, channels).into_iter().filter(|group| group.positions.len() > 1);
        several.map(|group| (group.kernel, group.positions)).collect()
    }

    // Edges leave node 0 at the positions 0, 1 and 3, node 1 at 2 and 4, node 2 at 5.

    #[test]
    fn kernels_of_one_size_out_of_one_node_are_one_group() {
        assert_eq!(grouped([3, 3, 3, 3, 3, 3], 16), [(3, vec![0, 1, 3]), (3, vec![2, 4])]);
        assert_eq!(grouped([1, 3, 0, 1, 3, 1], 16), [(1, vec![0, 3])]);
        assert_eq!(grouped([0, 3, 3, 0, 0, 3], 16), []);
    }

    #[test]
    fn small_kernels_ride_along_where_lanes_are_empty() {
        // One 3x3 to 8 channels leaves 8 of 16 lanes, two leave none, three leave 8 again.
        assert_eq!(grouped([3, 1, 0, 0, 0, 0], 8), [(3, vec![0, 1])]);
        assert_eq!(grouped([3, 1, 0, 1, 0, 0], 8), [(3, vec![0, 1])]);
        assert_eq!(grouped([3, 3, 0, 1, 0, 0], 8), [(3, vec![0, 1])]);
        assert_eq!(grouped([3, 1, 0, 1, 0, 0], 4), [(3, vec![0, 1, 3])]);
        assert_eq!(grouped([3, 1, 0, 1, 0, 0], 12), [(1, vec![1, 3])]);
        assert_eq!(grouped([3, 1, 0, 0, 0, 0], 16), []);
    }
}
