//! Random numbers that repeat: drawn from a counter-based generator keyed by *what they are for*.
//!
//! libtorch's generator is global to a process, so two networks trained side by side would disturb each other, and a
//! resumed training would see other numbers than an uninterrupted one. Everything that must repeat is therefore drawn
//! here, from `ChaCha8` keyed by `(id, purpose)` with one independent stream per `step`:
//!
//! ```text
//!   unit or task id ─┐
//!   purpose ─────────┴─► SHA-256 ─► key ─► ChaCha8, stream = step ─► integers, uniforms, normals, permutations
//! ```
//!
//! Deliberately absent: a global or thread-local generator, and any seed taken from the clock.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// The key of a family of random streams. Two keys are equal if and only if both id and purpose are.
#[derive(Debug, Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// `id` names the unit or task, `purpose` the use ("augmentation", "weights", …).
    pub fn new(id: &str, purpose: &str) -> Self {
        let mut hash = Sha256::new();
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        hash.update((id.len() as u64).to_le_bytes());
        hash.update(id.as_bytes());
        hash.update(purpose.as_bytes());
        Self(hash.finalize().into())
    }

    /// The stream of one step. Streams of different steps never overlap.
    pub fn stream(&self, step: u64) -> Stream {
        let mut generator = ChaCha8Rng::from_seed(self.0);
        generator.set_stream(step);
        Stream { generator, spare_normal: None }
    }
}

/// A deterministic sequence of random numbers.
#[derive(Debug, Clone)]
pub struct Stream {
    generator: ChaCha8Rng,
    /// The second number of the last Box-Muller pair.
    spare_normal: Option<f64>,
}

impl Stream {
    /// A uniform integer in `0..bound`.
    ///
    /// # Panics
    /// If `bound` is 0: there is nothing to draw from.
    pub fn below(&mut self, bound: usize) -> usize {
        assert!(bound > 0, "a number below 0 was asked for");
        // u64 rather than usize: the same numbers on every platform.
        self.generator.random_range(0..bound as u64) as usize
    }

    /// A uniform number in `[0, 1)`.
    pub fn uniform(&mut self) -> f64 {
        // 53 bits, as every f64 in [0, 1) of that grid is exact.
        (self.generator.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A uniform number in `[low, high)`.
    pub fn uniform_between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.uniform()
    }

    /// A standard normal number (Box-Muller).
    pub fn normal(&mut self) -> f64 {
        if let Some(second) = self.spare_normal.take() {
            return second;
        }
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        let angle = 2.0 * std::f64::consts::PI * self.uniform();
        self.spare_normal = Some(radius * angle.sin());
        radius * angle.cos()
    }

    /// True with probability `probability`.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.uniform() < probability
    }

    /// Shuffles in place (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// The numbers `0..count` in random order.
    pub fn permutation(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        self.shuffle(&mut order);
        order
    }

    /// `amount` distinct items in random order, or all of them where there are fewer.
    pub fn sample<T: Clone>(&mut self, items: &[T], amount: usize) -> Vec<T> {
        let mut order = self.permutation(items.len());
        order.truncate(amount);
        order.into_iter().map(|position| items[position].clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_pinned_for_ever() {
        let mut stream = Key::new("unit", "weights").stream(3);
        let drawn: Vec<usize> = (0..5).map(|_| stream.below(1000)).collect();
        assert_eq!(drawn, PINNED);
    }
    const PINNED: [usize; 5] = [593, 873, 494, 20, 630];

    #[test]
    fn id_and_purpose_are_kept_apart() {
        let first = Key::new("ab", "c").stream(0).uniform();
        let second = Key::new("a", "bc").stream(0).uniform();
        assert!(first.to_bits() != second.to_bits());
    }

    #[test]
    fn normals_have_mean_zero_and_variance_one() {
        let mut stream = Key::new("unit", "normal").stream(0);
        let drawn: Vec<f64> = (0..100_000).map(|_| stream.normal()).collect();
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        let variance = drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / drawn.len() as f64;
        assert!(mean.abs() < 0.02, "{mean}");
        assert!((variance - 1.0).abs() < 0.02, "{variance}");
    }

    proptest! {
        #[test]
        fn a_permutation_holds_every_number_once(step in 0..50_u64, count in 0..200_usize) {
            let mut order = Key::new("p", "order").stream(step).permutation(count);
            order.sort_unstable();
            prop_assert_eq!(order, (0..count).collect::<Vec<_>>());
        }

        #[test]
        fn streams_of_different_steps_differ(step in 0..1_000_000_u64) {
            let key = Key::new("u", "p");
            let one: Vec<u64> = (0..4).map(|_| key.stream(step).uniform().to_bits()).collect();
            let other: Vec<u64> = (0..4).map(|_| key.stream(step + 1).uniform().to_bits()).collect();
            prop_assert_ne!(one, other);
        }
    }
}
