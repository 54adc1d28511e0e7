//! A model's parameters by the published model's names, and their first values.

use metad2a_randomness::Key;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// Named parameters (f32), by ascending name. Clones of a tensor share its storage, so the optimiser and the layers
/// see the same numbers.
#[derive(Debug)]
pub struct Parameters {
    entries: Vec<(String, Tensor)>,
}

impl Parameters {
    /// Pairs of name and tensor, by ascending name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Tensor)> {
        self.entries.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// The tensor of this name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        let place = self.entries.binary_search_by(|(entry, _)| entry.as_str().cmp(name)).ok()?;
        Some(&self.entries[place].1)
    }

    /// The number of parameters (not of tensors).
    pub fn count(&self) -> usize {
        self.entries.iter().map(|(_, tensor)| tensor.numel()).sum()
    }

    /// The first values of what is declared: uniform within each bound, drawn from one stream per tensor.
    pub(crate) fn initial(declared: &[Declared], key: &Key) -> Self {
        let entries = declared.iter().enumerate().map(|(place, declared)| {
            let mut random = key.stream(place as u64);
            let count = declared.shape.iter().product::<i64>();
            let values: Vec<f32> =
                (0..count).map(|_| random.uniform_between(-declared.bound, declared.bound) as f32).collect();
            let tensor = Tensor::from_slice(&values).view(declared.shape.as_slice());
            (declared.name.clone(), tensor.set_requires_grad(true))
        });
        Self { entries: entries.collect() }
    }

    /// What is declared, taken from a file's tensors; others are refused unless `ignored`.
    pub(crate) fn from_tensors(
        declared: &[Declared],
        mut tensors: std::collections::BTreeMap<String, Tensor>,
        ignored: impl Fn(&str) -> bool,
        file: &'static str,
    ) -> Result<Self> {
        let refuse = |reason| Err(Error::Checkpoint { file, reason });
        let mut entries = Vec::with_capacity(declared.len());
        for Declared { name, shape, .. } in declared {
            let Some(tensor) = tensors.remove(name) else {
                return refuse(format!("it has no tensor `{name}`"));
            };
            if tensor.size() != *shape {
                let found = tensor.size();
                return refuse(format!(
                    "tensor `{name}` has shape {found:?}, the configuration says {shape:?}"
                ));
            }
            entries.push((name.clone(), tensor.set_requires_grad(true)));
        }
        if let Some(name) = tensors.keys().find(|name| !ignored(name)) {
            return refuse(format!("its tensor `{name}` is not part of the model"));
        }
        Ok(Self { entries })
    }

    /// The same numbers on another device.
    pub(crate) fn to_device(&self, device: Device) -> Result<Self> {
        let entries = self.entries.iter().map(|(name, tensor)| {
            let moved = tensor.f_detach()?.f_to_device(device)?;
            Ok((name.clone(), moved.f_set_requires_grad(true)?))
        });
        Ok(Self { entries: entries.collect::<Result<_>>()? })
    }

    pub(crate) fn device(&self) -> Device {
        self.entries.first().map_or(Device::Cpu, |(_, tensor)| tensor.device())
    }

    /// Forgets all gradients.
    pub(crate) fn zero_grad(&self) {
        for (_, tensor) in &self.entries {
            tensor.shallow_clone().zero_grad();
        }
    }

    /// The tensor of a name that was declared.
    pub(crate) fn expect(&self, name: &str) -> Tensor {
        match self.get(name) {
            Some(tensor) => tensor.shallow_clone(),
            None => unreachable!("the model declares every parameter that it uses, but not `{name}`"),
        }
    }
}

/// A parameter to be made.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Declared {
    name: String,
    shape: Vec<i64>,
    /// First values are uniform in ±bound.
    bound: f64,
}

/// Collects a model's parameters. The bounds are `PyTorch`'s defaults, not tch's.
#[derive(Debug, Default)]
pub(crate) struct Declarations(Vec<Declared>);

impl Declarations {
    fn add(&mut self, name: String, shape: &[i64], bound: f64) {
        self.0.push(Declared { name, shape: shape.to_vec(), bound });
    }

    pub(crate) fn linear(&mut self, name: &str, inputs: i64, outputs: i64) {
        self.linear_without_bias(name, inputs, outputs);
        self.add(format!("{name}.bias"), &[outputs], 1.0 / (inputs as f64).sqrt());
    }

    pub(crate) fn linear_without_bias(&mut self, name: &str, inputs: i64, outputs: i64) {
        self.add(format!("{name}.weight"), &[outputs, inputs], 1.0 / (inputs as f64).sqrt());
    }

    pub(crate) fn gru(&mut self, name: &str, inputs: i64, hidden: i64) {
        let bound = 1.0 / (hidden as f64).sqrt();
        for (part, shape) in [
            ("weight_ih", &[3 * hidden, inputs][..]),
            ("weight_hh", &[3 * hidden, hidden]),
            ("bias_ih", &[3 * hidden]),
            ("bias_hh", &[3 * hidden]),
        ] {
            self.add(format!("{name}.{part}"), shape, bound);
        }
    }

    /// The learned query of an attention pool, Xavier-uniform.
    pub(crate) fn seed(&mut self, name: &str, width: i64) {
        self.add(format!("{name}.S"), &[1, 1, width], (3.0 / width as f64).sqrt());
    }

    /// By ascending name.
    pub(crate) fn finish(mut self) -> Vec<Declared> {
        self.0.sort_by(|a, b| a.name.cmp(&b.name));
        self.0
    }
}

/// A tensor's numbers in memory order. The tensor must be f32 (parameters are).
pub(crate) fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    let flat = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
    let mut values = vec![0_f32; flat.numel()];
    let count = values.len();
    flat.f_copy_data(&mut values, count)?;
    Ok(values)
}
