//! The NAS-Bench-201 network of a cell: stem, three stages of cells with reductions between them, classifier.
//!
//! ```text
//!   (n, 3, s, s) ─► stem ─► N cells, C ─► ½ ─► N cells, 2C ─► ½ ─► N cells, 4C ─► BN, ReLU ─► mean ─► logits (n, K)
//! ```
//!
//! Names and shapes of all tensors are those of the published training code (`TinyNetwork` of AutoDL-Projects), so that
//! its weights load. A node is rectified once for all its convolutions; what else is done for speed is told in
//! [`Computation`].

use std::{collections::HashMap, path::Path};

use metad2a_randomness::Key;
use metad2a_search_space::Cell;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::{
    Precision, Result,
    blocks::Block,
    error::require,
    layers::{BatchNorm, Builder, Convolution, Linear, channels_last, cross_entropy},
    weights::{self, Named},
};

/// The size of a network, apart from its cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkShape {
    /// Channels of the first stage.
    pub channels: i64,
    /// Cells in each of the three stages.
    pub cells_per_stage: i64,
    /// Classes that are told apart.
    pub classes: i64,
}

impl NetworkShape {
    fn validate(&self) -> Result<()> {
        require((1..=1024).contains(&self.channels), "channels", "between 1 and 1024", self.channels)?;
        require(
            (1..=64).contains(&self.cells_per_stage),
            "cells_per_stage",
            "between 1 and 64",
            self.cells_per_stage,
        )?;
        require((1..=100_000).contains(&self.classes), "classes", "between 1 and 100000", self.classes)
    }
}

/// How a forward pass computes the cells. Logits and gradients are the same up to rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Computation {
    /// As [`Computation::Fused`], with steps of training and figures by forward and backward passes that are written
    /// out, on a CPU with one thread; elsewhere, and where gradients are to be tracked, it is just that.
    ByHand,
    /// Only operations on a path to the cell's output, and convolutions of one node together. The others' parameters and
    /// running statistics keep their values.
    Fused,
    /// Every operation but `none`, one by one, as the published code does: running statistics of unread convolutions
    /// move, too.
    Plain,
}

/// A network with its weights, on one device.
#[derive(Debug)]
pub struct Network {
    cell: Cell,
    shape: NetworkShape,
    device: Device,
    computation: Computation,
    pub(crate) precision: Precision,
    pub(crate) stem: (Convolution, BatchNorm),
    pub(crate) blocks: Vec<Block>,
    pub(crate) last_norm: BatchNorm,
    pub(crate) classifier: Linear,
    parameters: Vec<Named>,
    /// Places of the parameters that the loss depends on.
    in_use: Vec<usize>,
    statistics: Vec<Named>,
}

/// Loss and gradients of a batch.
#[derive(Debug)]
pub struct Step {
    /// (n, classes).
    pub logits: Tensor,
    /// Mean cross-entropy in nats.
    pub loss: Tensor,
    /// Of the parameters in use, in the order of [`Network::names_in_use`].
    pub gradients: Vec<Tensor>,
}

impl Network {
    /// A network with PyTorch's default first values, drawn from `key`, on the CPU.
    pub fn new(cell: Cell, shape: &NetworkShape, key: &Key) -> Result<Self> {
        Self::new_on(cell, shape, key, Device::Cpu)
    }

    /// As [`Network::new`], on a device. The first values do not depend on it.
    pub fn new_on(cell: Cell, shape: &NetworkShape, key: &Key, device: Device) -> Result<Self> {
        Self::with_options(cell, shape, key, (Kind::Float, device))
    }

    fn with_options(cell: Cell, shape: &NetworkShape, key: &Key, options: (Kind, Device)) -> Result<Self> {
        shape.validate()?;
        let mut builder = Builder::new(key, options);
        let mut channels = shape.channels;
        let stem =
            (builder.convolution("stem.0", (3, channels, 3), 1, 1)?, builder.batch_norm("stem.1", channels)?);
        let mut blocks = Vec::new();
        for stage in 0..3 {
            if stage > 0 {
                let name = format!("cells.{}", blocks.len());
                blocks.push(Block::reduction(&mut builder, &name, channels)?);
                channels *= 2;
            }
            for _ in 0..shape.cells_per_stage {
                let name = format!("cells.{}", blocks.len());
                blocks.push(Block::cell(&mut builder, &name, cell, channels)?);
            }
        }
        let last_norm = builder.batch_norm("lastact.0", channels)?;
        let classifier = builder.linear("classifier", channels, shape.classes)?;
        let (parameters, statistics) = builder.finish();
        let in_use = places_in_use(cell, blocks.len(), &parameters);
        Ok(Self {
            cell,
            shape: *shape,
            device: options.1,
            computation: Computation::ByHand,
            precision: Precision::Float32,
            stem,
            blocks,
            last_norm,
            classifier,
            parameters,
            in_use,
            statistics,
        })
    }

    /// The cell of this network.
    pub fn cell(&self) -> Cell {
        self.cell
    }

    /// The size of this network.
    pub fn shape(&self) -> &NetworkShape {
        &self.shape
    }

    /// Where its weights are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Chooses what later forward passes compute with; [`Precision::Float32`] at first.
    pub fn set_precision(&mut self, precision: Precision) {
        self.precision = precision;
    }

    /// Chooses how later passes compute; [`Computation::ByHand`] at first.
    pub fn set_computation(&mut self, computation: Computation) {
        self.computation = computation;
    }

    /// Pictures (n, 3, s, s), f32, normalised → logits (n, classes).
    ///
    /// `train` normalises with the statistics of the batch and updates the running ones.
    pub fn forward(&self, images: &Tensor, train: bool) -> Result<Tensor> {
        check_images(images)?;
        let images = match self.precision {
            Precision::Float32 => channels_last(images)?,
            Precision::Bfloat16 => channels_last(images)?.f_to_kind(Kind::BFloat16)?,
        };
        let (stem, norm) = &self.stem;
        let mut features = norm.forward(&stem.forward(&images)?, train)?;
        for block in &self.blocks {
            features = block.forward(&features, self.computation, train)?;
        }
        let last = self.last_norm.forward(&features, train)?.f_relu()?;
        let kind = self.classifier.kind();
        self.classifier.forward(&last.f_mean_dim([2_i64, 3].as_slice(), false, kind)?)
    }

    /// As [`Network::forward`] with the running statistics; no gradient is tracked.
    pub fn predict(&self, images: &Tensor) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        if self.computation == Computation::ByHand && self.can_be_computed_by_hand() {
            check_images(images)?;
            return self.predict_by_hand(images);
        }
        self.forward(images, false)
    }

    /// Loss and gradients of a batch of pictures, as in [`Network::forward`], and labels (n), i64, with the statistics of
    /// the batch, which the running ones learn from.
    pub fn step(&self, images: &Tensor, labels: &Tensor) -> Result<Step> {
        if self.computation == Computation::ByHand && self.can_be_computed_by_hand() {
            check_images(images)?;
            return self.step_by_hand(images, labels);
        }
        let logits = self.forward(images, true)?;
        let loss = cross_entropy(&logits, labels)?;
        let gradients = Tensor::f_run_backward(&[&loss], &self.parameters_in_use(), false, false)?;
        Ok(Step { logits: logits.f_detach()?, loss: loss.f_detach()?, gradients })
    }

    /// Names of the parameters that the loss depends on, in the order of [`Network::parameters`].
    pub fn names_in_use(&self) -> impl Iterator<Item = &str> {
        self.in_use.iter().map(|place| self.parameters[*place].0.as_str())
    }

    /// All parameters by name, those of unread convolutions too.
    pub fn parameters(&self) -> &[(String, Tensor)] {
        &self.parameters
    }

    /// All running means and variances by name.
    pub fn statistics(&self) -> &[(String, Tensor)] {
        &self.statistics
    }

    /// The parameters of [`Network::names_in_use`].
    pub(crate) fn parameters_in_use(&self) -> Vec<Tensor> {
        self.in_use.iter().map(|place| self.parameters[*place].1.shallow_clone()).collect()
    }

    pub(crate) fn places_in_use(&self) -> &[usize] {
        &self.in_use
    }

    /// Takes weights and running statistics from a safetensors file. Every name and shape must fit, and nothing may be
    /// left over; otherwise the network is unchanged and the error tells the differences.
    pub fn load(&self, path: &Path) -> Result<()> {
        self.assign(&weights::read(path)?, &path.display().to_string())
    }

    /// As [`Network::load`], from tensors by name.
    pub fn load_tensors(&self, tensors: &HashMap<String, Tensor>) -> Result<()> {
        let tensors: Vec<Named> =
            tensors.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        self.assign(&tensors, "given tensors")
    }

    pub(crate) fn assign(&self, tensors: &[Named], origin: &str) -> Result<()> {
        let network = format!(
            "the network of `{}` with {} channels, {} cells per stage and {} classes",
            self.cell, self.shape.channels, self.shape.cells_per_stage, self.shape.classes
        );
        weights::assign(&self.tensors(), tensors, origin, &network, |_| false)
    }

    /// Safetensors bytes of weights and running statistics; cell and size stand in the metadata key `metad2a` as JSON.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let description = json!({
            "cell": self.cell,
            "channels": self.shape.channels,
            "cells_per_stage": self.shape.cells_per_stage,
            "classes": self.shape.classes,
        });
        weights::encode(&self.tensors(), description.to_string())
    }

    /// Writes [`Network::to_safetensors`] to a file, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<()> {
        weights::write(path, &self.to_safetensors()?)
    }

    fn tensors(&self) -> Vec<Named> {
        let all = self.parameters.iter().chain(&self.statistics);
        all.map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }
}

fn check_images(images: &Tensor) -> Result<()> {
    let size = images.size();
    let fits = size.len() == 4 && size[1] == 3 && size[2] == size[3] && size[2] >= 4 && size[2] % 4 == 0;
    require(fits, "images", "of shape (n, 3, s, s), s a multiple of 4", format!("{size:?}"))
}

/// Places of the parameters that the loss depends on.
fn places_in_use(cell: Cell, blocks: usize, parameters: &[Named]) -> Vec<usize> {
    let reaching = cell.edges_reaching_output();
    let carries_signal = cell.live_edges().contains(&true);
    let last_cell = format!("cells.{}.", blocks - 1);
    let is_used = |name: &str| {
        let edge = name.split_once(".layers.").and_then(|(_, rest)| rest.get(..1)?.parse::<usize>().ok());
        // Where no cell passes its input on, nothing before the last one matters.
        let is_connected = carries_signal
            || name.starts_with("lastact.")
            || name.starts_with("classifier.")
            || name.starts_with(&last_cell);
        is_connected && edge.is_none_or(|edge| reaching[edge])
    };
    let places = parameters.iter().enumerate().filter(|(_, (name, _))| is_used(name));
    places.map(|(place, _)| place).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SHAPE: NetworkShape = NetworkShape { channels: 2, cells_per_stage: 2, classes: 3 };

    /// In f64: in f32, rounding may turn the sign of a value before a rectifier, which changes gradients visibly.
    fn network(cell: Cell, computation: Computation) -> Network {
        let (key, options) = (Key::new("unit", "weights"), (Kind::Double, Device::Cpu));
        let mut network = Network::with_options(cell, &SHAPE, &key, options).unwrap();
        network.set_computation(computation);
        network
    }

    fn images() -> Tensor {
        let mut stream = Key::new("unit", "pictures").stream(0);
        let values: Vec<f64> = (0..2 * 3 * 64).map(|_| stream.normal()).collect();
        Tensor::from_slice(&values).reshape([2, 3, 8, 8])
    }

    fn labels() -> Tensor {
        Tensor::from_slice(&[0_i64, 2])
    }

    /// The largest difference must be rounding's, on the scale of `all` figures of a kind.
    fn assert_close(one: &Tensor, other: &Tensor, scale: f64, what: &str) {
        let difference = (one - other).abs().max().double_value(&[]);
        assert!(difference <= 1e-7 * scale.max(1e-3), "{what}: {difference:.1e} on a scale of {scale:.1e}");
    }

    /// A way of computing gives what the plain one gives.
    fn check(cell: Cell, computation: Computation) {
        tch::set_num_threads(1);
        let (found, plain) = (network(cell, computation), network(cell, Computation::Plain));
        assert!(computation != Computation::ByHand || found.can_be_computed_by_hand());
        let what = |name: &str| format!("{computation:?} {cell} {name}");
        let [one, other] = [&found, &plain].map(|network| network.step(&images(), &labels()).unwrap());
        let largest = |tensor: &Tensor| tensor.abs().max().double_value(&[]);
        assert_close(&one.logits, &other.logits, largest(&other.logits), &what("logits"));
        assert_close(&one.loss, &other.loss, 1.0, &what("loss"));
        let steepest = other.gradients.iter().map(largest).fold(0.0, f64::max);
        assert_eq!(one.gradients.len(), other.gradients.len());
        for (name, (one, other)) in found.names_in_use().zip(one.gradients.iter().zip(&other.gradients)) {
            assert_close(one, other, steepest, &what(name));
        }
        let reaching = cell.edges_reaching_output();
        for ((name, one), (_, other)) in found.statistics().iter().zip(plain.statistics()) {
            let edge = name.split_once(".layers.").map(|(_, rest)| rest[..1].parse::<usize>().unwrap());
            if edge.is_none_or(|edge| reaching[edge]) {
                assert_close(one, other, largest(other), &what(name));
            }
        }
        // With the running statistics, too, of which the last step changed some.
        let [one, other] = [&found, &plain].map(|network| network.predict(&images()).unwrap());
        assert_close(&one, &other, largest(&other), &what("logits in use"));
        if computation == Computation::Fused {
            check_parameters_in_use(&found);
        }
    }

    /// They are those that autograd finds a gradient of.
    fn check_parameters_in_use(network: &Network) {
        let logits = network.forward(&images(), true).unwrap();
        cross_entropy(&logits, &labels()).unwrap().backward();
        let used = network.parameters_in_use();
        let tensors = network.parameters.iter().map(|(_, tensor)| tensor);
        let with_gradient: Vec<&Tensor> = tensors.filter(|tensor| tensor.grad().defined()).collect();
        assert_eq!(used.len(), with_gradient.len(), "{}", network.cell);
        for (one, other) in used.iter().zip(with_gradient) {
            assert_eq!(one.data_ptr(), other.data_ptr(), "{}", network.cell);
        }
    }

    #[test]
    fn cells_that_pass_nothing_on_train_their_head_and_what_still_reaches_it() {
        for cell in [
            // Nothing reaches the output.
            "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|none~0|none~1|none~2|",
            // A convolution of a node that is always zero: its batch norm's shift does.
            "|none~0|+|nor_conv_3x3~0|none~1|+|none~0|nor_conv_1x1~1|none~2|",
            "|none~0|+|none~0|nor_conv_3x3~1|+|none~0|none~1|avg_pool_3x3~2|",
        ] {
            check(cell.parse().unwrap(), Computation::Fused);
            check(cell.parse().unwrap(), Computation::ByHand);
        }
    }

    #[test]
    fn a_network_in_bfloat16_says_nearly_the_same() {
        tch::set_num_threads(1);
        for cell in [
            "|nor_conv_3x3~0|+|nor_conv_1x1~0|avg_pool_3x3~1|+|skip_connect~0|none~1|nor_conv_1x1~2|",
            "|avg_pool_3x3~0|+|nor_conv_3x3~0|nor_conv_1x1~1|+|avg_pool_3x3~0|skip_connect~1|nor_conv_3x3~2|",
        ] {
            let cell: Cell = cell.parse().unwrap();
            let mut network = Network::new(cell, &SHAPE, &Key::new("unit", "weights")).unwrap();
            let images = images().to_kind(Kind::Float);
            let exact = network.predict(&images).unwrap();
            network.set_precision(Precision::Bfloat16);
            for computation in [Computation::Fused, Computation::ByHand] {
                network.set_computation(computation);
                let rounded = network.predict(&images).unwrap();
                assert_eq!(rounded.kind(), Kind::Float);
                let difference = (&exact - &rounded).abs().max().double_value(&[]);
                let largest = exact.abs().max().double_value(&[]);
                // bfloat16 has 8 bits of precision.
                let is_near = difference > 0.0 && difference < 0.05 * largest;
                assert!(is_near, "{computation:?} {cell}: {difference} of {largest}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn fused_cells_are_the_plain_ones_and_parameters_in_use_are_those_with_a_gradient(
            index in 0..metad2a_search_space::CELL_COUNT
        ) {
            check(Cell::all().nth(index).unwrap(), Computation::Fused);
        }

        #[test]
        fn steps_by_hand_are_those_of_autograd(index in 0..metad2a_search_space::CELL_COUNT) {
            check(Cell::all().nth(index).unwrap(), Computation::ByHand);
        }
    }
}
