//! Adam (Kingma and Ba, 2015), written here because tch cannot save an optimiser's state.

use tch::Tensor;

use crate::checkpoint;
use crate::error::{Error, Result, require};
use crate::parameters::Parameters;

const FILE: &str = "optimiser state";

/// Adam's settings. No weight decay and no clipping, as in the paper.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamConfig {
    /// Step size.
    pub learning_rate: f64,
    /// Decay of the mean gradient.
    pub beta1: f64,
    /// Decay of the mean squared gradient.
    pub beta2: f64,
    /// Added to the root of the mean squared gradient.
    pub epsilon: f64,
}

impl Default for AdamConfig {
    fn default() -> Self {
        Self { learning_rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }
    }
}

/// The optimiser over one model's parameters, which it shares: make it after the model is on its device.
#[derive(Debug)]
pub struct Adam {
    config: AdamConfig,
    step: u64,
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    name: String,
    parameter: Tensor,
    /// Mean gradient.
    first: Tensor,
    /// Mean squared gradient.
    second: Tensor,
}

impl Adam {
    /// A fresh optimiser: both means are zero.
    pub fn new(parameters: &Parameters, config: AdamConfig) -> Result<Self> {
        let rate = config.learning_rate;
        require(rate.is_finite() && rate > 0.0, "learning_rate", &rate, "it must be a positive number")?;
        let decay = |beta: f64| (0.0..1.0).contains(&beta);
        require(decay(config.beta1), "beta1", &config.beta1, "it must be at least 0 and below 1")?;
        require(decay(config.beta2), "beta2", &config.beta2, "it must be at least 0 and below 1")?;
        let slots = parameters.iter().map(|(name, parameter)| {
            let zeros = || parameter.f_detach()?.f_zeros_like();
            let (first, second) = (zeros()?, zeros()?);
            Ok(Slot { name: name.to_owned(), parameter: parameter.shallow_clone(), first, second })
        });
        Ok(Self { slots: slots.collect::<Result<_>>()?, config, step: 0 })
    }

    /// An optimiser that goes on where [`Adam::to_safetensors`] was called.
    pub fn load(parameters: &Parameters, config: AdamConfig, bytes: &[u8]) -> Result<Self> {
        let mut adam = Self::new(parameters, config)?;
        let mut stored = checkpoint::read(bytes, FILE)?;
        let mut take = |name: &str, shape: &[i64]| {
            let refuse = |reason| Error::Checkpoint { file: FILE, reason };
            let tensor = stored.remove(name).ok_or_else(|| refuse(format!("it has no tensor `{name}`")))?;
            if tensor.size() == shape {
                Ok(tensor)
            } else {
                let found = tensor.size();
                Err(refuse(format!("tensor `{name}` has shape {found:?}, its parameter {shape:?}")))
            }
        };
        let step = take("step", &[1])?.f_double_value(&[0])?;
        for slot in &mut adam.slots {
            let (shape, device) = (slot.parameter.size(), slot.parameter.device());
            slot.first = take(&format!("exp_avg.{}", slot.name), &shape)?.f_to_device(device)?;
            slot.second = take(&format!("exp_avg_sq.{}", slot.name), &shape)?.f_to_device(device)?;
        }
        if let Some(name) = stored.keys().next() {
            let reason = format!("its tensor `{name}` belongs to no parameter of the model");
            return Err(Error::Checkpoint { file: FILE, reason });
        }
        if step < 0.0 || step.fract() != 0.0 || step > EXACT_STEPS {
            return Err(Error::Checkpoint {
                file: FILE,
                reason: format!("its step {step} is no step number"),
            });
        }
        adam.step = step as u64;
        Ok(adam)
    }

    /// The number of steps taken, and both means of each parameter: `step`, `exp_avg.NAME`, `exp_avg_sq.NAME`.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let step = Tensor::from_slice(&[self.step as f32]);
        let means = self.slots.iter().flat_map(|slot| {
            [
                (format!("exp_avg.{}", slot.name), &slot.first),
                (format!("exp_avg_sq.{}", slot.name), &slot.second),
            ]
        });
        checkpoint::write(std::iter::once(("step".to_owned(), &step)).chain(means), None, FILE)
    }

    /// The number of steps taken.
    pub fn steps_taken(&self) -> u64 {
        self.step
    }

    /// One update from the parameters' gradients. A parameter without a gradient stays as it is.
    pub(crate) fn step(&mut self) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let AdamConfig { learning_rate, beta1, beta2, epsilon } = self.config;
        self.step += 1;
        let steps = self.step as f64;
        let size = learning_rate / (1.0 - beta1.powf(steps));
        let correction = (1.0 - beta2.powf(steps)).sqrt();
        for slot in &mut self.slots {
            let gradient = slot.parameter.grad();
            if !gradient.defined() {
                continue;
            }
            let _ = slot.first.f_lerp_(&gradient, 1.0 - beta1)?;
            let squared = gradient.f_square()? * (1.0 - beta2);
            let _ = slot.second.f_mul_scalar_(beta2)?.f_add_(&squared)?;
            let root = (slot.second.f_sqrt()? / correction).f_add_scalar_(epsilon)?;
            let change = (&slot.first / root) * -size;
            let _ = slot.parameter.f_add_(&change)?;
        }
        Ok(())
    }
}

/// The step is stored as f32, which holds whole numbers up to here.
const EXACT_STEPS: f64 = 16_777_216.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::Declarations;
    use metad2a_randomness::Key;

    #[test]
    fn the_first_step_moves_every_parameter_by_the_learning_rate_against_its_gradient() {
        let mut declared = Declarations::default();
        declared.linear("layer", 3, 2);
        let parameters = Parameters::initial(&declared.finish(), &Key::new("adam", "weights"));
        let before = checkpoint::write(parameters.iter(), None, FILE).expect("it is written");
        let before = checkpoint::read(&before, FILE).expect("it is read");
        let config = AdamConfig { learning_rate: 0.01, ..AdamConfig::default() };
        let mut adam = Adam::new(&parameters, config).expect("the settings are sound");
        let weight = parameters.expect("layer.weight");
        (weight.sum(tch::Kind::Float) * 3.0).backward();
        adam.step().expect("a step");
        let moved = f64::try_from((weight.detach() - &before["layer.weight"]).max()).expect("a number");
        assert!((moved + 0.01).abs() < 1e-6, "{moved}");
        // The bias had no gradient.
        assert_eq!(parameters.expect("layer.bias").detach(), before["layer.bias"]);
    }

    #[test]
    fn a_state_of_another_model_is_refused() {
        let make = |width| {
            let mut declared = Declarations::default();
            declared.linear("layer", width, 2);
            Parameters::initial(&declared.finish(), &Key::new("adam", "weights"))
        };
        let stored = Adam::new(&make(3), AdamConfig::default()).and_then(|adam| adam.to_safetensors());
        let error = Adam::load(&make(4), AdamConfig::default(), &stored.expect("it is written"));
        assert!(error.expect_err("another width").to_string().contains("exp_avg.layer.weight"));
    }
}
