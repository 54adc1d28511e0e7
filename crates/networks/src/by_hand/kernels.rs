//! The loops: one pass over memory each, whatever is done in it.
//!
//! A map is rows of channels, one row a pixel. Rows are visited in tiles that stay in the nearest cache, and in a tile a
//! few channels at a time, whose figures stay in registers. Sums over pixels are rounded once a tile and kept in f64.

use super::element::{Element, Wide, vectorised};

/// Rows of a tile.
const TILE: usize = 64;

/// Some channels of every pixel of a map.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, T> {
    pub(super) data: &'a [T],
    /// Channels of the map.
    pub(super) stride: usize,
    /// The first of ours.
    pub(super) offset: usize,
}

impl<'a, T> Rows<'a, T> {
    /// All channels.
    pub(super) fn whole(data: &'a [T], channels: usize) -> Self {
        Self { data, stride: channels, offset: 0 }
    }
}

/// Mean and (biased) variance of a channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moments {
    pub(super) mean: f64,
    pub(super) variance: f64,
}

/// Rows that are scaled, channel by channel.
pub(super) struct Scaled<'a, T> {
    pub(super) rows: Rows<'a, T>,
    pub(super) scale: &'a [f64],
}

/// What a node is summed of.
pub(super) struct Terms<'a, T> {
    pub(super) scaled: &'a [Scaled<'a, T>],
    pub(super) plain: &'a [&'a [T]],
    /// Added to every pixel.
    pub(super) shift: &'a [f64],
}

/// Gradients of what was read of a node.
pub(super) struct Incoming<'a, T> {
    /// Of the node's value.
    pub(super) value: &'a [&'a [T]],
    /// Of the node's value behind a rectifier.
    pub(super) rectified: &'a [&'a [T]],
    /// The rectified value, which is positive where those gradients pass.
    pub(super) mask: Option<&'a [T]>,
}

/// Sums over pixels of a node's gradient.
#[derive(Debug, PartialEq)]
pub(super) struct GradientSums {
    pub(super) plain: Vec<f64>,
    /// Times each convolution's deviation from its mean.
    pub(super) deviations: Vec<Vec<f64>>,
}

/// Calls a function with the number of channels that it takes at once.
macro_rules! by_lanes {
    ($channels:expr, $function:ident::<$element:ident>($($argument:expr),* $(,)?)) => {
        match $channels {
            channels if channels % 16 == 0 => vectorised(|| $function::<$element, 16>($($argument),*)),
            channels if channels % 8 == 0 => vectorised(|| $function::<$element, 8>($($argument),*)),
            _ => vectorised(|| $function::<$element, 1>($($argument),*)),
        }
    };
}

/// Of all channels of a map.
pub(super) fn moments<T: Element>(data: &[T], channels: usize) -> Vec<Moments> {
    by_lanes!(channels, moments_of::<T>(data, channels))
}

/// The sum of the terms, into one or both of the outputs.
pub(super) fn combine<T: Element>(
    channels: usize,
    terms: &Terms<'_, T>,
    value: Option<&mut [T]>,
    rectified: Option<&mut [T]>,
) {
    by_lanes!(channels, combine_of::<T>(channels, terms, value, rectified));
}

/// The sum of all gradients of a node, into `total`, and what batch norms need of it; `normed` holds their inputs and
/// means.
pub(super) fn gather<T: Element>(
    channels: usize,
    incoming: &Incoming<'_, T>,
    normed: &[(Rows<'_, T>, &[f64])],
    total: &mut [T],
) -> GradientSums {
    by_lanes!(channels, gather_of::<T>(channels, incoming, normed, total))
}

/// The gradient of a batch norm's input: gradient · scale + input · slope + shift, into the channels from `offset` of
/// rows of `stride`.
pub(super) fn spread<T: Element>(
    channels: usize,
    gradient: &[T],
    input: Rows<'_, T>,
    [scale, slope, shift]: [&[f64]; 3],
    (into, stride, offset): (&mut [T], usize, usize),
) {
    by_lanes!(
        channels,
        spread_of::<T>(channels, gradient, input, [scale, slope, shift], (&mut *into, stride, offset))
    );
}

#[inline(always)]
fn load<T: Element, const LANES: usize>(data: &[T], start: usize) -> [T::Wide; LANES] {
    let mut wide = [T::Wide::default(); LANES];
    for (wide, value) in wide.iter_mut().zip(&data[start..start + LANES]) {
        *wide = value.widen();
    }
    wide
}

#[inline(always)]
fn load_row<T: Element, const LANES: usize>(rows: Rows<'_, T>, row: usize, channel: usize) -> [T::Wide; LANES] {
    load(rows.data, row * rows.stride + rows.offset + channel)
}

#[inline(always)]
fn store<T: Element, const LANES: usize>(data: &mut [T], start: usize, wide: &[T::Wide; LANES]) {
    for (value, wide) in data[start..start + LANES].iter_mut().zip(wide) {
        *value = T::narrow(*wide);
    }
}

#[inline(always)]
fn figures<W: Wide, const LANES: usize>(of: &[f64], channel: usize) -> [W; LANES] {
    let mut figures = [W::default(); LANES];
    for (figure, value) in figures.iter_mut().zip(&of[channel..channel + LANES]) {
        *figure = W::from_f64(*value);
    }
    figures
}

#[inline(always)]
fn add_to<W: Wide>(totals: &mut [f64], sums: &[W]) {
    for (total, sum) in totals.iter_mut().zip(sums) {
        *total += sum.to_f64();
    }
}

#[inline(always)]
fn moments_of<T: Element, const LANES: usize>(data: &[T], channels: usize) -> Vec<Moments> {
    let pixels = data.len() / channels;
    let (mut sums, mut squares) = (vec![0.0; channels], vec![0.0; channels]);
    // Deviations from the first pixel: large means would leave few digits for the squares.
    let (first, _) = data.split_at(channels.min(data.len()));
    for start in (0..pixels).step_by(TILE) {
        let end = pixels.min(start + TILE);
        for channel in (0..channels).step_by(LANES) {
            let origin = load::<T, LANES>(first, channel);
            let mut sum = [[T::Wide::default(); LANES]; 2];
            let mut square = [[T::Wide::default(); LANES]; 2];
            let mut add = |row: usize, part: usize| {
                let values = load::<T, LANES>(data, row * channels + channel);
                for lane in 0..LANES {
                    let deviation = values[lane] - origin[lane];
                    sum[part][lane] += deviation;
                    square[part][lane] += deviation * deviation;
                }
            };
            // Two sums, so that an addition need not wait for the one before it.
            let even = start + (end - start) / 2 * 2;
            for row in (start..even).step_by(2) {
                add(row, 0);
                add(row + 1, 1);
            }
            if even < end {
                add(even, 0);
            }
            for part in 0..2 {
                add_to(&mut sums[channel..], &sum[part]);
                add_to(&mut squares[channel..], &square[part]);
            }
        }
    }
    let count = pixels as f64;
    let moments = sums.iter().zip(&squares).zip(first).map(|((sum, square), first)| {
        let deviation = sum / count;
        let variance = (square / count - deviation * deviation).max(0.0);
        Moments { mean: first.widen().to_f64() + deviation, variance }
    });
    moments.collect()
}

#[inline(always)]
fn combine_of<T: Element, const LANES: usize>(
    channels: usize,
    terms: &Terms<'_, T>,
    mut value: Option<&mut [T]>,
    mut rectified: Option<&mut [T]>,
) {
    let length = value.as_ref().or(rectified.as_ref()).map_or(0, |output| output.len());
    let pixels = length / channels;
    let mut tile = [[T::Wide::default(); LANES]; TILE];
    for start in (0..pixels).step_by(TILE) {
        let rows = TILE.min(pixels - start);
        for channel in (0..channels).step_by(LANES) {
            let mut pending = figures::<T::Wide, LANES>(terms.shift, channel);
            let mut is_empty = true;
            for term in terms.scaled {
                let scale = figures::<T::Wide, LANES>(term.scale, channel);
                for (row, sums) in tile[..rows].iter_mut().enumerate() {
                    let values = load_row::<T, LANES>(term.rows, start + row, channel);
                    for lane in 0..LANES {
                        let before = if is_empty { pending[lane] } else { sums[lane] };
                        sums[lane] = before + values[lane] * scale[lane];
                    }
                }
                is_empty = false;
            }
            for term in terms.plain {
                for (row, sums) in tile[..rows].iter_mut().enumerate() {
                    let values = load::<T, LANES>(term, (start + row) * channels + channel);
                    for lane in 0..LANES {
                        let before = if is_empty { pending[lane] } else { sums[lane] };
                        sums[lane] = before + values[lane];
                    }
                }
                is_empty = false;
            }
            if is_empty {
                tile[..rows].fill(pending);
            }
            pending = [T::Wide::default(); LANES];
            if let Some(value) = value.as_deref_mut() {
                for (row, sums) in tile[..rows].iter().enumerate() {
                    store(value, (start + row) * channels + channel, sums);
                }
            }
            if let Some(rectified) = rectified.as_deref_mut() {
                for (row, sums) in tile[..rows].iter().enumerate() {
                    let mut positive = pending;
                    for lane in 0..LANES {
                        // What is not a number stays one.
                        positive[lane] = if sums[lane] <= pending[lane] { pending[lane] } else { sums[lane] };
                    }
                    store(rectified, (start + row) * channels + channel, &positive);
                }
            }
        }
    }
}

#[inline(always)]
fn gather_of<T: Element, const LANES: usize>(
    channels: usize,
    incoming: &Incoming<'_, T>,
    normed: &[(Rows<'_, T>, &[f64])],
    total: &mut [T],
) -> GradientSums {
    let pixels = total.len() / channels;
    let mut plain = vec![0.0; channels];
    let mut deviations = vec![vec![0.0; channels]; normed.len()];
    let zero = [T::Wide::default(); LANES];
    let mut tile = [zero; TILE];
    for start in (0..pixels).step_by(TILE) {
        let rows = TILE.min(pixels - start);
        for channel in (0..channels).step_by(LANES) {
            tile[..rows].fill(zero);
            let place = |row: usize| (start + row) * channels + channel;
            for gradient in incoming.rectified {
                for (row, sums) in tile[..rows].iter_mut().enumerate() {
                    let values = load::<T, LANES>(gradient, place(row));
                    for lane in 0..LANES {
                        sums[lane] += values[lane];
                    }
                }
            }
            if let Some(mask) = incoming.mask {
                for (row, sums) in tile[..rows].iter_mut().enumerate() {
                    let mask = load::<T, LANES>(mask, place(row));
                    for lane in 0..LANES {
                        sums[lane] = if mask[lane] > zero[lane] { sums[lane] } else { zero[lane] };
                    }
                }
            }
            for gradient in incoming.value {
                for (row, sums) in tile[..rows].iter_mut().enumerate() {
                    let values = load::<T, LANES>(gradient, place(row));
                    for lane in 0..LANES {
                        sums[lane] += values[lane];
                    }
                }
            }
            let mut sum = zero;
            for (row, sums) in tile[..rows].iter().enumerate() {
                store(total, place(row), sums);
                for lane in 0..LANES {
                    sum[lane] += sums[lane];
                }
            }
            add_to(&mut plain[channel..], &sum);
            for ((input, mean), deviations) in normed.iter().zip(&mut deviations) {
                let mean = figures::<T::Wide, LANES>(mean, channel);
                let mut sum = zero;
                for (row, sums) in tile[..rows].iter().enumerate() {
                    let values = load_row::<T, LANES>(*input, start + row, channel);
                    for lane in 0..LANES {
                        sum[lane] += sums[lane] * (values[lane] - mean[lane]);
                    }
                }
                add_to(&mut deviations[channel..], &sum);
            }
        }
    }
    GradientSums { plain, deviations }
}

#[inline(always)]
fn spread_of<T: Element, const LANES: usize>(
    channels: usize,
    gradient: &[T],
    input: Rows<'_, T>,
    [scale, slope, shift]: [&[f64]; 3],
    (into, stride, offset): (&mut [T], usize, usize),
) {
    let pixels = gradient.len() / channels;
    for start in (0..pixels).step_by(TILE) {
        let end = pixels.min(start + TILE);
        for channel in (0..channels).step_by(LANES) {
            let [scale, slope, shift] = [scale, slope, shift].map(|of| figures::<T::Wide, LANES>(of, channel));
            for row in start..end {
                let gradient = load::<T, LANES>(gradient, row * channels + channel);
                let input = load_row::<T, LANES>(input, row, channel);
                let mut output = [T::Wide::default(); LANES];
                for lane in 0..LANES {
                    output[lane] = gradient[lane] * scale[lane] + input[lane] * slope[lane] + shift[lane];
                }
                store(into, row * stride + offset + channel, &output);
            }
        }
    }
}
