//! Growing graphs from codes: all graphs of a batch at once, one vertex after the other.

use metad2a_randomness::Stream;
use metad2a_search_space::Cell;
use metad2a_search_space::graph::{Adjacency, END, InvalidGraph, START, VERTICES, cell_of_graph};
use tch::{Device, Kind, Tensor};

use super::{Generator, LAST, TYPE_COUNT};
use crate::error::Result;
use crate::graphs::{VERTEX_COUNT, edges_of, one_hot};
use crate::layers::Perceptron;

/// How types and edges are chosen.
pub enum Drawing<'a> {
    /// The likeliest type, and every edge that is likelier than not.
    Greedy,
    /// At random, by their probabilities.
    Random(&'a mut Stream),
}

/// Grown graphs.
#[derive(Debug)]
pub struct Decoded {
    /// (graphs, 8), i64; -1 at vertices that an early END left out.
    pub types: Tensor,
    /// (graphs, 8, 8), f32: 1 where the first vertex feeds the second.
    pub adjacency: Tensor,
}

impl Decoded {
    /// The cell of each graph, or why it is none.
    pub fn cells(&self) -> Result<Vec<std::result::Result<Cell, InvalidGraph>>> {
        let count = self.types.size()[0] as usize;
        let mut types = vec![0_i64; count * VERTICES];
        let mut edges = vec![0_f32; count * VERTICES * VERTICES];
        self.types.f_to_device(Device::Cpu)?.f_contiguous()?.f_copy_data(&mut types, count * VERTICES)?;
        let adjacency = self.adjacency.f_to_device(Device::Cpu)?.f_contiguous()?;
        adjacency.f_copy_data(&mut edges, count * VERTICES * VERTICES)?;
        let graphs = types.chunks(VERTICES).zip(edges.chunks(VERTICES * VERTICES));
        Ok(graphs.map(|(types, edges)| cell_of(types, edges)).collect())
    }
}

fn cell_of(types: &[i64], edges: &[f32]) -> std::result::Result<Cell, InvalidGraph> {
    // An early END: fewer vertices.
    let types: Vec<usize> = types.iter().map_while(|found| usize::try_from(*found).ok()).collect();
    let mut adjacency: Adjacency = [[false; VERTICES]; VERTICES];
    for (row, found) in adjacency.iter_mut().zip(edges.chunks(VERTICES)) {
        for (edge, found) in row.iter_mut().zip(found) {
            *edge = *found > 0.5;
        }
    }
    cell_of_graph(&types, &adjacency)
}

/// The choices of all graphs, from logits or uniform numbers drawn in Rust.
struct Chooser<'a> {
    drawing: Drawing<'a>,
    device: Device,
    count: usize,
}

impl Chooser<'_> {
    /// (graphs) uniform numbers.
    fn uniform(random: &mut Stream, count: usize, device: Device) -> Result<Tensor> {
        let numbers: Vec<f32> = (0..count).map(|_| random.uniform() as f32).collect();
        Ok(Tensor::f_from_slice(&numbers)?.f_to_device(device)?)
    }

    /// Logits (graphs, choices) → choices (graphs).
    fn category(&mut self, logits: &Tensor) -> Result<Tensor> {
        match &mut self.drawing {
            Drawing::Greedy => Ok(logits.f_argmax(1, false)?),
            Drawing::Random(random) => {
                let uniform = Self::uniform(random, self.count, self.device)?.f_unsqueeze(1)?;
                let steps = logits.f_softmax(1, Some(Kind::Float))?.f_cumsum(1, None)?;
                // The number of choices whose cumulated probability lies below; rounding may put the last below 1.
                let passed =
                    steps.f_le_tensor(&uniform)?.f_sum_dim_intlist([1_i64].as_slice(), false, None)?;
                Ok(passed.f_clamp_max(logits.size()[1] - 1)?)
            }
        }
    }

    /// Logits (graphs) → true with their probability.
    fn decision(&mut self, logits: &Tensor) -> Result<Tensor> {
        let probability = logits.f_sigmoid()?;
        Ok(match &mut self.drawing {
            Drawing::Greedy => probability.f_gt(0.5)?,
            Drawing::Random(random) => {
                probability.f_gt_tensor(&Self::uniform(random, self.count, self.device)?)?
            }
        })
    }
}

impl Generator {
    /// Codes (graphs, latent) → graphs. The last vertex is END; an END, early or last, takes an edge from every vertex
    /// without successor and finishes its graph.
    pub fn decode(&self, codes: &Tensor, drawing: Drawing<'_>) -> Result<Decoded> {
        let _guard = tch::no_grad_guard();
        let (count, device) = (codes.size()[0], codes.device());
        let mut chooser = Chooser { drawing, device, count: count as usize };
        match &self.layers.edge {
            None => self.decode_types(codes, &mut chooser),
            Some(edge_layer) => {
                let integers = (Kind::Int64, device);
                let types = Tensor::f_full([count, VERTEX_COUNT], -1, integers)?;
                let _ = types.f_select(1, 0)?.f_fill_(START as i64)?;
                let adjacency = Tensor::f_zeros([count, VERTEX_COUNT, VERTEX_COUNT], (Kind::Float, device))?;
                let mut graphs = Decoded { types, adjacency };
                self.decode_graphs(codes, edge_layer, &mut chooser, &mut graphs)?;
                Ok(graphs)
            }
        }
    }

    /// Where edges are fixed: six operations, then END.
    fn decode_types(&self, codes: &Tensor, chooser: &mut Chooser<'_>) -> Result<Decoded> {
        let count = codes.size()[0];
        let edges = self.config.graph.adjacency();
        let messenger = self.layers.messages.prepare()?;
        let column = |value: usize| Tensor::f_full([count], value as i64, (Kind::Int64, codes.device()));
        let mut types = vec![column(START)?];
        let mut state = self.start(codes)?;
        let mut messages = Vec::new();
        for vertex in 1..LAST {
            let logits = self.layers.vertex.forward(&state)?.f_narrow(1, 2, TYPE_COUNT - 2)?;
            let new = chooser.category(&logits)?.f_add_scalar(2)?;
            messages.push(messenger.send(vertex - 1, &state)?);
            let mut received = state.f_zeros_like()?;
            for (message, _) in messages.iter().zip(&edges).filter(|(_, row)| row[vertex]) {
                received = received.f_add(message)?;
            }
            state = self.layers.grow.forward(&one_hot(&new)?, &received)?;
            types.push(new);
        }
        types.push(column(END)?);
        let adjacency = edges_of(&self.config, codes.device())?;
        let adjacency = adjacency.f_unsqueeze(0)?.f_expand([count, VERTEX_COUNT, VERTEX_COUNT], false)?;
        Ok(Decoded { types: Tensor::f_stack(&types, 1)?, adjacency })
    }

    /// As published: any type, and every edge a decision of its own.
    fn decode_graphs(
        &self,
        codes: &Tensor,
        edge_layer: &Perceptron,
        chooser: &mut Chooser<'_>,
        graphs: &mut Decoded,
    ) -> Result<()> {
        let messenger = self.layers.messages.prepare()?;
        let mut growing = graphs.types.f_select(1, 0)?.f_eq(START as i64)?;
        let mut states = vec![self.start(codes)?];
        let mut messages = Vec::new();
        for vertex in 1..VERTICES {
            let column = graphs.types.f_select(1, vertex as i64)?;
            let new = if vertex == LAST {
                column.f_full_like(END as i64)?
            } else {
                chooser.category(&self.layers.vertex.forward(&states[vertex - 1])?)?
            };
            let _ = column.shallow_clone().f_copy_(&new.f_where_self(&growing, &column)?);
            let ends = growing.f_logical_and(&new.f_eq(END as i64)?)?;
            let before = graphs.adjacency.f_narrow(1, 0, vertex as i64)?;
            let loose = before.f_sum_dim_intlist([2_i64].as_slice(), false, None)?.f_eq(0)?;
            let closing = loose.f_logical_and(&ends.f_unsqueeze(1)?)?.f_to_kind(Kind::Float)?;
            let _ = before.f_select(2, vertex as i64)?.f_add_(&closing)?;
            growing = growing.f_logical_and(&ends.f_logical_not()?)?;
            if vertex == LAST {
                break;
            }
            messages.push(messenger.send(vertex - 1, &states[vertex - 1])?);
            let new = one_hot(&new)?;
            let mut received = states[0].f_zeros_like()?;
            let mut state = self.layers.grow.forward(&new, &received)?;
            for earlier in (0..vertex).rev() {
                let pair = Tensor::f_cat(&[&states[earlier], &state], 1)?;
                let logits = edge_layer.forward(&pair)?.f_squeeze_dim(1)?;
                let edge = chooser.decision(&logits)?.f_logical_and(&growing)?.f_to_kind(Kind::Float)?;
                let mut place = graphs.adjacency.f_select(1, earlier as i64)?.f_select(1, vertex as i64)?;
                let _ = place.f_add_(&edge)?;
                received = received.f_add(&messages[earlier].f_mul(&edge.f_unsqueeze(1)?)?)?;
                state = self.layers.grow.forward(&new, &received)?;
            }
            states.push(state);
        }
        Ok(())
    }
}
