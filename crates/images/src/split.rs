//! Which part of a dataset a picture belongs to: a function of its pixels alone.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Shares of a source's pictures. They add up to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SplitFractions {
    pub train: f64,
    pub valid: f64,
    pub test: f64,
}

/// A part of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    Train,
    Valid,
    Test,
}

/// The part that a picture with this pixel hash belongs to, in every dataset that uses these shares.
pub fn split_of(hash: &str, fractions: &SplitFractions) -> Split {
    let digest = Sha256::digest(format!("split/{hash}"));
    let leading = digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
    // 53 bits: every f64 of that grid is exact.
    let place = (leading >> 11) as f64 / (1_u64 << 53) as f64;
    if place < fractions.train {
        Split::Train
    } else if place < fractions.train + fractions.valid || fractions.test <= 0.0 {
        if fractions.valid > 0.0 { Split::Valid } else { Split::Train }
    } else {
        Split::Test
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_met_and_an_empty_share_stays_empty() {
        let fractions = SplitFractions { train: 0.3, valid: 0.15, test: 0.55 };
        let splits: Vec<Split> =
            (0..20_000).map(|number| split_of(&format!("{number}"), &fractions)).collect();
        let share = |split| splits.iter().filter(|found| **found == split).count() as f64 / 20_000.0;
        assert!((share(Split::Train) - 0.3).abs() < 0.01);
        assert!((share(Split::Valid) - 0.15).abs() < 0.01);
        let all = SplitFractions { train: 1.0, valid: 0.0, test: 0.0 };
        assert!((0..1000).all(|number| split_of(&format!("{number}"), &all) == Split::Train));
    }
}
