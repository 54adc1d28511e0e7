//! The predictor: a dataset's vector and a cell's graph, encoded in both directions, become an accuracy.

use metad2a_randomness::Key;
use metad2a_search_space::Cell;
use metad2a_search_space::graph::VERTICES;
use tch::{Device, Tensor};

use crate::checkpoint::{self, Description, TargetScale};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::graphs::{GraphBatch, Messages, TYPE_COUNT};
use crate::layers::{Gru, Linear};
use crate::parameters::{Declarations, Declared, Parameters, values};
use crate::set_encoder::{SetBatch, SetEncoder};

const FILE: &str = "predictor";

/// Parameters of the published predictor that no computation reads.
const UNREAD: [&str; 3] = ["fc2", "hv_unify", "set_fc"];

/// The accuracy predictor.
#[derive(Debug)]
pub struct Predictor {
    config: ModelConfig,
    parameters: Parameters,
    layers: Layers,
    target_scale: Option<TargetScale>,
}

#[derive(Debug)]
struct Layers {
    sets: SetEncoder,
    forward: Direction,
    backward: Direction,
    unify: Linear,
    graph: Linear,
    head: [Linear; 2],
}

/// What passes over the graph in one direction.
#[derive(Debug)]
struct Direction {
    state: Gru,
    messages: Messages,
}

impl Direction {
    fn of(parameters: &Parameters, direction: &str, hidden: i64) -> Self {
        let (gate, mapper) = (format!("gate_{direction}"), format!("mapper_{direction}"));
        Self {
            state: Gru::of(parameters, &format!("grue_{direction}")),
            messages: Messages::of(parameters, &gate, &mapper, hidden),
        }
    }

    /// One-hot types (n, 8, 7) and adjacency (n, 8, 8) whose \[u, v\] is 1 where u sends to v → the state (n, hidden)
    /// of the last vertex in `order`.
    fn sweep(&self, one_hot: &Tensor, adjacency: &Tensor, order: &[usize]) -> Result<Tensor> {
        let messenger = self.messages.prepare()?;
        let count = one_hot.size()[0];
        let mut received =
            Tensor::f_zeros([count, self.messages.hidden()], (one_hot.kind(), one_hot.device()))?;
        let mut sent: Vec<Tensor> = Vec::new();
        let mut state = received.shallow_clone();
        for (place, &vertex) in order.iter().enumerate() {
            if place > 0 {
                let last = order[place - 1];
                sent.push(messenger.send(last, &state)?);
                let edges = adjacency.f_select(2, vertex as i64)?;
                let mut parts = Vec::with_capacity(place);
                for (message, &sender) in sent.iter().zip(order) {
                    parts.push(message.f_mul(&edges.f_select(1, sender as i64)?.f_unsqueeze(1)?)?);
                }
                received = Tensor::f_stack(&parts, 0)?.f_sum_dim_intlist([0_i64].as_slice(), false, None)?;
            }
            state = self.state.forward(&one_hot.f_select(1, vertex as i64)?, &received)?;
        }
        Ok(state)
    }
}

impl Layers {
    fn declare(config: &ModelConfig) -> Vec<Declared> {
        let (hidden, latent) = (config.hidden, config.latent);
        let mut declared = Declarations::default();
        SetEncoder::declare(&mut declared, config);
        for direction in ["forward", "backward"] {
            declared.gru(&format!("grue_{direction}"), TYPE_COUNT, hidden);
            let (gate, mapper) = (format!("gate_{direction}"), format!("mapper_{direction}"));
            Messages::declare(&mut declared, &gate, &mapper, hidden);
        }
        declared.linear("hg_unify.0", 2 * hidden, hidden);
        declared.linear("fc1", hidden, latent);
        declared.linear("pred_fc.0", 2 * latent, hidden);
        declared.linear("pred_fc.2", hidden, 1);
        declared.finish()
    }

    fn of(parameters: &Parameters, config: &ModelConfig) -> Self {
        let linear = |name| Linear::of(parameters, name);
        Self {
            sets: SetEncoder::of(parameters, config),
            forward: Direction::of(parameters, "forward", config.hidden),
            backward: Direction::of(parameters, "backward", config.hidden),
            unify: linear("hg_unify.0"),
            graph: linear("fc1"),
            head: [linear("pred_fc.0"), linear("pred_fc.2")],
        }
    }
}

impl Predictor {
    /// A predictor with first values (`PyTorch`'s default distributions) drawn from `key`, on the CPU.
    pub fn new(config: &ModelConfig, key: &Key) -> Result<Self> {
        config.validate()?;
        Ok(Self::with(config, Parameters::initial(&Layers::declare(config), key), None))
    }

    /// A predictor from safetensors bytes: this crate's, or published weights.
    pub fn load(config: &ModelConfig, bytes: &[u8]) -> Result<Self> {
        config.validate()?;
        let (tensors, scale) = checkpoint::read_model(config, bytes, FILE)?;
        let unread = |name: &str| UNREAD.contains(&name.split('.').next().unwrap_or_default());
        let parameters = Parameters::from_tensors(&Layers::declare(config), tensors, unread, FILE)?;
        Ok(Self::with(config, parameters, scale))
    }

    fn with(config: &ModelConfig, parameters: Parameters, target_scale: Option<TargetScale>) -> Self {
        Self { config: config.clone(), layers: Layers::of(&parameters, config), parameters, target_scale }
    }

    /// The parameters under their published names, with the configuration and the target scale as metadata.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let description = Description { config: self.config.clone(), target_scale: self.target_scale };
        checkpoint::write_model(&self.parameters, &description, FILE)
    }

    /// Moves the parameters. Optimisers made before go on with the old ones.
    pub fn to_device(&mut self, device: Device) -> Result<()> {
        self.parameters = self.parameters.to_device(device)?;
        self.layers = Layers::of(&self.parameters, &self.config);
        Ok(())
    }

    /// The shape.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// How targets became outputs in training. None before the first training step and for published weights, whose
    /// outputs are then returned as they are.
    pub fn target_scale(&self) -> Option<TargetScale> {
        self.target_scale
    }

    /// Tells what the outputs mean: the scale of the data that published weights were trained on.
    pub fn set_target_scale(&mut self, scale: TargetScale) {
        self.target_scale = Some(scale);
    }

    /// → dataset vectors (datasets, latent).
    pub fn encode_sets(&self, sets: &SetBatch) -> Result<Tensor> {
        self.layers.sets.forward(sets)
    }

    /// → graph vectors (graphs, latent).
    pub fn encode_graphs(&self, graphs: &GraphBatch) -> Result<Tensor> {
        let one_hot = graphs.one_hot()?;
        let order: Vec<usize> = (0..VERTICES).collect();
        let reverse: Vec<usize> = (0..VERTICES).rev().collect();
        let ahead = self.layers.forward.sweep(&one_hot, &graphs.adjacency, &order)?;
        let back = self.layers.backward.sweep(&one_hot, &graphs.adjacency.f_transpose(1, 2)?, &reverse)?;
        self.layers.graph.forward(&self.layers.unify.forward(&Tensor::f_cat(&[ahead, back], 1)?)?)
    }

    /// Dataset and graph vectors (n, latent) each → outputs (n, 1), in the units of the scaled targets.
    pub fn head(&self, datasets: &Tensor, graphs: &Tensor) -> Result<Tensor> {
        let [first, second] = &self.layers.head;
        second.forward(&first.forward(&Tensor::f_cat(&[datasets, graphs], 1)?)?.f_tanh()?)
    }

    /// The accuracy of every cell by every picture set: sets → cells → accuracy. Each set and each cell is encoded
    /// once.
    pub fn predict(&self, sets: &SetBatch, cells: &[Cell]) -> Result<Vec<Vec<f64>>> {
        let _guard = tch::no_grad_guard();
        if cells.is_empty() {
            return Ok(vec![Vec::new(); sets.count()]);
        }
        let datasets = self.encode_sets(sets)?;
        let graphs = GraphBatch::of_cells(cells, &self.config, self.parameters.device())?;
        let graphs = self.encode_graphs(&graphs)?;
        let (set_count, cell_count) = (datasets.size()[0], graphs.size()[0]);
        let left = datasets.f_repeat_interleave_self_int(cell_count, 0, None)?;
        let outputs = values(&self.head(&left, &graphs.f_repeat([set_count, 1])?)?)?;
        let TargetScale { mean, scale } = self.target_scale.unwrap_or(TargetScale { mean: 0.0, scale: 1.0 });
        let accuracies: Vec<f64> = outputs.iter().map(|output| mean + scale * f64::from(*output)).collect();
        Ok(accuracies.chunks(cells.len()).map(<[f64]>::to_vec).collect())
    }
}
