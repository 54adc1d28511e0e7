//! The loops with every kind of vector against plain sums in f64.

use half::bf16;
use metad2a_randomness::Key;
use proptest::prelude::*;

use super::loops::{Combine, Gather, MomentsOf, Rows, RowsMut, Spread};
use super::vector::{Element, Loop, Vector};

/// An element that tests make and read.
trait Tested: Element {
    fn from_f64(value: f64) -> Self;
    fn to_f64(self) -> f64;
    /// Of a stored result, relative to the largest one.
    const TOLERANCE: f64;
}

macro_rules! tested {
    ($element:ty, $from:expr, $to:expr, $tolerance:expr) => {
        impl Tested for $element {
            fn from_f64(value: f64) -> Self {
                $from(value)
            }

            fn to_f64(self) -> f64 {
                $to(self)
            }

            const TOLERANCE: f64 = $tolerance;
        }
    };
}

tested!(f64, std::convert::identity, std::convert::identity, 1e-12);
tested!(f32, |value: f64| value as f32, f64::from, 1e-5);
tested!(bf16, bf16::from_f64, bf16::to_f64, 1e-2);

/// Some channels of a map of random numbers, with means far from zero.
struct Map<E> {
    data: Vec<E>,
    stride: usize,
    offset: usize,
}

impl<E: Tested> Map<E> {
    fn random(stream: u64, pixels: usize, (stride, offset): (usize, usize)) -> Self {
        let mut stream = Key::new("unit", "map").stream(stream);
        let data =
            (0..pixels * stride).map(|place| E::from_f64(stream.normal() + (place % stride) as f64 / 4.0));
        Self { data: data.collect(), stride, offset }
    }

    fn rows(&self) -> Rows<'_, E> {
        Rows { data: &self.data, stride: self.stride, offset: self.offset }
    }

    fn at(&self, pixel: usize, channel: usize) -> f64 {
        self.data[pixel * self.stride + self.offset + channel].to_f64()
    }
}

fn figures(stream: u64, channels: usize) -> Vec<f64> {
    let mut stream = Key::new("unit", "figures").stream(stream);
    (0..channels).map(|_| stream.normal()).collect()
}

fn assert_all_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1.0_f64, |scale, value| scale.max(value.abs()));
    for (place, (one, other)) in found.iter().zip(expected).enumerate() {
        assert!((one - other).abs() <= tolerance * scale, "{what} at {place}: {one} instead of {other}");
    }
}

/// `expected(pixel, channel)` of a whole map, row by row.
fn map_of(pixels: usize, channels: usize, expected: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    (0..pixels)
        .flat_map(|pixel| (0..channels).map(move |channel| (pixel, channel)))
        .map(|(pixel, channel)| expected(pixel, channel))
        .collect()
}

fn sums_of(pixels: usize, channels: usize, term: impl Fn(usize, usize) -> f64) -> Vec<f64> {
    (0..channels).map(|channel| (0..pixels).map(|pixel| term(pixel, channel)).sum()).collect()
}

fn check<V: Vector>(pixels: usize, channels: usize, others: usize)
where
    V::Element: Tested,
{
    type Maps<V> = Map<<V as Vector>::Element>;
    let tolerance = V::Element::TOLERANCE;
    let to_f64 = |data: &[V::Element]| -> Vec<f64> { data.iter().map(|value| value.to_f64()).collect() };
    let empty = || vec![V::Element::from_f64(f64::NAN); pixels * channels];
    let input = Maps::<V>::random(0, pixels, (channels + others, others));
    let other = Maps::<V>::random(1, pixels, (channels, 0));
    let (scale, shift) = (figures(0, channels), figures(1, channels));

    let found = MomentsOf { pixels, channels: channels + others, map: Rows { offset: 0, ..input.rows() } };
    if (channels + others).is_multiple_of(V::LANES) {
        let found = found.run::<V>();
        let count = pixels as f64;
        let means: Vec<f64> = sums_of(pixels, channels, |pixel, channel| input.at(pixel, channel))
            .iter()
            .map(|sum| sum / count)
            .collect();
        let variances = sums_of(pixels, channels, |pixel, channel| {
            (input.at(pixel, channel) - means[channel]).powi(2) / count
        });
        let ours = &found[others..];
        assert_all_close(&ours.iter().map(|moments| moments.mean).collect::<Vec<_>>(), &means, 1e-5, "mean");
        assert_all_close(
            &ours.iter().map(|moments| moments.variance).collect::<Vec<_>>(),
            &variances,
            1e-4,
            "variance",
        );
    }

    let (mut value, mut rectified) = (empty(), empty());
    let combine = Combine {
        pixels,
        channels,
        scaled: &[(input.rows(), &scale)],
        plain: &[other.rows()],
        shift: &shift,
        value: Some(RowsMut::whole(&mut value, channels)),
        rectified: Some(RowsMut::whole(&mut rectified, channels)),
    };
    combine.run::<V>();
    let sum = |pixel, channel| {
        input.at(pixel, channel) * scale[channel] + other.at(pixel, channel) + shift[channel]
    };
    assert_all_close(&to_f64(&value), &map_of(pixels, channels, sum), tolerance, "value");
    let positive = map_of(pixels, channels, |pixel, channel| sum(pixel, channel).max(0.0));
    assert_all_close(&to_f64(&rectified), &positive, tolerance, "rectified value");

    let mask = Map { data: rectified, stride: channels, offset: 0 };
    let gradients = [2, 3, 4].map(|stream| Maps::<V>::random(stream, pixels, (channels, 0)));
    let mut total = empty();
    let gather = Gather {
        pixels,
        channels,
        value: &[gradients[0].rows()],
        rectified: &[gradients[1].rows(), gradients[2].rows()],
        mask: Some(mask.rows()),
        normed: &[(input.rows(), &shift)],
        total: RowsMut::whole(&mut total, channels),
    };
    let sums = gather.run::<V>();
    let expected = |pixel, channel| {
        let passed = gradients[1].at(pixel, channel) + gradients[2].at(pixel, channel);
        gradients[0].at(pixel, channel) + if mask.at(pixel, channel) > 0.0 { passed } else { 0.0 }
    };
    assert_all_close(&to_f64(&total), &map_of(pixels, channels, expected), tolerance, "total");
    // Sums are those of the unrounded total.
    assert_all_close(&sums.plain, &sums_of(pixels, channels, expected), 1e-4, "sums");
    let deviations = sums_of(pixels, channels, |pixel, channel| {
        expected(pixel, channel) * (input.at(pixel, channel) - shift[channel])
    });
    assert_all_close(&sums.deviations[0], &deviations, 1e-4, "deviations");

    let stride = channels + others;
    let mut into = vec![V::Element::from_f64(7.0); pixels * stride];
    let spread = Spread {
        pixels,
        channels,
        gradient: other.rows(),
        input: input.rows(),
        scale: &scale,
        slope: &shift,
        shift: &scale,
        into: RowsMut { data: &mut into, stride, offset: 0 },
    };
    spread.run::<V>();
    let expected = map_of(pixels, stride, |pixel, channel| {
        if channel >= channels {
            return 7.0; // Others' channels stay as they were.
        }
        other.at(pixel, channel) * scale[channel] + input.at(pixel, channel) * shift[channel] + scale[channel]
    });
    assert_all_close(&to_f64(&into), &expected, tolerance, "spread");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn loops_compute_their_sums_with_every_kind_of_vector(
        pixels in 1..200_usize, eighths in 1..4_usize, others in 0..3_usize, channels in 1..7_usize,
    ) {
        check::<<f64 as Element>::Plain>(pixels, channels, others);
        check::<<f32 as Element>::Plain>(pixels, channels, others);
        check::<<bf16 as Element>::Plain>(pixels, channels, others);
        if <f32 as Element>::Fast::is_available() {
            check::<<f32 as Element>::Fast>(pixels, 8 * eighths, 8 * others);
            check::<<bf16 as Element>::Fast>(pixels, 8 * eighths, 8 * others);
        }
    }
}

/// Ties, the largest numbers, infinities, and what is not a number.
#[test]
fn bfloat16_is_rounded_as_half_rounds_it() {
    let bits: [u32; 16] = [
        0,
        0x8000_0000,
        0x3f80_8000,
        0x3f81_8000,
        0x3f80_7fff,
        0x3f80_8001,
        0x7f7f_ffff,
        0x7f80_0000,
        0xff80_0000,
        0x7fc0_0000,
        0x7f80_0001,
        0xffff_ffff,
        0x0000_8000,
        0x0001_8000,
        0x8000_8001,
        0xbf80_8000,
    ];
    let values = bits.map(|bits| f64::from(f32::from_bits(bits)));
    check_rounding::<<bf16 as Element>::Plain>(&bits, &values);
    if <bf16 as Element>::Fast::is_available() {
        check_rounding::<<bf16 as Element>::Fast>(&bits, &values);
    }
}

fn check_rounding<V: Vector<Element = bf16>>(bits: &[u32; 16], values: &[f64; 16]) {
    let zeros = vec![bf16::from_f64(0.0); 16];
    let mut stored = vec![bf16::from_f64(1.0); 16];
    let combine = Combine {
        pixels: 1,
        channels: 16,
        scaled: &[(Rows::whole(&zeros, 16), &[0.0; 16])],
        plain: &[],
        shift: values,
        value: Some(RowsMut::whole(&mut stored, 16)),
        rectified: None,
    };
    combine.run::<V>();
    for ((bits, value), stored) in bits.iter().zip(values).zip(stored) {
        let expected = bf16::from_f32(*value as f32);
        let is_same = stored == expected || (stored.is_nan() && expected.is_nan());
        assert!(is_same, "{bits:#x}: {stored:?} instead of {expected:?}");
    }
}
