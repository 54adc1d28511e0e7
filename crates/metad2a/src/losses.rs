//! The predictor's losses.

use tch::{Kind, Tensor};

use crate::episode::{EpisodeConfig, Mode};
use crate::error::Result;

/// The loss of outputs (n) against scaled targets (n); `groups` tells each row's dataset.
///
/// Paper: the sum of squared errors. Default: the mean squared error, plus that of the deviations from each dataset's
/// own mean, plus a hinge on pairs of a dataset: the better cell must be ahead by the margin, or by the targets'
/// difference where that is less, so that exact predictions have no loss.
pub(crate) fn predictor_loss(
    outputs: &Tensor,
    targets: &Tensor,
    groups: &Tensor,
    config: &EpisodeConfig,
) -> Result<Tensor> {
    let error = outputs.f_sub(targets)?;
    let squares = error.f_square()?;
    if config.mode == Mode::Paper {
        return Ok(squares.f_sum(None)?);
    }
    let mut loss = squares.f_mean(None)?;
    if config.within_weight == 0.0 && config.ranking_weight == 0.0 {
        return Ok(loss);
    }
    let together = groups.f_unsqueeze(0)?.f_eq_tensor(&groups.f_unsqueeze(1)?)?.f_to_kind(Kind::Float)?;
    if config.within_weight > 0.0 {
        let sizes = together.f_sum_dim_intlist([1_i64].as_slice(), false, None)?;
        let centred = error.f_sub(&together.f_mv(&error)?.f_div(&sizes)?)?;
        let within = centred.f_square()?.f_mean(None)?;
        loss = loss.f_add(&within.f_mul_scalar(config.within_weight)?)?;
    }
    if config.ranking_weight > 0.0 {
        let differences = |x: &Tensor| -> Result<Tensor> { Ok(x.f_unsqueeze(1)?.f_sub(&x.f_unsqueeze(0)?)?) };
        let ahead = differences(targets)?;
        let pairs = ahead.f_gt(0.0)?.f_to_kind(Kind::Float)?.f_mul(&together)?;
        let short = ahead.f_clamp_max(config.ranking_margin)?.f_sub(&differences(outputs)?)?.f_relu()?;
        let number = pairs.f_sum(None)?.f_clamp_min(1.0)?;
        let ranking = short.f_mul(&pairs)?.f_sum(None)?.f_div(&number)?;
        loss = loss.f_add(&ranking.f_mul_scalar(config.ranking_weight)?)?;
    }
    Ok(loss)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(outputs: &[f32], targets: &[f32], groups: &[i64], config: &EpisodeConfig) -> f64 {
        let [outputs, targets] = [outputs, targets].map(Tensor::from_slice);
        let found = predictor_loss(&outputs, &targets, &Tensor::from_slice(groups), config);
        found.and_then(|loss| Ok(loss.f_double_value(&[])?)).expect("a loss")
    }

    fn only(within_weight: f64, ranking_weight: f64) -> EpisodeConfig {
        EpisodeConfig { within_weight, ranking_weight, ranking_margin: 1.0, ..EpisodeConfig::default() }
    }

    #[test]
    fn exact_predictions_have_no_loss() {
        let targets = [0.3, -0.2, 0.1, 0.1];
        for config in [EpisodeConfig::paper(), only(1.0, 1.0)] {
            assert!(loss(&targets, &targets, &[0, 0, 0, 1], &config).abs() < 1e-12);
        }
    }

    #[test]
    fn the_paper_sums_squared_errors() {
        assert!((loss(&[1.0, 2.0], &[0.0, 0.0], &[0, 0], &EpisodeConfig::paper()) - 5.0).abs() < 1e-6);
    }

    #[test]
    fn a_constant_error_within_a_dataset_costs_nothing_within() {
        let groups = [0, 0, 1, 1];
        let outputs = [1.0, 2.0, 5.0, 6.0];
        let shifted = [1.5, 2.5, 4.0, 5.0];
        let plain = loss(&outputs, &shifted, &groups, &only(0.0, 0.0));
        assert!((loss(&outputs, &shifted, &groups, &only(1.0, 0.0)) - plain).abs() < 1e-6);
        assert!(loss(&outputs, &[1.5, 2.0, 5.0, 6.0], &groups, &only(1.0, 0.0)) > 0.0625 + 0.01);
    }

    #[test]
    fn only_wrong_or_narrow_pairs_of_one_dataset_cost() {
        // Squared errors are taken off: what is left is the ranking.
        let ranking = |outputs: &[f32], targets: &[f32], groups: &[i64]| {
            loss(outputs, targets, groups, &only(0.0, 1.0)) - loss(outputs, targets, groups, &only(0.0, 0.0))
        };
        assert!((ranking(&[0.0, 1.0], &[1.0, 0.0], &[0, 0]) - 2.0).abs() < 1e-6);
        assert!(ranking(&[0.0, 1.0], &[1.0, 0.0], &[0, 1]).abs() < 1e-6);
        assert!(ranking(&[5.0, 0.0], &[3.0, 0.0], &[0, 0]).abs() < 1e-6);
        assert!((ranking(&[0.75, 0.0], &[3.0, 0.0], &[0, 0]) - 0.25).abs() < 1e-6);
        assert!(ranking(&[0.0, 1.0], &[2.0, 2.0], &[0, 0]).abs() < 1e-6);
    }
}
