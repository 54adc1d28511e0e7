//! Stochastic gradient descent with momentum and weight decay, as PyTorch's `SGD` defines it.
//!
//! All parameters live in one flat vector, so that a step is a handful of operations however many parameters there are.

use tch::Tensor;

use crate::Result;

/// The optimiser and its state.
pub(crate) struct Sgd {
    momentum: f64,
    nesterov: bool,
    weight_decay: f64,
    /// What the parameters are views of.
    values: Tensor,
    velocity: Tensor,
}

/// The elements in the order in which they are stored: channels last for convolutions.
fn flattened(tensor: &Tensor) -> Result<Tensor> {
    Ok(if tensor.dim() == 4 { tensor.f_permute([0, 2, 3, 1])? } else { tensor.shallow_clone() }
        .f_reshape([-1])?)
}

impl Sgd {
    /// Moves the parameters, which keep their values, into one vector.
    pub(crate) fn new(
        mut parameters: Vec<Tensor>,
        momentum: f64,
        nesterov: bool,
        weight_decay: f64,
    ) -> Result<Self> {
        let _guard = tch::no_grad_guard();
        let flat = parameters.iter().map(flattened).collect::<Result<Vec<_>>>()?;
        let values = Tensor::f_cat(&flat, 0)?;
        let mut start = 0;
        for parameter in &mut parameters {
            let (size, count) = (parameter.size(), parameter.numel() as i64);
            let part = values.f_narrow(0, start, count)?;
            let view = match *size.as_slice() {
                [outputs, inputs, height, width] => {
                    part.f_view([outputs, height, width, inputs])?.f_permute([0, 3, 1, 2])?
                }
                _ => part.f_view(size.as_slice())?,
            };
            parameter.f_set_data(&view)?;
            start += count;
        }
        let velocity = values.f_zeros_like()?;
        Ok(Self { momentum, nesterov, weight_decay, values, velocity })
    }

    /// The state that a step leaves beside the parameters: one vector, in the order of the parameters.
    pub(crate) fn velocity(&self) -> &Tensor {
        &self.velocity
    }

    /// Takes the velocity of an optimiser over parameters of the same number and order; `false` where it does not fit.
    pub(crate) fn set_velocity(&mut self, velocity: &Tensor) -> Result<bool> {
        if velocity.size() != self.velocity.size() || velocity.kind() != self.velocity.kind() {
            return Ok(false);
        }
        self.velocity.f_copy_(velocity)?;
        Ok(true)
    }

    /// One step down the gradients:
    /// g ← gradient + decay · p; v ← momentum · v + g; p ← p − rate · (g + momentum · v, or v without Nesterov).
    pub(crate) fn step(&mut self, gradients: &[Tensor], learning_rate: f64) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let flat = gradients.iter().map(flattened).collect::<Result<Vec<_>>>()?;
        let mut gradient = Tensor::f_cat(&flat, 0)?;
        if self.weight_decay > 0.0 {
            gradient = gradient.f_add_(&self.values.f_mul_scalar(self.weight_decay)?)?;
        }
        let _ = self.velocity.f_mul_scalar_(self.momentum)?.f_add_(&gradient)?;
        let mut change = if self.nesterov {
            gradient.f_add_(&self.velocity.f_mul_scalar(self.momentum)?)?
        } else {
            self.velocity.copy()
        };
        let _ = self.values.f_sub_(&change.f_mul_scalar_(learning_rate)?)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, path::Path};

    use super::*;
    use crate::layers::channels_last;

    #[test]
    fn steps_are_those_of_pytorch() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sgd.safetensors");
        let golden: HashMap<String, Tensor> = Tensor::read_safetensors(path).unwrap().into_iter().collect();
        let names = ["convolution", "scale", "linear"];
        for (variant, nesterov, decay) in [("nesterov", true, 5e-2), ("plain", false, 0.0)] {
            let parameters = names.map(|name| {
                let first = golden[&format!("first.{name}")].copy();
                if first.dim() == 4 { channels_last(&first).unwrap() } else { first }
            });
            let shared = parameters.iter().map(Tensor::shallow_clone).collect();
            let mut optimizer = Sgd::new(shared, 0.9, nesterov, decay).unwrap();
            for (step, rate) in [0.1, 0.05, 0.02].into_iter().enumerate() {
                let gradients = names.map(|name| golden[&format!("gradient.{step}.{name}")].shallow_clone());
                optimizer.step(&gradients, rate).unwrap();
            }
            for (name, parameter) in names.iter().zip(&parameters) {
                let expected = &golden[&format!("{variant}.{name}")];
                let error = (parameter - expected).abs().max().double_value(&[]);
                assert!(error < 2e-6, "{variant} {name} is off by {error:.1e}");
            }
        }
    }
}
