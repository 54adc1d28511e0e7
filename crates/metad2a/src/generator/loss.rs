//! The generator's training loss with teacher forcing.
//!
//! While vertex v is added, its state is refreshed after every edge decision u = v-1 … 0. That state depends on the
//! messages accepted so far, not on the states between, so all 28 decisions of a graph are scored in one batch.

use metad2a_search_space::graph::VERTICES;
use tch::{Reduction, Tensor};

use super::{Generator, LAST};
use crate::error::Result;
use crate::graphs::GraphBatch;

/// A loss and its parts, each summed over the batch.
#[derive(Debug)]
pub struct GeneratorLoss {
    /// `reconstruction + beta · divergence`.
    pub loss: Tensor,
    /// Minus the log-probability (nats) of the vertex types and, where the model draws them, of the edges.
    pub reconstruction: Tensor,
    /// Divergence of the codes' posterior from the standard normal.
    pub divergence: Tensor,
}

impl Generator {
    /// The loss of graphs whose codes have these means and logarithms of variances, (graphs, latent) each. With
    /// `noise` (standard normal numbers times the noise scale, same shape) the codes are drawn, else they are the
    /// means.
    pub fn loss(
        &self,
        mean: &Tensor,
        log_variance: &Tensor,
        noise: Option<&Tensor>,
        graphs: &GraphBatch,
        beta: f64,
    ) -> Result<GeneratorLoss> {
        let codes = match noise {
            None => mean.shallow_clone(),
            Some(noise) => mean.f_add(&log_variance.f_mul_scalar(0.5)?.f_exp()?.f_mul(noise)?)?,
        };
        let reconstruction = self.reconstruction(&codes, graphs)?;
        let parts =
            log_variance.f_add_scalar(1.0)?.f_sub(&mean.f_square()?)?.f_sub(&log_variance.f_exp()?)?;
        let divergence = parts.f_sum(None)?.f_mul_scalar(-0.5)?;
        let loss = reconstruction.f_add(&divergence.f_mul_scalar(beta)?)?;
        Ok(GeneratorLoss { loss, reconstruction, divergence })
    }

    /// Minus the log-probability of the graphs, summed.
    pub(crate) fn reconstruction(&self, codes: &Tensor, graphs: &GraphBatch) -> Result<Tensor> {
        let one_hot = graphs.one_hot()?;
        let messenger = self.layers.messages.prepare()?;
        let mut states = vec![self.start(codes)?];
        // Newest vertex first, as edges are decided.
        let mut messages = Vec::new();
        let mut accepted = Vec::new();
        let mut decisions = Vec::new();
        // The END vertex's state is read by edge decisions only.
        let grown = if self.layers.edge.is_some() { VERTICES } else { LAST };
        for vertex in 1..grown {
            messages.insert(0, messenger.send(vertex - 1, &states[vertex - 1])?);
            let edges =
                graphs.adjacency.f_select(2, vertex as i64)?.f_narrow(1, 0, vertex as i64)?.f_flip([1])?;
            let sums = Tensor::f_stack(&messages, 1)?.f_mul(&edges.f_unsqueeze(2)?)?.f_cumsum(1, None)?;
            let last = vertex as i64 - 1;
            let total = sums.f_select(1, last)?;
            states.push(self.layers.grow.forward(&one_hot.f_select(1, vertex as i64)?, &total)?);
            if self.layers.edge.is_some() {
                accepted.push(total.f_zeros_like()?.f_unsqueeze(1)?);
                accepted.push(sums.f_narrow(1, 0, last)?);
                decisions.push(edges);
            }
        }
        let vertices = self.vertex_reconstruction(&states, graphs)?;
        let Some(edge_layer) = &self.layers.edge else { return Ok(vertices) };
        let (mut earlier, mut later) = (Vec::new(), Vec::new());
        for vertex in 1..VERTICES as i64 {
            earlier.extend((0..vertex).rev());
            later.extend((0..vertex).map(|_| vertex));
        }
        let device = codes.device();
        let earlier = Tensor::f_from_slice(&earlier)?.f_to_device(device)?;
        let later = Tensor::f_from_slice(&later)?.f_to_device(device)?;
        let types = one_hot.f_index_select(1, &later)?.f_flatten(0, 1)?;
        let refreshed = self.layers.grow.forward(&types, &Tensor::f_cat(&accepted, 1)?.f_flatten(0, 1)?)?;
        let earlier = Tensor::f_stack(&states, 1)?.f_index_select(1, &earlier)?.f_flatten(0, 1)?;
        let logits = edge_layer.forward(&Tensor::f_cat(&[earlier, refreshed], 1)?)?.f_squeeze_dim(1)?;
        let edges = Tensor::f_cat(&decisions, 1)?.f_flatten(0, 1)?;
        let none: Option<&Tensor> = None;
        let edges = logits.f_binary_cross_entropy_with_logits(&edges, none, none, Reduction::Sum)?;
        Ok(vertices.f_add(&edges)?)
    }

    /// The share of the vertex types: of 1 to 7 among all seven types as published, or of 1 to 6 among the operations.
    fn vertex_reconstruction(&self, states: &[Tensor], graphs: &GraphBatch) -> Result<Tensor> {
        let free = if self.config.fixed_edges { LAST - 1 } else { LAST };
        let states = Tensor::f_stack(&states[..free], 1)?.f_flatten(0, 1)?;
        let types = graphs.types.f_narrow(1, 1, free as i64)?.f_flatten(0, 1)?;
        let logits = self.layers.vertex.forward(&states)?;
        let (logits, types) = if self.config.fixed_edges {
            (logits.f_narrow(1, 2, super::TYPE_COUNT - 2)?, types.f_sub_scalar(2)?)
        } else {
            (logits, types)
        };
        let none: Option<&Tensor> = None;
        Ok(logits.f_cross_entropy_loss(&types, none, Reduction::Sum, -100, 0.0)?)
    }
}
