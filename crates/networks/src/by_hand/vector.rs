//! Kinds of numbers that feature maps are stored in, and vectors of them.
//!
//! Vectors are explicit because compilers turn sums over pixels into scalar code. Eight lanes are the narrowest map's
//! channels, and what every x86 processor since 2013 has; loops over maps wait for memory, which wider ones do not help.
#![expect(unsafe_code, reason = "loads and stores that do not check their place, and intrinsics")]
#![expect(
    clippy::inline_always,
    reason = "a loop and all of it must become one function for its instructions"
)]

use std::ops::{Add, AddAssign, Mul, Sub};

use half::bf16;
use tch::Kind;

/// A kind of number that feature maps are stored in.
pub(super) trait Element: Copy + 'static {
    const KIND: Kind;
    /// What is used on a processor that has it.
    type Fast: Vector<Element = Self>;
    /// What is used otherwise.
    type Plain: Vector<Element = Self>;
}

/// Some numbers side by side, widened to what sums are computed in.
///
/// Everything is to be marked `#[inline(always)]`: it becomes part of a function for the instructions that it needs.
pub(super) trait Vector:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + AddAssign
{
    type Element: Element;
    const LANES: usize;

    /// Whether this processor has the instructions.
    fn is_available() -> bool;
    fn zero() -> Self;
    /// The same number in every lane.
    fn splat(number: f64) -> Self;
    /// The numbers from `place` on.
    ///
    /// # Safety
    /// There are as many as lanes.
    unsafe fn load(from: &[Self::Element], place: usize) -> Self;
    /// The first of the figures.
    fn load_figures(from: &[f64]) -> Self;
    /// Rounded to the nearest, into the places from `place` on.
    ///
    /// # Safety
    /// There are as many as lanes.
    unsafe fn store(self, into: &mut [Self::Element], place: usize);
    /// Added to the first places of `totals`.
    fn add_to(self, totals: &mut [f64]);
    /// Where positive, or not a number; zero elsewhere.
    fn rectified(self) -> Self;
    /// Where `mask` is positive; zero elsewhere.
    fn where_positive(self, mask: Self) -> Self;
}

/// A single number.
#[derive(Clone, Copy)]
pub(super) struct Single<W, E> {
    wide: W,
    element: std::marker::PhantomData<E>,
}

macro_rules! single {
    ($element:ty, $wide:ty, $widen:expr, $narrow:expr) => {
        impl Single<$wide, $element> {
            #[inline(always)]
            fn new(wide: $wide) -> Self {
                Self { wide, element: std::marker::PhantomData }
            }
        }

        impl Add for Single<$wide, $element> {
            type Output = Self;
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                Self::new(self.wide + other.wide)
            }
        }

        impl Sub for Single<$wide, $element> {
            type Output = Self;
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                Self::new(self.wide - other.wide)
            }
        }

        impl Mul for Single<$wide, $element> {
            type Output = Self;
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                Self::new(self.wide * other.wide)
            }
        }

        impl AddAssign for Single<$wide, $element> {
            #[inline(always)]
            fn add_assign(&mut self, other: Self) {
                self.wide += other.wide;
            }
        }

        impl Vector for Single<$wide, $element> {
            type Element = $element;
            const LANES: usize = 1;

            fn is_available() -> bool {
                true
            }

            #[inline(always)]
            fn zero() -> Self {
                Self::new(0.0)
            }

            #[inline(always)]
            fn splat(number: f64) -> Self {
                Self::new(number as $wide)
            }

            #[inline(always)]
            unsafe fn load(from: &[$element], place: usize) -> Self {
                Self::new($widen(from[place]))
            }

            #[inline(always)]
            fn load_figures(from: &[f64]) -> Self {
                Self::new(from[0] as $wide)
            }

            #[inline(always)]
            unsafe fn store(self, into: &mut [$element], place: usize) {
                into[place] = $narrow(self.wide);
            }

            #[inline(always)]
            fn add_to(self, totals: &mut [f64]) {
                totals[0] += f64::from(self.wide);
            }

            #[inline(always)]
            fn rectified(self) -> Self {
                Self::new(if self.wide <= 0.0 { 0.0 } else { self.wide })
            }

            #[inline(always)]
            fn where_positive(self, mask: Self) -> Self {
                Self::new(if mask.wide > 0.0 { self.wide } else { 0.0 })
            }
        }
    };
}

single!(f32, f32, std::convert::identity, std::convert::identity);
single!(f64, f64, std::convert::identity, std::convert::identity);
single!(bf16, f32, bf16::to_f32, bf16::from_f32);

/// For the tests of everything above it, which compare in f64.
impl Element for f64 {
    const KIND: Kind = Kind::Double;
    type Fast = Single<f64, f64>;
    type Plain = Single<f64, f64>;
}

impl Element for f32 {
    const KIND: Kind = Kind::Float;
    #[cfg(target_arch = "x86_64")]
    type Fast = avx2::Eight<f32>;
    #[cfg(not(target_arch = "x86_64"))]
    type Fast = Single<f32, f32>;
    type Plain = Single<f32, f32>;
}

impl Element for bf16 {
    const KIND: Kind = Kind::BFloat16;
    #[cfg(target_arch = "x86_64")]
    type Fast = avx2::Eight<bf16>;
    #[cfg(not(target_arch = "x86_64"))]
    type Fast = Single<f32, bf16>;
    type Plain = Single<f32, bf16>;
}

/// A loop over maps, written for any vectors.
pub(super) trait Loop<E: Element> {
    type Output;

    /// Channels that are visited together in the same order everywhere: a vector must divide them.
    fn channels(&self) -> usize;

    /// To be marked `#[inline(always)]`.
    fn run<V: Vector<Element = E>>(self) -> Self::Output;
}

/// Runs a loop with the fastest vectors that fit.
pub(super) fn run<E: Element, L: Loop<E>>(inner: L) -> L::Output {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn with_avx2<E: Element, L: Loop<E>>(inner: L) -> L::Output {
            inner.run::<E::Fast>()
        }
        if E::Fast::LANES > 1 && inner.channels().is_multiple_of(E::Fast::LANES) && E::Fast::is_available() {
            // SAFETY: the processor has the instructions.
            return unsafe { with_avx2::<E, L>(inner) };
        }
    }
    inner.run::<E::Plain>()
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    //! **Invariant:** a vector exists only where the processor has AVX2, because [`super::run`] asks first; that is the
    //! safety of every intrinsic here.

    use std::arch::x86_64::{
        __m128i, __m256, _CMP_GT_OQ, _CMP_NLE_UQ, _CMP_UNORD_Q, _mm_loadu_si128, _mm_storeu_si128,
        _mm256_add_epi32, _mm256_add_pd, _mm256_add_ps, _mm256_and_ps, _mm256_and_si256, _mm256_blendv_epi8,
        _mm256_castps_si256, _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_castsi256_si128,
        _mm256_cmp_ps, _mm256_cvtepu16_epi32, _mm256_cvtpd_ps, _mm256_cvtps_pd, _mm256_extractf128_ps,
        _mm256_loadu_pd, _mm256_loadu_ps, _mm256_mul_ps, _mm256_packus_epi32, _mm256_permute4x64_epi64,
        _mm256_set_m128, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi32,
        _mm256_srli_epi32, _mm256_storeu_pd, _mm256_storeu_ps, _mm256_sub_ps,
    };
    use std::marker::PhantomData;
    use std::ops::{Add, AddAssign, Mul, Sub};

    use half::bf16;

    use super::{Element, Vector};

    /// Eight numbers, computed with in f32.
    #[derive(Clone, Copy)]
    pub(in crate::by_hand) struct Eight<E> {
        wide: __m256,
        element: PhantomData<E>,
    }

    /// How eight numbers are stored.
    pub(in crate::by_hand) trait Stored: Sized {
        /// # Safety
        /// Eight lie there.
        unsafe fn load(from: *const Self) -> __m256;
        /// # Safety
        /// There is room for eight.
        unsafe fn store(wide: __m256, into: *mut Self);
    }

    impl Stored for f32 {
        #[inline(always)]
        unsafe fn load(from: *const Self) -> __m256 {
            unsafe { _mm256_loadu_ps(from) }
        }

        #[inline(always)]
        unsafe fn store(wide: __m256, into: *mut Self) {
            unsafe { _mm256_storeu_ps(into, wide) }
        }
    }

    #[expect(clippy::cast_ptr_alignment, reason = "both instructions take any place")]
    impl Stored for bf16 {
        #[inline(always)]
        unsafe fn load(from: *const Self) -> __m256 {
            unsafe {
                let bits = _mm_loadu_si128(from.cast::<__m128i>());
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits)))
            }
        }

        /// To the nearest, ties to even; what is not a number stays one.
        #[inline(always)]
        unsafe fn store(wide: __m256, into: *mut Self) {
            unsafe {
                let bits = _mm256_castps_si256(wide);
                let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
                let rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
                let no_number = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(wide, wide));
                let rounded = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0_0000), no_number);
                let high = _mm256_srli_epi32::<16>(rounded);
                // Packs within halves of the register; the quarters 0 and 2 hold the result.
                let packed = _mm256_permute4x64_epi64::<0b00_00_10_00>(_mm256_packus_epi32(high, high));
                _mm_storeu_si128(into.cast::<__m128i>(), _mm256_castsi256_si128(packed));
            }
        }
    }

    impl<E> Eight<E> {
        #[inline(always)]
        fn new(wide: __m256) -> Self {
            Self { wide, element: PhantomData }
        }
    }

    impl<E> Add for Eight<E> {
        type Output = Self;
        #[inline(always)]
        fn add(self, other: Self) -> Self {
            Self::new(unsafe { _mm256_add_ps(self.wide, other.wide) })
        }
    }

    impl<E> Sub for Eight<E> {
        type Output = Self;
        #[inline(always)]
        fn sub(self, other: Self) -> Self {
            Self::new(unsafe { _mm256_sub_ps(self.wide, other.wide) })
        }
    }

    impl<E> Mul for Eight<E> {
        type Output = Self;
        #[inline(always)]
        fn mul(self, other: Self) -> Self {
            Self::new(unsafe { _mm256_mul_ps(self.wide, other.wide) })
        }
    }

    impl<E> AddAssign for Eight<E> {
        #[inline(always)]
        fn add_assign(&mut self, other: Self) {
            self.wide = unsafe { _mm256_add_ps(self.wide, other.wide) };
        }
    }

    #[inline(always)]
    fn first<T, const COUNT: usize>(of: &[T]) -> &[T; COUNT] {
        of.first_chunk().expect("as many numbers as lanes")
    }

    impl<E: Element + Stored> Vector for Eight<E> {
        type Element = E;
        const LANES: usize = 8;

        fn is_available() -> bool {
            is_x86_feature_detected!("avx2")
        }

        #[inline(always)]
        fn zero() -> Self {
            Self::new(unsafe { _mm256_setzero_ps() })
        }

        #[inline(always)]
        fn splat(number: f64) -> Self {
            Self::new(unsafe { _mm256_set1_ps(number as f32) })
        }

        #[inline(always)]
        unsafe fn load(from: &[E], place: usize) -> Self {
            debug_assert!(place + 8 <= from.len());
            Self::new(unsafe { E::load(from.as_ptr().add(place)) })
        }

        #[inline(always)]
        fn load_figures(from: &[f64]) -> Self {
            let from: &[f64; 8] = first(from);
            Self::new(unsafe {
                let low = _mm256_cvtpd_ps(_mm256_loadu_pd(from.as_ptr()));
                let high = _mm256_cvtpd_ps(_mm256_loadu_pd(from[4..].as_ptr()));
                _mm256_set_m128(high, low)
            })
        }

        #[inline(always)]
        unsafe fn store(self, into: &mut [E], place: usize) {
            debug_assert!(place + 8 <= into.len());
            unsafe { E::store(self.wide, into.as_mut_ptr().add(place)) };
        }

        #[inline(always)]
        fn add_to(self, totals: &mut [f64]) {
            let totals: &mut [f64; 8] = totals.first_chunk_mut().expect("as many totals as lanes");
            unsafe {
                let (low, high) = totals.split_at_mut(4);
                let halves = [_mm256_castps256_ps128(self.wide), _mm256_extractf128_ps::<1>(self.wide)];
                for (half, totals) in halves.into_iter().zip([low, high]) {
                    let sum = _mm256_add_pd(_mm256_loadu_pd(totals.as_ptr()), _mm256_cvtps_pd(half));
                    _mm256_storeu_pd(totals.as_mut_ptr(), sum);
                }
            }
        }

        #[inline(always)]
        fn rectified(self) -> Self {
            Self::new(unsafe {
                _mm256_and_ps(self.wide, _mm256_cmp_ps::<_CMP_NLE_UQ>(self.wide, Self::zero().wide))
            })
        }

        #[inline(always)]
        fn where_positive(self, mask: Self) -> Self {
            Self::new(unsafe {
                _mm256_and_ps(self.wide, _mm256_cmp_ps::<_CMP_GT_OQ>(mask.wide, Self::zero().wide))
            })
        }
    }
}
