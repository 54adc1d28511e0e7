//! Cells as tensors: eight vertex types and an adjacency per graph, and the messages that vertices send.

use metad2a_search_space::Cell;
use metad2a_search_space::graph::{VERTEX_TYPES, VERTICES};
use tch::{Device, Kind, Tensor};

use crate::config::ModelConfig;
use crate::error::Result;
use crate::layers::Linear;
use crate::parameters::{Declarations, Parameters};

pub(crate) const VERTEX_COUNT: i64 = VERTICES as i64;
pub(crate) const TYPE_COUNT: i64 = VERTEX_TYPES as i64;

/// Graphs of one batch.
#[derive(Debug)]
pub struct GraphBatch {
    /// (graphs, 8), i64.
    pub(crate) types: Tensor,
    /// (graphs, 8, 8), f32: 1 where the first vertex feeds the second.
    pub(crate) adjacency: Tensor,
}

impl GraphBatch {
    /// Vertex types (graphs, 8; i64) and adjacency (graphs, 8, 8; f32, \[g, u, v\] is 1 where u feeds v).
    pub fn of_tensors(types: &Tensor, adjacency: &Tensor) -> Self {
        Self { types: types.shallow_clone(), adjacency: adjacency.shallow_clone() }
    }

    /// The graphs of `cells` as a model of this configuration sees them.
    pub fn of_cells(cells: &[Cell], config: &ModelConfig, device: Device) -> Result<Self> {
        let types: Vec<i64> = cells
            .iter()
            .flat_map(|cell| config.cells.of(*cell).vertex_types())
            .map(|vertex_type| vertex_type as i64)
            .collect();
        let count = cells.len() as i64;
        let types = Tensor::f_from_slice(&types)?.f_view([count, VERTEX_COUNT])?.f_to_device(device)?;
        let edges = edges_of(config, device)?;
        let adjacency = edges.f_unsqueeze(0)?.f_expand([count, VERTEX_COUNT, VERTEX_COUNT], false)?;
        Ok(Self { types, adjacency })
    }

    /// The number of graphs.
    pub fn count(&self) -> i64 {
        self.types.size()[0]
    }

    /// (graphs, 8, 7), f32.
    pub(crate) fn one_hot(&self) -> Result<Tensor> {
        one_hot(&self.types)
    }
}

/// Types (…) → (…, 7), f32.
pub(crate) fn one_hot(types: &Tensor) -> Result<Tensor> {
    Ok(types.f_one_hot(TYPE_COUNT)?.f_to_kind(Kind::Float)?)
}

/// (8, 8): the edges of every graph of this configuration.
pub(crate) fn edges_of(config: &ModelConfig, device: Device) -> Result<Tensor> {
    let edges: Vec<f32> =
        config.graph.adjacency().into_iter().flatten().map(|edge| f32::from(u8::from(edge))).collect();
    Ok(Tensor::f_from_slice(&edges)?.f_view([VERTEX_COUNT, VERTEX_COUNT])?.f_to_device(device)?)
}

/// Gate and mapper of one direction. A vertex u in state h sends gate(\[h; onehot(u)\]) ∘ mapper(\[h; onehot(u)\]).
#[derive(Debug)]
pub(crate) struct Messages {
    gate: Linear,
    mapper: Linear,
    hidden: i64,
}

impl Messages {
    pub(crate) fn declare(declared: &mut Declarations, gate: &str, mapper: &str, hidden: i64) {
        declared.linear(&format!("{gate}.0"), hidden + VERTEX_COUNT, hidden);
        declared.linear_without_bias(&format!("{mapper}.0"), hidden + VERTEX_COUNT, hidden);
    }

    pub(crate) fn of(parameters: &Parameters, gate: &str, mapper: &str, hidden: i64) -> Self {
        Self {
            gate: Linear::of(parameters, &format!("{gate}.0")),
            mapper: Linear::without_bias(parameters, &format!("{mapper}.0")),
            hidden,
        }
    }

    /// Width of states and messages.
    pub(crate) fn hidden(&self) -> i64 {
        self.hidden
    }

    /// The two products as one, and the one-hot's share as a bias per vertex: once per pass over a batch.
    pub(crate) fn prepare(&self) -> Result<PreparedMessages> {
        let both = Tensor::f_cat(&[&self.gate.weight, &self.mapper.weight], 0)?;
        let weight = both.f_narrow(1, 0, self.hidden)?;
        let mut numbers = both.f_narrow(1, self.hidden, VERTEX_COUNT)?.f_tr()?;
        if let Some(bias) = &self.gate.bias {
            numbers = numbers.f_add(&Tensor::f_cat(&[bias, &bias.f_zeros_like()?], 0)?)?;
        }
        Ok(PreparedMessages { weight, biases: numbers.f_unbind(0)? })
    }
}

/// [`Messages`] for one pass.
pub(crate) struct PreparedMessages {
    weight: Tensor,
    /// Per vertex.
    biases: Vec<Tensor>,
}

impl PreparedMessages {
    /// States (n, hidden) of vertex `vertex` → messages (n, hidden).
    pub(crate) fn send(&self, vertex: usize, states: &Tensor) -> Result<Tensor> {
        let both = states.f_linear(&self.weight, Some(&self.biases[vertex]))?;
        let half = both.size()[1] / 2;
        let gate = both.f_narrow(1, 0, half)?.f_sigmoid()?;
        Ok(gate.f_mul(&both.f_narrow(1, half, half)?)?)
    }
}
