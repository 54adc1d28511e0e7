//! How long a trained network takes for a prediction.

use std::time::Instant;

use metad2a_randomness::Key;
use tch::{Kind, Tensor};

use crate::{Network, Result, error::require};

/// Passes before the first that counts: libtorch chooses its algorithms and takes its memory in them.
const WARM_UP: usize = 3;
/// So many passes count, or those that began within so many seconds, whichever is less.
const PASSES: usize = 20;
const SECONDS: f64 = 0.3;

/// Times of a forward pass of one batch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// Half of the passes took longer.
    pub median_milliseconds: f64,
    /// One pass in twenty took longer; with fewer than twenty passes, the slowest one.
    pub p95_milliseconds: f64,
}

impl Network {
    /// Measures forward passes of `batch` pictures of `image_size` pixels, in the network's precision on its device, with as many
    /// threads as the process has. Ends after 20 passes or 0.3 s, whichever is less, and three to warm up.
    pub fn latency(&self, batch: i64, image_size: i64) -> Result<Latency> {
        require(batch >= 1, "batch", "at least 1", batch)?;
        let _guard = tch::no_grad_guard();
        let mut stream = Key::new("latency", "pictures").stream(0);
        let pixels: Vec<f32> =
            (0..batch * 3 * image_size * image_size).map(|_| stream.normal() as f32).collect();
        let images = Tensor::f_from_slice(&pixels)?
            .f_reshape([batch, 3, image_size, image_size])?
            .f_to_kind(Kind::Float)?
            .f_to_device(self.device())?;
        let start = Instant::now();
        let pass = || {
            // Reading a value waits for the device.
            self.predict(&images)?.f_double_value(&[0, 0])?;
            Ok(())
        };
        measure(pass, || start.elapsed().as_secs_f64())
    }
}

/// Times passes with a clock in seconds.
fn measure(mut pass: impl FnMut() -> Result<()>, mut clock: impl FnMut() -> f64) -> Result<Latency> {
    for _ in 0..WARM_UP {
        pass()?;
    }
    let start = clock();
    let (mut last, mut seconds) = (start, Vec::with_capacity(PASSES));
    while seconds.len() < PASSES && (seconds.is_empty() || last - start < SECONDS) {
        pass()?;
        let now = clock();
        seconds.push(now - last);
        last = now;
    }
    seconds.sort_by(f64::total_cmp);
    let count = seconds.len();
    let median = f64::midpoint(seconds[(count - 1) / 2], seconds[count / 2]);
    // The nearest rank: 19 of 20.
    let p95 = seconds[(count * 19).div_ceil(20) - 1];
    Ok(Latency { median_milliseconds: median * 1e3, p95_milliseconds: p95 * 1e3 })
}

#[cfg(test)]
mod tests {
    use metad2a_search_space::Cell;

    use super::*;
    use crate::{Error, NetworkShape};

    /// Measures passes that take these milliseconds, the last one again and again; says how many there were.
    fn measured(milliseconds: &[f64]) -> (Latency, usize) {
        let (mut passes, mut reads, mut now) = (0, 0, 5.0);
        let clock = || {
            if reads > 0 {
                now += milliseconds[(reads - 1).min(milliseconds.len() - 1)] / 1e3;
            }
            reads += 1;
            now
        };
        let pass = || {
            passes += 1;
            Ok(())
        };
        (measure(pass, clock).unwrap(), passes)
    }

    fn is_close(latency: Latency, median: f64, p95: f64) -> bool {
        (latency.median_milliseconds - median).abs() < 1e-6 && (latency.p95_milliseconds - p95).abs() < 1e-6
    }

    #[test]
    fn twenty_passes_count_or_those_of_three_tenths_of_a_second() {
        // 1 to 20 ms: the middle ones are 10 and 11, and one is slower than the 19th.
        let (latency, passes) = measured(&(1..=20).map(f64::from).collect::<Vec<_>>());
        assert_eq!(passes, WARM_UP + 20);
        assert!(is_close(latency, 10.5, 19.0), "{latency:?}");
        let (latency, passes) = measured(&[60.0, 90.0, 80.0, 80.0, 1.0]);
        assert_eq!(passes, WARM_UP + 4, "310 ms are over after the fourth");
        assert!(is_close(latency, 80.0, 90.0), "{latency:?}");
        let (latency, passes) = measured(&[900.0]);
        assert_eq!(passes, WARM_UP + 1, "one pass counts, however slow");
        assert!(is_close(latency, 900.0, 900.0), "{latency:?}");
    }

    #[test]
    fn a_pass_that_fails_ends_the_measurement_with_its_error() {
        let refused = measure(|| Err(Error::Memory("64 pictures".into())), || 0.0);
        assert!(matches!(refused, Err(Error::Memory(_))));
    }

    #[test]
    fn a_network_is_measured_at_its_picture_size_and_keeps_its_statistics() {
        let cell: Cell = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|none~1|avg_pool_3x3~2|"
            .parse()
            .unwrap();
        let shape = NetworkShape { channels: 4, cells_per_stage: 1, classes: 3 };
        let network = Network::new(cell, &shape, &Key::new("unit", "weights")).unwrap();
        let before = network.to_safetensors().unwrap();
        for batch in [1, 64] {
            let latency = network.latency(batch, 8).unwrap();
            assert!(latency.median_milliseconds > 0.0, "{latency:?}");
            assert!(latency.p95_milliseconds >= latency.median_milliseconds, "{latency:?}");
        }
        assert_eq!(network.to_safetensors().unwrap(), before);
        assert!(network.latency(0, 8).is_err());
    }
}
