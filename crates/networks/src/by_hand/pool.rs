//! Means over 3x3 pixels, at the border over those that exist, and their gradient.
#![expect(
    unsafe_code,
    reason = "loads and stores without a check of each; the loop asserts that its maps are whole"
)]
#![expect(
    clippy::inline_always,
    reason = "a loop becomes one function for the instructions that its vectors need"
)]

use tch::Tensor;

use super::maps::{Extents, numbers, numbers_mut};
use super::vector::{Element, Loop, Vector, run};
use crate::Result;

/// (n, c, h, w) to the same.
pub(super) fn mean_pool<E: Element>(map: &Tensor) -> Result<Tensor> {
    pooled::<E>(map, Weighing::Sums)
}

/// The gradient of the input, of that of the means.
pub(super) fn mean_pool_backward<E: Element>(gradient: &Tensor) -> Result<Tensor> {
    pooled::<E>(gradient, Weighing::Terms)
}

fn pooled<E: Element>(map: &Tensor, weighing: Weighing) -> Result<Tensor> {
    let extents = Extents::of(map)?;
    let mut output = extents.empty::<E>()?;
    run(Pool { extents, weighing, input: numbers::<E>(map)?, output: numbers_mut(&mut output)? });
    Ok(output)
}

/// What is divided by the number of pixels of its mean.
#[derive(Clone, Copy, PartialEq)]
enum Weighing {
    Sums,
    Terms,
}

/// Sums over 3x3 pixels: first down the columns, then along the row.
struct Pool<'a, E> {
    extents: Extents,
    weighing: Weighing,
    input: &'a [E],
    output: &'a mut [E],
}

/// Of 3 pixels side by side around `place`, those that exist, as a factor.
fn share(place: usize, extent: usize) -> f64 {
    let exist = 1 + usize::from(place > 0) + usize::from(place + 1 < extent);
    1.0 / exist as f64
}

impl<E: Element> Loop<E> for Pool<'_, E> {
    type Output = ();

    fn channels(&self) -> usize {
        self.extents.channels as usize
    }

    #[inline(always)]
    fn run<V: Vector<Element = E>>(self) {
        let Self { extents, weighing, input, output } = self;
        let [images, channels, height, width] =
            [extents.images, extents.channels, extents.height, extents.width].map(|extent| extent as usize);
        let row_length = width * channels;
        assert!(images * height * row_length <= input.len().min(output.len()), "maps of {extents:?}");
        let vectors = channels / V::LANES;
        // One pixel of zeros at either end.
        let mut sums = vec![V::zero(); (width + 2) * vectors];
        for image in 0..images {
            for row in 0..height {
                let place = |row: usize, at: usize| (image * height + row) * row_length + at * V::LANES;
                let mut is_first = true;
                for other in row.saturating_sub(1)..height.min(row + 2) {
                    let down = if weighing == Weighing::Terms { share(other, height) } else { 1.0 };
                    for column in 0..width {
                        let along = if weighing == Weighing::Terms { share(column, width) } else { 1.0 };
                        let factor = V::splat(down * along);
                        for vector in 0..vectors {
                            let at = column * vectors + vector;
                            // SAFETY: the whole of the map was asserted, here and below.
                            let term = unsafe { V::load(input, place(other, at)) } * factor;
                            let sum = &mut sums[at + vectors];
                            *sum = if is_first { term } else { *sum + term };
                        }
                    }
                    is_first = false;
                }
                let down = if weighing == Weighing::Sums { share(row, height) } else { 1.0 };
                for column in 0..width {
                    let along = if weighing == Weighing::Sums { share(column, width) } else { 1.0 };
                    let factor = V::splat(down * along);
                    for vector in 0..vectors {
                        let at = column * vectors + vector;
                        let sum = (sums[at] + sums[at + vectors]) + sums[at + 2 * vectors];
                        unsafe { (sum * factor).store(output, place(row, at)) };
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use metad2a_randomness::Key;
    use tch::Kind;

    use super::*;
    use crate::layers::channels_last;

    fn random(size: [i64; 4], kind: Kind, stream: u64) -> Tensor {
        let mut stream = Key::new("unit", "pool").stream(stream);
        let values: Vec<f64> = (0..size.iter().product()).map(|_| stream.normal()).collect();
        channels_last(&Tensor::from_slice(&values).reshape(size).to_kind(kind)).unwrap()
    }

    fn check<E: Element>(size: [i64; 4], tolerance: f64) {
        let map = random(size, E::KIND, 0);
        let exact = map.to_kind(Kind::Double).set_requires_grad(true);
        let expected = exact.avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None::<i64>);
        let gradient = random(size, E::KIND, 1);
        (&expected * gradient.to_kind(Kind::Double)).sum(Kind::Double).backward();
        let pairs = [
            (mean_pool::<E>(&map).unwrap(), expected.detach()),
            (mean_pool_backward::<E>(&gradient).unwrap(), exact.grad()),
        ];
        for (found, expected) in pairs {
            let error = (found.to_kind(Kind::Double) - expected).abs().max().double_value(&[]);
            assert!(error < tolerance, "{size:?} {:?}: {error:.1e}", E::KIND);
        }
    }

    #[test]
    fn means_and_their_gradients_are_those_of_libtorch() {
        for size in [[2, 8, 5, 5], [1, 24, 4, 4], [3, 3, 2, 2], [1, 16, 1, 1], [2, 8, 1, 6]] {
            check::<f64>(size, 1e-12);
            check::<f32>(size, 1e-5);
            check::<bf16>(size, 0.02);
        }
    }
}
