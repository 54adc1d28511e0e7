//! The generator: a dataset's vector becomes a Gaussian over codes, and a code grows a graph vertex by vertex.

mod decode;
mod loss;

use metad2a_randomness::Key;
use metad2a_search_space::graph::START;
use tch::{Device, Kind, Tensor};

use crate::checkpoint::{self, Description};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::graphs::{Messages, TYPE_COUNT, VERTEX_COUNT, one_hot};
use crate::layers::{Gru, Linear, Perceptron};
use crate::parameters::{Declarations, Declared, Parameters};
use crate::set_encoder::{SetBatch, SetEncoder};

pub use decode::{Decoded, Drawing};
pub use loss::GeneratorLoss;

const FILE: &str = "generator";

/// Parameters of the published generator that no computation reads.
const UNREAD: [&str; 11] = [
    "grue_forward",
    "grue_backward",
    "enc_g_mu",
    "enc_g_var",
    "gate_forward",
    "gate_backward",
    "mapper_forward",
    "mapper_backward",
    "hv_unify",
    "hg_unify",
    "set_fc",
];

/// The graph generator: q(code | dataset) is Gaussian, p(graph | code) autoregressive.
#[derive(Debug)]
pub struct Generator {
    config: ModelConfig,
    parameters: Parameters,
    layers: Layers,
}

#[derive(Debug)]
struct Layers {
    sets: SetEncoder,
    mean: Linear,
    log_variance: Linear,
    start: Linear,
    grow: Gru,
    messages: Messages,
    /// Last vertex's states → logits of the next vertex's type.
    vertex: Perceptron,
    /// States of an earlier and of the new vertex → logit of an edge. Absent where the edges are fixed.
    edge: Option<Perceptron>,
}

impl Layers {
    fn declare(config: &ModelConfig) -> Vec<Declared> {
        let (hidden, latent) = (config.hidden, config.latent);
        let mut declared = Declarations::default();
        SetEncoder::declare(&mut declared, config);
        declared.linear("fc1", latent, latent);
        declared.linear("fc2", latent, latent);
        declared.linear("fc3", latent, hidden);
        declared.gru("grud", TYPE_COUNT, hidden);
        Messages::declare(&mut declared, "decoding_gate", "decoding_mapper", hidden);
        Perceptron::declare(&mut declared, "add_vertex", hidden, 2 * hidden, TYPE_COUNT);
        if !config.fixed_edges {
            Perceptron::declare(&mut declared, "add_edge", 2 * hidden, 4 * hidden, 1);
        }
        declared.finish()
    }

    fn of(parameters: &Parameters, config: &ModelConfig) -> Self {
        let linear = |name| Linear::of(parameters, name);
        Self {
            sets: SetEncoder::of(parameters, config),
            mean: linear("fc1"),
            log_variance: linear("fc2"),
            start: linear("fc3"),
            grow: Gru::of(parameters, "grud"),
            messages: Messages::of(parameters, "decoding_gate", "decoding_mapper", config.hidden),
            vertex: Perceptron::of(parameters, "add_vertex"),
            edge: (!config.fixed_edges).then(|| Perceptron::of(parameters, "add_edge")),
        }
    }
}

impl Generator {
    /// A generator with first values (`PyTorch`'s default distributions) drawn from `key`, on the CPU.
    pub fn new(config: &ModelConfig, key: &Key) -> Result<Self> {
        config.validate()?;
        Ok(Self::with(config, Parameters::initial(&Layers::declare(config), key)))
    }

    /// A generator from safetensors bytes: this crate's, or published weights.
    pub fn load(config: &ModelConfig, bytes: &[u8]) -> Result<Self> {
        config.validate()?;
        let (tensors, _) = checkpoint::read_model(config, bytes, FILE)?;
        let unread = |name: &str| {
            let layer = name.split('.').next().unwrap_or_default();
            UNREAD.contains(&layer) || (config.fixed_edges && layer == "add_edge")
        };
        let parameters = Parameters::from_tensors(&Layers::declare(config), tensors, unread, FILE)?;
        Ok(Self::with(config, parameters))
    }

    fn with(config: &ModelConfig, parameters: Parameters) -> Self {
        Self { config: config.clone(), layers: Layers::of(&parameters, config), parameters }
    }

    /// The parameters under their published names, with the configuration as metadata.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let description = Description { config: self.config.clone(), target_scale: None };
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

    /// Mean and logarithm of the variance of the code, each (datasets, latent).
    pub fn posterior(&self, sets: &SetBatch) -> Result<(Tensor, Tensor)> {
        let vector = self.layers.sets.forward(sets)?;
        Ok((self.layers.mean.forward(&vector)?, self.layers.log_variance.forward(&vector)?))
    }

    /// Codes (n, latent) → states of the START vertex (n, hidden).
    fn start(&self, codes: &Tensor) -> Result<Tensor> {
        let state = self.layers.start.forward(codes)?.f_tanh()?;
        let start = Tensor::f_full([codes.size()[0]], START as i64, (Kind::Int64, codes.device()))?;
        self.layers.grow.forward(&one_hot(&start)?, &state)
    }
}

/// The last vertex, whose type is END whatever the model says.
const LAST: usize = VERTEX_COUNT as usize - 1;
