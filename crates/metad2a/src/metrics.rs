//! How well predictions agree with measurements. Pure functions of two lists of equal length.
//!
//! A correlation is NaN where it is undefined: fewer than two pairs, or a list whose values are all equal.

/// Pearson's correlation.
pub fn pearson(predicted: &[f64], measured: &[f64]) -> f64 {
    let (mean_p, mean_m) = (mean(predicted), mean(measured));
    let (mut covariance, mut variance_p, mut variance_m) = (0.0, 0.0, 0.0);
    for (p, m) in predicted.iter().zip(measured) {
        covariance += (p - mean_p) * (m - mean_m);
        variance_p += (p - mean_p).powi(2);
        variance_m += (m - mean_m).powi(2);
    }
    if all_equal(predicted) || all_equal(measured) {
        return f64::NAN;
    }
    // Rounding may lead out of the interval by an ulp.
    (covariance / (variance_p.sqrt() * variance_m.sqrt())).clamp(-1.0, 1.0)
}

/// Spearman's rank correlation; equal values share the mean of their ranks.
pub fn spearman(predicted: &[f64], measured: &[f64]) -> f64 {
    pearson(&ranks(predicted), &ranks(measured))
}

/// Kendall's τ-b: concordant minus discordant pairs, corrected for ties in either list.
pub fn kendall(predicted: &[f64], measured: &[f64]) -> f64 {
    let (mut balance, mut apart_p, mut apart_m) = (0_i64, 0_u64, 0_u64);
    for i in 0..predicted.len().min(measured.len()) {
        for j in 0..i {
            let p = order(predicted[i], predicted[j]);
            let m = order(measured[i], measured[j]);
            balance += p * m;
            apart_p += p.unsigned_abs();
            apart_m += m.unsigned_abs();
        }
    }
    if apart_p == 0 || apart_m == 0 {
        return f64::NAN;
    }
    (balance as f64 / ((apart_p as f64).sqrt() * (apart_m as f64).sqrt())).clamp(-1.0, 1.0)
}

/// Root of the mean squared difference, in the lists' units. NaN for empty lists.
pub fn rmse(predicted: &[f64], measured: &[f64]) -> f64 {
    let squares: Vec<f64> = predicted.iter().zip(measured).map(|(p, m)| (p - m).powi(2)).collect();
    mean(&squares).sqrt()
}

/// Ranks from 1; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut places: Vec<usize> = (0..values.len()).collect();
    places.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    for tied in places.chunk_by(|a, b| order(values[*a], values[*b]) == 0) {
        for place in tied {
            ranks[*place] = first as f64 + f64::midpoint(tied.len() as f64, 1.0);
        }
        first += tied.len();
    }
    ranks
}

/// 1, 0 or -1.
fn order(a: f64, b: f64) -> i64 {
    i64::from(a > b) - i64::from(a < b)
}

fn all_equal(values: &[f64]) -> bool {
    values.windows(2).all(|pair| order(pair[0], pair[1]) == 0)
}

/// The mean; NaN without values.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The standard deviation (n - 1); 0 for fewer than two values.
pub(crate) fn standard_deviation(values: &[f64]) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    let mean = mean(values);
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (squares / (values.len() - 1) as f64).sqrt()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Correlation = fn(&[f64], &[f64]) -> f64;
    const CORRELATIONS: [Correlation; 3] = [pearson, spearman, kendall];

    /// Worked out by hand: 10 pairs, one tied in each list, 6 concordant and 2 discordant.
    #[test]
    fn ties_are_neither_concordant_nor_discordant() {
        let (a, b) = ([1.0, 2.0, 2.0, 3.0, 5.0], [1.0, 3.0, 2.0, 3.0, 2.5]);
        assert!((spearman(&a, &b) - 0.552_631_578_947_368_6).abs() < 1e-12);
        assert!((kendall(&a, &b) - 4.0 / 9.0).abs() < 1e-12);
        assert!((pearson(&a, &b) - 0.512_271_764_055_415_3).abs() < 1e-12, "{}", pearson(&a, &b));
    }

    #[test]
    fn the_error_is_in_the_units_of_the_lists() {
        assert!((rmse(&[0.5, 0.7], &[0.4, 0.8]) - 0.1).abs() < 1e-12);
        assert!(rmse(&[], &[]).is_nan());
    }

    #[test]
    fn a_correlation_with_a_constant_is_undefined() {
        for correlation in CORRELATIONS {
            assert!(correlation(&[0.1, 0.1, 0.1], &[1.0, 2.0, 3.0]).is_nan());
            assert!(correlation(&[1.0], &[1.0]).is_nan());
            assert!(correlation(&[], &[]).is_nan());
        }
    }

    /// Lists with many ties.
    fn lists() -> impl Strategy<Value = (Vec<f64>, Vec<f64>)> {
        prop::collection::vec((-4_i32..5, -4_i32..5), 2..20)
            .prop_map(|pairs| pairs.into_iter().map(|(a, b)| (f64::from(a), f64::from(b))).unzip())
    }

    proptest! {
        #[test]
        fn correlations_are_symmetric_bounded_and_one_with_themselves((a, b) in lists()) {
            for correlation in CORRELATIONS {
                let found = correlation(&a, &b);
                prop_assert!(found.is_nan() || (-1.0..=1.0).contains(&found));
                prop_assert!(found.is_nan() == correlation(&b, &a).is_nan());
                prop_assert!(found.is_nan() || (found - correlation(&b, &a)).abs() < 1e-12);
                prop_assert!(all_equal(&a) || (correlation(&a, &a) - 1.0).abs() < 1e-12);
                let negated: Vec<f64> = b.iter().map(|value| -value).collect();
                prop_assert!(found.is_nan() || (found + correlation(&a, &negated)).abs() < 1e-12);
            }
        }

        #[test]
        fn rank_correlations_see_the_order_only((a, b) in lists()) {
            let bent: Vec<f64> = a.iter().map(|value| value.exp() + value.powi(3)).collect();
            for correlation in [spearman as Correlation, kendall] {
                let (found, after) = (correlation(&a, &b), correlation(&bent, &b));
                prop_assert!(found.is_nan() == after.is_nan());
                prop_assert!(found.is_nan() || (found - after).abs() < 1e-12);
            }
        }

        #[test]
        fn ranks_keep_their_sum_whatever_the_ties((a, _) in lists()) {
            let count = a.len() as f64;
            prop_assert!((ranks(&a).iter().sum::<f64>() - count * (count + 1.0) / 2.0).abs() < 1e-9);
        }

        #[test]
        fn the_error_is_zero_for_equal_lists_only((a, b) in lists()) {
            prop_assert!(rmse(&a, &a) < 1e-12);
            prop_assert_eq!(rmse(&a, &b) < 1e-12, a == b);
        }
    }
}
