//! What a predictor learns to predict: the measured accuracy, or the accuracy that the training losses speak for. Pure.
//!
//! The validation accuracy of a short training is noisy: two seeds of one cell agree little. The mean training loss of
//! its last epochs repeats far better and orders the cells alike. So within each dataset the accuracy is regressed on
//! that loss, and the regression's value is learnt: still an accuracy, with most of the noise gone.

use serde::{Deserialize, Serialize};

/// Fewer rows give no line worth following.
const LEAST_ROWS: usize = 5;

/// The figure of a training that models learn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Label {
    /// Validation accuracy, as measured.
    ValidAccuracy,
    /// Validation accuracy, as its dataset's regression on the training loss has it.
    FittedAccuracy,
}

/// One training of a dataset.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// In [0, 1].
    pub valid_accuracy: f64,
    /// Mean training loss of the last epochs.
    pub fit_loss: Option<f64>,
}

/// The labels of all trainings of one dataset, in their order.
///
/// Where the regression says nothing (few rows, a row without a loss, losses that rise with accuracy), the measured
/// accuracies are the labels.
pub fn labels(label: Label, rows: &[Measured]) -> Vec<f64> {
    let measured: Vec<f64> = rows.iter().map(|row| row.valid_accuracy).collect();
    let losses: Option<Vec<f64>> = rows.iter().map(|row| row.fit_loss).collect();
    match (label, losses) {
        (Label::FittedAccuracy, Some(losses)) if rows.len() >= LEAST_ROWS => {
            fitted(&measured, &losses).unwrap_or(measured)
        }
        _ => measured,
    }
}

/// Ordinary least squares of accuracy on loss; none where the slope is not downhill.
fn fitted(accuracies: &[f64], losses: &[f64]) -> Option<Vec<f64>> {
    let count = accuracies.len() as f64;
    let mean_accuracy = accuracies.iter().sum::<f64>() / count;
    let mean_loss = losses.iter().sum::<f64>() / count;
    let pairs = accuracies.iter().zip(losses);
    let covariance: f64 = pairs.map(|(accuracy, loss)| (accuracy - mean_accuracy) * (loss - mean_loss)).sum();
    let variance: f64 = losses.iter().map(|loss| (loss - mean_loss).powi(2)).sum();
    let slope = covariance / variance;
    // A variance of 0 gives a slope that is no number.
    if slope < 0.0 && slope.is_finite() {
        let line = |loss: &f64| (mean_accuracy + slope * (loss - mean_loss)).clamp(0.0, 1.0);
        return Some(losses.iter().map(line).collect());
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rows(pairs: &[(f64, f64)]) -> Vec<Measured> {
        let row = |(valid_accuracy, loss): &(f64, f64)| Measured {
            valid_accuracy: *valid_accuracy,
            fit_loss: Some(*loss),
        };
        pairs.iter().map(row).collect()
    }

    #[test]
    fn a_lower_loss_gets_the_higher_label_whatever_the_noise_of_one_accuracy() {
        let rows = rows(&[(0.5, 1.0), (0.6, 0.8), (0.58, 0.6), (0.7, 0.4), (0.69, 0.2)]);
        let labels = labels(Label::FittedAccuracy, &rows);
        assert!(labels.is_sorted(), "{labels:?}");
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        assert!((mean(&labels) - 0.614).abs() < 1e-12, "the mean stays: {labels:?}");
    }

    #[test]
    fn without_a_downhill_line_the_accuracies_stand() {
        for pairs in [
            vec![(0.5, 0.1), (0.6, 0.2), (0.7, 0.3), (0.8, 0.4), (0.9, 0.5)],
            vec![(0.5, 0.1); 6],
            vec![(0.5, 0.3), (0.9, 0.1)],
        ] {
            let expected: Vec<f64> = pairs.iter().map(|(accuracy, _)| *accuracy).collect();
            assert_eq!(labels(Label::FittedAccuracy, &rows(&pairs)), expected);
        }
        let mut lossless = rows(&[(0.5, 1.0), (0.6, 0.8), (0.58, 0.6), (0.7, 0.4), (0.69, 0.2)]);
        lossless[2].fit_loss = None;
        assert_eq!(labels(Label::FittedAccuracy, &lossless), labels(Label::ValidAccuracy, &lossless));
    }

    proptest! {
        #[test]
        fn labels_are_accuracies(pairs in prop::collection::vec((0.0..1.0_f64, 0.0..3.0_f64), 0..30)) {
            let labels = labels(Label::FittedAccuracy, &rows(&pairs));
            prop_assert_eq!(labels.len(), pairs.len());
            prop_assert!(labels.iter().all(|label| (0.0..=1.0).contains(label)));
        }
    }
}
