//! Batch norms as figures of channels: what is scaled by what. The passes over pixels are in [`super::loops`].

use tch::{Kind, Tensor};

use super::loops::{Moments, Rows, RowsMut, Spread};
use super::maps::{Extents, numbers, numbers_mut};
use super::parameters::ParameterGradients;
use super::vector::{Element, run};
use crate::{Result, layers::BatchNorm};

/// A batch norm that is applied to some channels of a map: (y - mean) · inverse · weight + bias.
#[derive(Debug)]
pub(super) struct Normed {
    /// Its input, perhaps among the inputs of others.
    map: Tensor,
    /// The first of its channels in the map.
    offset: usize,
    /// Of its weight among the network's parameters; its bias comes next.
    place: usize,
    mean: Vec<f64>,
    /// 1 / √(variance + ε).
    inverse: Vec<f64>,
    weight: Vec<f64>,
    bias: Vec<f64>,
}

impl Normed {
    /// With the figures of the batch, which the running ones learn from; `moments` are those of the map's channels.
    pub(super) fn of_batch(
        norm: &BatchNorm,
        map: &Tensor,
        offset: usize,
        moments: &[Moments],
    ) -> Result<Self> {
        let extents = Extents::of(map)?;
        let moments = &moments[offset..offset + norm.channels()];
        let pixels = extents.pixels() as f64;
        let [mean, variance] = norm.running();
        // The running variance is that of the population, which a batch is a sample of.
        let unbiased = pixels / (pixels - 1.0).max(1.0);
        learn(mean, moments.iter().map(|moments| moments.mean))?;
        learn(variance, moments.iter().map(|moments| moments.variance * unbiased))?;
        let (mean, variance): (_, Vec<f64>) =
            moments.iter().map(|moments| (moments.mean, moments.variance)).unzip();
        Self::new(norm, map, offset, mean, &variance)
    }

    /// With the running figures.
    pub(super) fn of_running(norm: &BatchNorm, map: &Tensor, offset: usize) -> Result<Self> {
        let [mean, variance] = norm.running();
        Self::new(norm, map, offset, figures(mean)?, &figures(variance)?)
    }

    fn new(norm: &BatchNorm, map: &Tensor, offset: usize, mean: Vec<f64>, variance: &[f64]) -> Result<Self> {
        let inverse = variance.iter().map(|variance| 1.0 / (variance + BatchNorm::EPSILON).sqrt()).collect();
        let [weight, bias] = norm.affine();
        let (weight, bias) = (figures(weight)?, figures(bias)?);
        Ok(Self { map: map.shallow_clone(), offset, place: norm.place(), mean, inverse, weight, bias })
    }

    /// The pixels of its input.
    pub(super) fn rows<E: Element>(&self) -> Result<Rows<'_, E>> {
        let stride = Extents::of(&self.map)?.channels as usize;
        Ok(Rows { data: numbers(&self.map)?, stride, offset: self.offset })
    }

    pub(super) fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Factor of the input in the output.
    pub(super) fn scale(&self) -> Vec<f64> {
        self.weight.iter().zip(&self.inverse).map(|(weight, inverse)| weight * inverse).collect()
    }

    /// Adds to every channel what the output is where the input is zero.
    pub(super) fn add_shift(&self, shift: &mut [f64]) {
        let terms = self.bias.iter().zip(&self.mean).zip(self.scale());
        for (shift, ((bias, mean), scale)) in shift.iter_mut().zip(terms) {
            *shift += bias - mean * scale;
        }
    }

    /// Gradients of a norm with the figures of the batch, of the output's gradient (pixels, channels): that of the input
    /// into `into`, at the same channels as the input.
    ///
    /// With d the output's gradient and P pixels, that of the input is
    /// weight · inverse · (d - Σd / P - (y - mean) · inverse² · Σ(d · (y - mean)) / P).
    pub(super) fn backward<E: Element>(
        &self,
        gradient: &Tensor,
        sums: &[f64],
        deviations: &[f64],
        into: &mut Tensor,
        parameters: &mut ParameterGradients,
    ) -> Result<()> {
        let extents = Extents::of(gradient)?;
        let (channels, pixels) = (extents.channels as usize, extents.pixels());
        let scale = self.scale();
        let (mut slope, mut shift) = (vec![0.0; channels], vec![0.0; channels]);
        let mut of_weight = vec![0.0; channels];
        for channel in 0..channels {
            let inverse = self.inverse[channel];
            of_weight[channel] = deviations[channel] * inverse;
            slope[channel] = -scale[channel] * inverse * inverse * deviations[channel] / pixels as f64;
            shift[channel] =
                -scale[channel] * sums[channel] / pixels as f64 - slope[channel] * self.mean[channel];
        }
        parameters.put(self.place, vector(&of_weight, parameters.kind())?);
        parameters.put(self.place + 1, vector(sums, parameters.kind())?);
        let stride = Extents::of(into)?.channels as usize;
        run(Spread {
            pixels,
            channels,
            gradient: Rows::whole(numbers::<E>(gradient)?, channels),
            input: self.rows()?,
            scale: &scale,
            slope: &slope,
            shift: &shift,
            into: RowsMut { data: numbers_mut(into)?, stride, offset: self.offset },
        });
        Ok(())
    }
}

/// Figures of channels as they stand in a parameter or a running figure, f32 or f64.
fn figures(tensor: &Tensor) -> Result<Vec<f64>> {
    Ok(match tensor.kind() {
        Kind::Double => numbers::<f64>(tensor)?.to_vec(),
        _ => numbers::<f32>(tensor)?.iter().map(|number| f64::from(*number)).collect(),
    })
}

fn vector(figures: &[f64], kind: Kind) -> Result<Tensor> {
    Ok(match kind {
        Kind::Double => Tensor::f_from_slice(figures)?,
        _ => Tensor::f_from_slice(&figures.iter().map(|figure| *figure as f32).collect::<Vec<f32>>())?,
    })
}

/// Moves a running figure towards those of a batch.
fn learn(running: &Tensor, batch: impl Iterator<Item = f64>) -> Result<()> {
    fn moved<'a, E: Copy + Into<f64> + 'a>(
        running: &'a [E],
        batch: impl Iterator<Item = f64> + 'a,
    ) -> impl Iterator<Item = f64> + 'a {
        let share = BatchNorm::MOMENTUM;
        running.iter().zip(batch).map(move |(old, new)| (*old).into() * (1.0 - share) + new * share)
    }
    let kind = running.kind();
    let moved: Vec<f64> = match kind {
        Kind::Double => moved(numbers::<f64>(running)?, batch).collect(),
        _ => moved(numbers::<f32>(running)?, batch).collect(),
    };
    running.shallow_clone().f_copy_(&vector(&moved, kind)?)?;
    Ok(())
}
