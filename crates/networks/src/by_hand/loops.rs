//! The loops over feature maps: one pass over memory each, whatever is done in it.
//!
//! A map is rows of channels, one row a pixel. Rows are visited in tiles that stay in the nearest cache, and in a tile a
//! vector of channels at a time. Sums over pixels are rounded once a tile and kept in f64.
//!
//! **Invariant:** every loop begins by asserting that all its maps have the rows that it visits. That is the safety of
//! its loads and stores; a check of each would take as long as the work.
#![expect(unsafe_code, reason = "loads and stores without a check of each, see above")]
#![expect(
    clippy::inline_always,
    reason = "a loop becomes one function for the instructions that its vectors need"
)]

use super::vector::{Element, Loop, Vector};

/// Rows of a tile.
const TILE: usize = 64;

/// Some channels of every pixel of a map.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a, E> {
    pub(super) data: &'a [E],
    /// Channels of the map.
    pub(super) stride: usize,
    /// The first of ours.
    pub(super) offset: usize,
}

impl<'a, E: Element> Rows<'a, E> {
    /// All channels.
    pub(super) fn whole(data: &'a [E], channels: usize) -> Self {
        Self { data, stride: channels, offset: 0 }
    }

    fn assert_holds(&self, pixels: usize, channels: usize) {
        assert_rows(self.data, (self.stride, self.offset), pixels, channels);
    }

    /// # Safety
    /// The row exists, and as many of its channels from `channel` on as a vector has lanes.
    #[inline(always)]
    unsafe fn load<V: Vector<Element = E>>(&self, row: usize, channel: usize) -> V {
        // SAFETY: the caller's.
        unsafe { V::load(self.data, row * self.stride + self.offset + channel) }
    }
}

/// As [`Rows`], to be written.
pub(super) struct RowsMut<'a, E> {
    pub(super) data: &'a mut [E],
    pub(super) stride: usize,
    pub(super) offset: usize,
}

impl<'a, E: Element> RowsMut<'a, E> {
    /// All channels.
    pub(super) fn whole(data: &'a mut [E], channels: usize) -> Self {
        Self { data, stride: channels, offset: 0 }
    }

    fn assert_holds(&self, pixels: usize, channels: usize) {
        assert_rows(self.data, (self.stride, self.offset), pixels, channels);
    }

    /// # Safety
    /// As for [`Rows::load`].
    #[inline(always)]
    unsafe fn store<V: Vector<Element = E>>(&mut self, vector: V, row: usize, channel: usize) {
        // SAFETY: the caller's.
        unsafe { vector.store(self.data, row * self.stride + self.offset + channel) };
    }
}

fn assert_rows<E>(data: &[E], (stride, offset): (usize, usize), pixels: usize, channels: usize) {
    assert!(offset + channels <= stride, "channels {offset} to {} of {stride}", offset + channels);
    assert!(pixels * stride <= data.len(), "{pixels} rows of {stride} in {} numbers", data.len());
}

/// Mean and (biased) variance of a channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Moments {
    pub(super) mean: f64,
    pub(super) variance: f64,
}

/// [`Moments`] of all channels of a map.
pub(super) struct MomentsOf<'a, E> {
    pub(super) pixels: usize,
    pub(super) channels: usize,
    pub(super) map: Rows<'a, E>,
}

impl<E: Element> Loop<E> for MomentsOf<'_, E> {
    type Output = Vec<Moments>;

    fn channels(&self) -> usize {
        self.channels
    }

    #[inline(always)]
    fn run<V: Vector<Element = E>>(self) -> Vec<Moments> {
        let Self { pixels, channels, map } = self;
        map.assert_holds(pixels, channels);
        let (mut sums, mut squares) = (vec![0.0; channels], vec![0.0; channels]);
        let mut origins = vec![0.0; channels];
        for start in (0..pixels).step_by(TILE) {
            let end = pixels.min(start + TILE);
            for channel in (0..channels).step_by(V::LANES) {
                // SAFETY: rows up to the last pixel were asserted.
                let load = |row: usize| unsafe { map.load::<V>(row, channel) };
                // Deviations from the first pixel: a large mean would leave few digits for the squares.
                let origin = load(0);
                if start == 0 {
                    origin.add_to(&mut origins[channel..]);
                }
                // Several sums, so that an addition need not wait for the one before it.
                let (mut sum, mut square) = ([V::zero(); 4], [V::zero(); 4]);
                let whole = start + (end - start) / 4 * 4;
                for row in (start..whole).step_by(4) {
                    for part in 0..4 {
                        let deviation = load(row + part) - origin;
                        sum[part] += deviation;
                        square[part] += deviation * deviation;
                    }
                }
                for row in whole..end {
                    let deviation = load(row) - origin;
                    sum[0] += deviation;
                    square[0] += deviation * deviation;
                }
                for (parts, totals) in [(sum, &mut sums), (square, &mut squares)] {
                    ((parts[0] + parts[1]) + (parts[2] + parts[3])).add_to(&mut totals[channel..]);
                }
            }
        }
        let count = pixels as f64;
        let moments = sums.iter().zip(&squares).zip(&origins).map(|((sum, square), origin)| {
            let deviation = sum / count;
            let variance = square / count - deviation * deviation;
            // Not `max`, which would hide what is not a number.
            Moments { mean: origin + deviation, variance: if variance < 0.0 { 0.0 } else { variance } }
        });
        moments.collect()
    }
}

/// The sum of a node's terms, into one or both of the outputs.
pub(super) struct Combine<'a, E> {
    pub(super) pixels: usize,
    pub(super) channels: usize,
    /// Each with a factor for every channel.
    pub(super) scaled: &'a [(Rows<'a, E>, &'a [f64])],
    pub(super) plain: &'a [Rows<'a, E>],
    /// Added to every pixel.
    pub(super) shift: &'a [f64],
    pub(super) value: Option<RowsMut<'a, E>>,
    /// Of the rectified sum.
    pub(super) rectified: Option<RowsMut<'a, E>>,
}

impl<E: Element> Loop<E> for Combine<'_, E> {
    type Output = ();

    fn channels(&self) -> usize {
        self.channels
    }

    #[inline(always)]
    fn run<V: Vector<Element = E>>(self) {
        let Self { pixels, channels, scaled, plain, shift, mut value, mut rectified } = self;
        for map in scaled.iter().map(|(map, _)| map).chain(plain) {
            map.assert_holds(pixels, channels);
        }
        for output in value.iter().chain(&rectified) {
            output.assert_holds(pixels, channels);
        }
        let mut tile = [V::zero(); TILE];
        for start in (0..pixels).step_by(TILE) {
            let rows = TILE.min(pixels - start);
            for channel in (0..channels).step_by(V::LANES) {
                tile[..rows].fill(V::load_figures(&shift[channel..]));
                for (map, scale) in scaled {
                    let scale = V::load_figures(&scale[channel..]);
                    for (row, sum) in tile[..rows].iter_mut().enumerate() {
                        // SAFETY: rows up to the last pixel were asserted, here and below.
                        *sum += unsafe { map.load::<V>(start + row, channel) } * scale;
                    }
                }
                for map in plain {
                    for (row, sum) in tile[..rows].iter_mut().enumerate() {
                        *sum += unsafe { map.load::<V>(start + row, channel) };
                    }
                }
                if let Some(value) = &mut value {
                    for (row, sum) in tile[..rows].iter().enumerate() {
                        unsafe { value.store(*sum, start + row, channel) };
                    }
                }
                if let Some(rectified) = &mut rectified {
                    for (row, sum) in tile[..rows].iter().enumerate() {
                        unsafe { rectified.store(sum.rectified(), start + row, channel) };
                    }
                }
            }
        }
    }
}

/// Sums over pixels of a node's gradient.
#[derive(Debug, PartialEq)]
pub(super) struct GradientSums {
    pub(super) plain: Vec<f64>,
    /// Times each batch norm's input, less its mean.
    pub(super) deviations: Vec<Vec<f64>>,
}

/// The sum of all gradients of a node, and what batch norms need of it.
pub(super) struct Gather<'a, E> {
    pub(super) pixels: usize,
    pub(super) channels: usize,
    /// Gradients of the node's value.
    pub(super) value: &'a [Rows<'a, E>],
    /// Gradients of the rectified value.
    pub(super) rectified: &'a [Rows<'a, E>],
    /// The rectified value, which is positive where those gradients pass.
    pub(super) mask: Option<Rows<'a, E>>,
    /// Inputs of batch norms, and their means.
    pub(super) normed: &'a [(Rows<'a, E>, &'a [f64])],
    pub(super) total: RowsMut<'a, E>,
}

impl<E: Element> Loop<E> for Gather<'_, E> {
    type Output = GradientSums;

    fn channels(&self) -> usize {
        self.channels
    }

    #[inline(always)]
    fn run<V: Vector<Element = E>>(self) -> GradientSums {
        let Self { pixels, channels, value, rectified, mask, normed, mut total } = self;
        for map in value.iter().chain(rectified).chain(&mask).chain(normed.iter().map(|(map, _)| map)) {
            map.assert_holds(pixels, channels);
        }
        total.assert_holds(pixels, channels);
        let mut plain = vec![0.0; channels];
        let mut deviations = vec![vec![0.0; channels]; normed.len()];
        let mut tile = [V::zero(); TILE];
        for start in (0..pixels).step_by(TILE) {
            let rows = TILE.min(pixels - start);
            for channel in (0..channels).step_by(V::LANES) {
                tile[..rows].fill(V::zero());
                for map in rectified {
                    for (row, sum) in tile[..rows].iter_mut().enumerate() {
                        // SAFETY: rows up to the last pixel were asserted, here and below.
                        *sum += unsafe { map.load::<V>(start + row, channel) };
                    }
                }
                if let Some(mask) = mask {
                    for (row, sum) in tile[..rows].iter_mut().enumerate() {
                        *sum = sum.where_positive(unsafe { mask.load::<V>(start + row, channel) });
                    }
                }
                for map in value {
                    for (row, sum) in tile[..rows].iter_mut().enumerate() {
                        *sum += unsafe { map.load::<V>(start + row, channel) };
                    }
                }
                for (row, sum) in tile[..rows].iter().enumerate() {
                    unsafe { total.store(*sum, start + row, channel) };
                }
                sum_of(rows, |row| tile[row]).add_to(&mut plain[channel..]);
                for ((map, mean), deviations) in normed.iter().zip(&mut deviations) {
                    let mean = V::load_figures(&mean[channel..]);
                    let product = |row| tile[row] * (unsafe { map.load::<V>(start + row, channel) } - mean);
                    sum_of(rows, product).add_to(&mut deviations[channel..]);
                }
            }
        }
        GradientSums { plain, deviations }
    }
}

/// The sum over the rows of a tile; in two parts, so that an addition need not wait for the one before it.
#[inline(always)]
fn sum_of<V: Vector>(rows: usize, of: impl Fn(usize) -> V) -> V {
    let (mut one, mut other) = (V::zero(), V::zero());
    let even = rows / 2 * 2;
    for row in (0..even).step_by(2) {
        one += of(row);
        other += of(row + 1);
    }
    if even < rows {
        one += of(even);
    }
    one + other
}

/// The gradient of a batch norm's input: gradient · scale + input · slope + shift, channel by channel.
pub(super) struct Spread<'a, E> {
    pub(super) pixels: usize,
    pub(super) channels: usize,
    pub(super) gradient: Rows<'a, E>,
    pub(super) input: Rows<'a, E>,
    pub(super) scale: &'a [f64],
    pub(super) slope: &'a [f64],
    pub(super) shift: &'a [f64],
    pub(super) into: RowsMut<'a, E>,
}

impl<E: Element> Loop<E> for Spread<'_, E> {
    type Output = ();

    fn channels(&self) -> usize {
        self.channels
    }

    #[inline(always)]
    fn run<V: Vector<Element = E>>(self) {
        let Self { pixels, channels, gradient, input, scale, slope, shift, mut into } = self;
        gradient.assert_holds(pixels, channels);
        input.assert_holds(pixels, channels);
        into.assert_holds(pixels, channels);
        for start in (0..pixels).step_by(TILE) {
            let end = pixels.min(start + TILE);
            for channel in (0..channels).step_by(V::LANES) {
                let [scale, slope, shift] = [scale, slope, shift].map(|of| V::load_figures(&of[channel..]));
                for row in start..end {
                    // SAFETY: rows up to the last pixel were asserted.
                    unsafe {
                        let gradient = gradient.load::<V>(row, channel);
                        let input = input.load::<V>(row, channel);
                        into.store((gradient * scale + input * slope) + shift, row, channel);
                    }
                }
            }
        }
    }
}
