//! Layers with named parameters, and PyTorch's default initialisations drawn from our own random numbers.
//!
//! tch's own layers are not used: their defaults differ from PyTorch's (batch norms start from random scales,
//! convolutions from a √6 times wider distribution) and they draw from the generator that all networks of a process
//! share.

use metad2a_randomness::Key;
use tch::{Device, Kind, Tensor};

use crate::{Result, weights::Named};

/// Creates layers and remembers their tensors by name, in order of creation.
pub(crate) struct Builder {
    key: Key,
    options: (Kind, Device),
    parameters: Vec<Named>,
    statistics: Vec<Named>,
}

impl Builder {
    /// `options` are those of all tensors.
    pub(crate) fn new(key: &Key, options: (Kind, Device)) -> Self {
        Self { key: key.clone(), options, parameters: Vec::new(), statistics: Vec::new() }
    }

    /// All parameters and all running statistics that were created.
    pub(crate) fn finish(self) -> (Vec<Named>, Vec<Named>) {
        (self.parameters, self.statistics)
    }

    /// A convolution without bias. `extents` is (in, out, kernel); the weight is Uniform(±1/√fan-in), which
    /// is PyTorch's Kaiming-uniform with a = √5.
    pub(crate) fn convolution(
        &mut self,
        name: &str,
        extents: (i64, i64, i64),
        stride: i64,
        padding: i64,
    ) -> Result<Convolution> {
        let (inputs, outputs, kernel) = extents;
        let shape = [outputs, inputs, kernel, kernel];
        let place = self.parameters.len();
        let weight = self.uniform(&format!("{name}.weight"), &shape, inputs * kernel * kernel)?;
        Ok(Convolution { weight, place, stride, padding })
    }

    /// A batch norm with scale 1, shift 0, running mean 0 and running variance 1.
    pub(crate) fn batch_norm(&mut self, name: &str, channels: i64) -> Result<BatchNorm> {
        let options = self.options;
        let ones = || Tensor::f_ones([channels], options);
        let zeros = || Tensor::f_zeros([channels], options);
        let place = self.parameters.len();
        let weight = self.parameter(format!("{name}.weight"), &ones()?)?;
        let bias = self.parameter(format!("{name}.bias"), &zeros()?)?;
        let (mean, variance) = (zeros()?, ones()?);
        self.statistics.push((format!("{name}.running_mean"), mean.shallow_clone()));
        self.statistics.push((format!("{name}.running_var"), variance.shallow_clone()));
        Ok(BatchNorm { weight, bias, place, statistics: Statistics { mean, variance } })
    }

    /// A linear layer with bias, both Uniform(±1/√inputs).
    pub(crate) fn linear(&mut self, name: &str, inputs: i64, outputs: i64) -> Result<Linear> {
        let place = self.parameters.len();
        let weight = self.uniform(&format!("{name}.weight"), &[outputs, inputs], inputs)?;
        let bias = self.uniform(&format!("{name}.bias"), &[outputs], inputs)?;
        Ok(Linear { weight, bias, place })
    }

    fn uniform(&mut self, name: &str, shape: &[i64], fan_in: i64) -> Result<Tensor> {
        let bound = 1.0 / (fan_in as f64).sqrt();
        // One stream per tensor: a tensor's values do not depend on the sizes of those before it.
        let mut stream = self.key.stream(self.parameters.len() as u64);
        let count = shape.iter().product::<i64>();
        let values: Vec<f32> = (0..count).map(|_| stream.uniform_between(-bound, bound) as f32).collect();
        self.parameter(name.to_owned(), &Tensor::f_from_slice(&values)?.f_reshape(shape)?)
    }

    fn parameter(&mut self, name: String, values: &Tensor) -> Result<Tensor> {
        let (kind, device) = self.options;
        let values = values.f_to_kind(kind)?.f_to_device(device)?;
        let values = if values.dim() == 4 { channels_last(&values)? } else { values };
        let parameter = values.f_set_requires_grad(true)?;
        self.parameters.push((name, parameter.shallow_clone()));
        Ok(parameter)
    }
}

/// The same values of (n, c, h, w), stored with the channels of a pixel side by side. Convolutions then need no
/// reordering, which saves about a third of a training step on a CPU.
pub(crate) fn channels_last(images: &Tensor) -> Result<Tensor> {
    Ok(images.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?)
}

/// Mean over the batch.
pub(crate) fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    Ok(logits.f_cross_entropy_loss(labels, None::<&Tensor>, tch::Reduction::Mean, -100, 0.0)?)
}

/// A square convolution without bias.
#[derive(Debug)]
pub(crate) struct Convolution {
    weight: Tensor,
    place: usize,
    stride: i64,
    padding: i64,
}

impl Convolution {
    pub(crate) fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// Of its weight among all parameters, in order of creation.
    pub(crate) fn place(&self) -> usize {
        self.place
    }

    /// Stride, and zeros at each border.
    pub(crate) fn steps(&self) -> (i64, i64) {
        (self.stride, self.padding)
    }

    /// Side of the kernel.
    pub(crate) fn kernel(&self) -> i64 {
        self.weight.size()[2]
    }

    /// The kernel in the middle of one of side `kernel`, with zeros around it.
    pub(crate) fn weight_padded_to(&self, kernel: i64) -> Result<Tensor> {
        let border = (kernel - self.kernel()) / 2;
        if border == 0 {
            return Ok(self.weight.shallow_clone());
        }
        Ok(self.weight.f_constant_pad_nd([border; 4])?)
    }

    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor> {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        let weight = self.weight.f_to_kind(input.kind())?;
        Ok(input.f_conv2d(&weight, None::<&Tensor>, stride, padding, [1, 1], 1)?)
    }
}

/// Batch norm over (n, c, h, w).
#[derive(Debug)]
pub(crate) struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    place: usize,
    statistics: Statistics,
}

impl BatchNorm {
    /// Share of a new batch in the running statistics (PyTorch's default).
    pub(crate) const MOMENTUM: f64 = 0.1;
    /// Added to variances. PyTorch's default.
    pub(crate) const EPSILON: f64 = 1e-5;

    pub(crate) fn channels(&self) -> usize {
        self.weight.numel()
    }

    /// Of its weight among all parameters, in order of creation; its bias comes next.
    pub(crate) fn place(&self) -> usize {
        self.place
    }

    /// Weight and bias.
    pub(crate) fn affine(&self) -> [&Tensor; 2] {
        [&self.weight, &self.bias]
    }

    /// Running mean and variance.
    pub(crate) fn running(&self) -> [&Tensor; 2] {
        [&self.statistics.mean, &self.statistics.variance]
    }

    /// `train` normalises with the batch and updates the running statistics; otherwise those are used.
    pub(crate) fn forward(&self, input: &Tensor, train: bool) -> Result<Tensor> {
        self.statistics.normalise(input, &self.weight, &self.bias, train)
    }
}

/// What a batch norm keeps of the batches that it saw.
#[derive(Debug)]
pub(crate) struct Statistics {
    mean: Tensor,
    variance: Tensor,
}

impl Statistics {
    /// Those of all `norms`, one after another: from now on theirs are parts of these.
    pub(crate) fn joined(norms: &[&BatchNorm]) -> Result<Self> {
        let joined = |of: fn(&Self) -> &Tensor| -> Result<Tensor> {
            let parts: Vec<&Tensor> = norms.iter().map(|norm| of(&norm.statistics)).collect();
            let all = Tensor::f_cat(&parts, 0)?;
            let mut start = 0;
            for part in parts {
                let count = part.size()[0];
                part.shallow_clone().f_set_data(&all.f_narrow(0, start, count)?)?;
                start += count;
            }
            Ok(all)
        };
        Ok(Self { mean: joined(|part| &part.mean)?, variance: joined(|part| &part.variance)? })
    }

    /// Normalises over all channels with the scales and shifts of `norms`, which these statistics were joined of.
    pub(crate) fn forward(&self, norms: &[&BatchNorm], input: &Tensor, train: bool) -> Result<Tensor> {
        let joined = |of: fn(&BatchNorm) -> &Tensor| {
            Tensor::f_cat(&norms.iter().map(|norm| of(norm)).collect::<Vec<_>>(), 0)
        };
        self.normalise(input, &joined(|norm| &norm.weight)?, &joined(|norm| &norm.bias)?, train)
    }

    fn normalise(&self, input: &Tensor, weight: &Tensor, bias: &Tensor, train: bool) -> Result<Tensor> {
        let (mean, variance) = (Some(&self.mean), Some(&self.variance));
        let (weight, bias) = (Some(weight), Some(bias));
        Ok(input.f_batch_norm(
            weight,
            bias,
            mean,
            variance,
            train,
            BatchNorm::MOMENTUM,
            BatchNorm::EPSILON,
            true,
        )?)
    }
}

/// A linear layer with bias.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Tensor,
    place: usize,
}

impl Linear {
    /// Of its weight among all parameters, in order of creation; its bias comes next.
    pub(crate) fn place(&self) -> usize {
        self.place
    }

    /// Weight and bias.
    pub(crate) fn affine(&self) -> [&Tensor; 2] {
        [&self.weight, &self.bias]
    }

    /// Of its weights and of what it takes.
    pub(crate) fn kind(&self) -> Kind {
        self.weight.kind()
    }

    pub(crate) fn forward(&self, input: &Tensor) -> Result<Tensor> {
        Ok(input.f_linear(&self.weight, Some(&self.bias))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(tensor: &Tensor) -> (f64, f64, f64) {
        let tensor = tensor.detach();
        (tensor.min().double_value(&[]), tensor.max().double_value(&[]), tensor.std(true).double_value(&[]))
    }

    #[test]
    fn first_values_have_the_distributions_of_pytorch() {
        let mut builder = Builder::new(&Key::new("unit", "weights"), (Kind::Float, Device::Cpu));
        builder.convolution("conv", (16, 64, 3), 1, 1).unwrap();
        builder.linear("linear", 64, 300).unwrap();
        builder.batch_norm("norm", 5).unwrap();
        let (parameters, statistics) = builder.finish();
        // Uniform(±b) has standard deviation b / √3; PyTorch's bound is b = 1 / √fan-in.
        for (position, fan_in) in [(0, 144.0_f64), (1, 64.0), (2, 64.0)] {
            let (least, most, deviation) = range(&parameters[position].1);
            let bound = 1.0 / fan_in.sqrt();
            assert!(least >= -bound && least < -0.98 * bound, "{least} against {bound}");
            assert!(most <= bound && most > 0.98 * bound, "{most} against {bound}");
            assert!((deviation / (bound / 3.0_f64.sqrt()) - 1.0).abs() < 0.1, "{deviation}");
        }
        let names: Vec<&str> = parameters.iter().chain(&statistics).map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "conv.weight",
                "linear.weight",
                "linear.bias",
                "norm.weight",
                "norm.bias",
                "norm.running_mean",
                "norm.running_var"
            ]
        );
        for (tensor, value) in
            [(&parameters[3], 1.0), (&parameters[4], 0.0), (&statistics[0], 0.0), (&statistics[1], 1.0)]
        {
            assert_eq!(Vec::<f64>::try_from(&tensor.1.detach()).unwrap(), vec![value; 5], "{}", tensor.0);
        }
    }
}
