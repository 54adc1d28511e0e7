//! Published weights by name, with batch norms folded into the convolutions before them.

use std::collections::{HashMap, HashSet};

use tch::{Device, Tensor};

use crate::{
    Result,
    layers::channels_last,
    weights::{self, Named},
};

/// The tensors of a file, handed out by name and shape. Problems are collected and told at once by
/// [`Weights::finish`]; until then zeros stand in for what is missing.
pub(super) struct Weights {
    tensors: Vec<Named>,
    by_name: HashMap<String, usize>,
    device: Device,
    wanted: Vec<(String, Vec<i64>)>,
}

/// A square convolution with the batch norm behind it as one operation.
#[derive(Debug)]
pub(super) struct Folded {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    groups: i64,
}

/// The extents of a convolution; `inputs` counts those of one group.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extents {
    pub(super) inputs: i64,
    pub(super) outputs: i64,
    pub(super) kernel: i64,
    pub(super) stride: i64,
    pub(super) groups: i64,
}

impl Weights {
    pub(super) fn new(tensors: Vec<Named>, device: Device) -> Self {
        let by_name = tensors.iter().enumerate().map(|(place, (name, _))| (name.clone(), place)).collect();
        Self { tensors, by_name, device, wanted: Vec::new() }
    }

    fn take(&mut self, name: String, shape: &[i64]) -> Result<Tensor> {
        let found = self.by_name.get(&name).map(|&place| &self.tensors[place].1);
        let tensor = match found.filter(|tensor| tensor.size() == shape) {
            Some(tensor) => tensor.f_to_device(self.device)?,
            None => Tensor::f_zeros(shape, (tch::Kind::Float, self.device))?,
        };
        self.wanted.push((name, shape.to_vec()));
        Ok(tensor)
    }

    /// A convolution without bias, and the batch norm behind it: w' = w · s and b' = β − μ · s, s = γ / √(σ² + ε).
    pub(super) fn folded(
        &mut self,
        convolution: &str,
        norm: &str,
        extents: Extents,
        epsilon: f64,
    ) -> Result<Folded> {
        let Extents { inputs, outputs, kernel, stride, groups } = extents;
        let weight = self.take(format!("{convolution}.weight"), &[outputs, inputs, kernel, kernel])?;
        let mut vector = |name: &str| self.take(format!("{norm}.{name}"), &[outputs]);
        let (gamma, beta) = (vector("weight")?, vector("bias")?);
        let (mean, variance) = (vector("running_mean")?, vector("running_var")?);
        let scale = gamma.f_div(&variance.f_add_scalar(epsilon)?.f_sqrt()?)?;
        let weight = channels_last(&weight.f_mul(&scale.f_reshape([outputs, 1, 1, 1])?)?)?;
        let bias = beta.f_sub(&mean.f_mul(&scale)?)?;
        Ok(Folded { weight, bias, stride, groups })
    }

    /// Fails where a tensor was missing, had another shape, or was never asked for (a classifier's apart).
    pub(super) fn finish(self, origin: &str, network: &str) -> Result<()> {
        let expected: Vec<Named> = self
            .wanted
            .into_iter()
            .map(|(name, shape)| Ok((name, Tensor::f_zeros(shape, tch::kind::FLOAT_CPU)?)))
            .collect::<Result<_>>()?;
        let classifier: HashSet<&str> = ["_fc.weight", "_fc.bias", "fc.weight", "fc.bias"].into();
        weights::assign(&expected, &self.tensors, origin, network, |name| classifier.contains(name))
    }
}

impl Folded {
    /// Padded as PyTorch's models do it: half the kernel on every side.
    pub(super) fn forward(&self, input: &Tensor) -> Result<Tensor> {
        self.padded(input, self.weight.size()[2] / 2)
    }

    /// Padded as TensorFlow's "SAME" does it: the output has ⌈extent / stride⌉ pixels, and an odd padding puts its
    /// larger part right and below.
    pub(super) fn forward_same(&self, input: &Tensor) -> Result<Tensor> {
        let (_, _, height, _) = input.size4()?;
        let outputs = (height + self.stride - 1) / self.stride;
        let padding = ((outputs - 1) * self.stride + self.weight.size()[2] - height).max(0);
        if padding % 2 == 0 {
            return self.padded(input, padding / 2);
        }
        let (before, after) = (padding / 2, padding - padding / 2);
        self.padded(&input.f_constant_pad_nd([before, after, before, after])?, 0)
    }

    fn padded(&self, input: &Tensor, padding: i64) -> Result<Tensor> {
        let (stride, padding) = ([self.stride; 2], [padding; 2]);
        Ok(input.f_conv2d(&self.weight, Some(&self.bias), stride, padding, [1, 1], self.groups)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One channel, a 3 × 3 kernel of stride 2, and a batch norm that is not the identity.
    fn folded() -> Folded {
        let kernel: Vec<f32> = (1..10).map(|value| value as f32).collect();
        let mut tensors = vec![("c.weight".to_owned(), Tensor::from_slice(&kernel).reshape([1, 1, 3, 3]))];
        for (name, value) in
            [("weight", 3.0_f32), ("bias", 0.5), ("running_mean", 2.0), ("running_var", 0.25)]
        {
            tensors.push((format!("n.{name}"), Tensor::from_slice(&[value])));
        }
        let mut weights = Weights::new(tensors, Device::Cpu);
        let extents = Extents { inputs: 1, outputs: 1, kernel: 3, stride: 2, groups: 1 };
        let folded = weights.folded("c", "n", extents, 2.0).unwrap();
        weights.finish("test", "one layer").unwrap();
        folded
    }

    fn values(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor.reshape([-1])).unwrap()
    }

    /// Batch norm with ε = 2: (x − 2) · 3 / √(0.25 + 2) + 0.5 = 2x − 3.5.
    fn normalised(sums: &[f32]) -> Vec<f32> {
        sums.iter().map(|sum| 2.0 * sum - 3.5).collect()
    }

    #[test]
    fn convolution_and_batch_norm_are_one_and_an_odd_padding_lies_right_and_below() {
        let _guard = tch::no_grad_guard();
        let (layer, ones) = (folded(), Tensor::ones([1, 1, 4, 4], tch::kind::FLOAT_CPU));
        // "SAME" pads right and below only: the window of a corner loses its last row or column there.
        assert_eq!(values(&layer.forward_same(&ones).unwrap()), normalised(&[45.0, 27.0, 21.0, 12.0]));
        // PyTorch's padding of one on every side: the first row and column are lost at the other corner.
        assert_eq!(values(&layer.forward(&ones).unwrap()), normalised(&[28.0, 39.0, 33.0, 45.0]));
    }

    #[test]
    fn same_padding_keeps_the_rounded_up_extent() {
        let _guard = tch::no_grad_guard();
        for extent in [1, 2, 5, 8] {
            let input = Tensor::ones([1, 1, extent, extent], tch::kind::FLOAT_CPU);
            let halved = (extent + 1) / 2;
            assert_eq!(folded().forward_same(&input).unwrap().size(), [1, 1, halved, halved]);
        }
    }
}
