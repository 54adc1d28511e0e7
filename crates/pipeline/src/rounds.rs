//! The outer step of a meta-training round: shards' end parameters → the next checkpoint.
//!
//! DiLoCo (arXiv 2311.08105): the mean of the shards' differences is a gradient for SGD with Nesterov momentum. Plain
//! Rust in f64 and in shard order, so that the coordinator needs no tensor library and the result does not depend on
//! who finished first. With one shard, rate 1 and no momentum the step returns the shard's parameters bit for bit.

use crate::tasks::OuterStep;

/// One flat parameter vector and its momentum after the step.
#[derive(Debug, Clone, PartialEq)]
pub struct Stepped {
    pub parameters: Vec<f32>,
    pub momentum: Vec<f32>,
}

/// Shards or momentum of another length than the base.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("a round needs at least one shard")]
    NoShards,
    #[error("`{what}` has {found} numbers where the base checkpoint has {expected}")]
    Length { what: String, expected: usize, found: usize },
}

/// Applies the outer step. `momentum` is the buffer of the round before, empty in the first.
pub fn outer_step(
    base: &[f32],
    shards: &[Vec<f32>],
    momentum: &[f32],
    outer: OuterStep,
) -> Result<Stepped, Error> {
    if shards.is_empty() {
        return Err(Error::NoShards);
    }
    for (number, shard) in shards.iter().enumerate() {
        expect_length(format!("shard {number}"), base.len(), shard.len())?;
    }
    if !momentum.is_empty() {
        expect_length("momentum".to_owned(), base.len(), momentum.len())?;
    }
    let mut stepped = Stepped { parameters: Vec::with_capacity(base.len()), momentum: Vec::new() };
    stepped.momentum.reserve(base.len());
    for (position, &start) in base.iter().enumerate() {
        let start = f64::from(start);
        let sum: f64 = shards.iter().map(|shard| f64::from(shard[position]) - start).sum();
        // The difference points downhill already: it is minus the gradient.
        let difference = sum / shards.len() as f64;
        let before = momentum.get(position).copied().map_or(0.0, f64::from);
        let velocity = outer.momentum.mul_add(before, difference);
        let step = outer.momentum.mul_add(velocity, difference);
        stepped.parameters.push(outer.learning_rate.mul_add(step, start) as f32);
        stepped.momentum.push(velocity as f32);
    }
    Ok(stepped)
}

fn expect_length(what: String, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::Length { what, expected, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: OuterStep = OuterStep { learning_rate: 1.0, momentum: 0.0 };

    proptest! {
        #[test]
        fn one_shard_with_rate_one_and_no_momentum_is_plain_training(
            pairs in prop::collection::vec((-10.0_f32..10.0, -10.0_f32..10.0), 1..50),
        ) {
            let (base, end): (Vec<f32>, Vec<f32>) = pairs.into_iter().unzip();
            let stepped = outer_step(&base, std::slice::from_ref(&end), &[], PLAIN).unwrap();
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&stepped.parameters), bits(&end));
        }

        #[test]
        fn equal_shards_act_as_one(end in prop::collection::vec(-1.0_f32..1.0, 1..20), count in 1..6_usize) {
            let base = vec![0.25; end.len()];
            let outer = OuterStep { learning_rate: 0.5, momentum: 0.0 };
            let one = outer_step(&base, std::slice::from_ref(&end), &[], outer).unwrap();
            let many = outer_step(&base, &vec![end; count], &[], outer).unwrap();
            for (a, b) in one.parameters.iter().zip(&many.parameters) {
                prop_assert!((a - b).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn nesterov_momentum_looks_ahead() {
        let outer = OuterStep { learning_rate: 0.7, momentum: 0.9 };
        let first = outer_step(&[0.0], &[vec![1.0]], &[], outer).unwrap();
        // v = 1, step = 1 + 0.9 · 1
        assert!((f64::from(first.parameters[0]) - 0.7 * 1.9).abs() < 1e-6);
        let second = outer_step(&[0.0], &[vec![1.0]], &first.momentum, outer).unwrap();
        // v = 0.9 + 1, step = 1 + 0.9 · 1.9
        assert!((f64::from(second.parameters[0]) - 0.7 * 2.71).abs() < 1e-6);
    }

    #[test]
    fn a_shard_of_another_length_is_refused_by_name() {
        let error = outer_step(&[0.0, 1.0], &[vec![1.0, 1.0], vec![1.0]], &[], PLAIN).unwrap_err();
        assert_eq!(error.to_string(), "`shard 1` has 1 numbers where the base checkpoint has 2");
    }
}
