//! A node: the sum of batch norms and plain maps, with a rectifier for those who want it.

use tch::Tensor;

use super::loops::{Combine, Gather, GradientSums, Rows, RowsMut};
use super::maps::{Extents, numbers, numbers_mut};
use super::norm::Normed;
use super::vector::{Element, run};
use crate::Result;

/// Which forms of a node's value are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wanted {
    pub(crate) value: bool,
    pub(crate) rectified: bool,
}

/// The value of a node, in the forms that are read.
#[derive(Debug)]
pub(super) struct Signal {
    pub(super) extents: Extents,
    pub(super) value: Option<Tensor>,
    pub(super) rectified: Option<Tensor>,
}

impl Signal {
    pub(super) fn zeros<E: Element>(extents: Extents, wanted: Wanted) -> Result<Self> {
        let zeros = |is_wanted: bool| is_wanted.then(|| extents.zeros::<E>()).transpose();
        Ok(Self { extents, value: zeros(wanted.value)?, rectified: zeros(wanted.rectified)? })
    }

    /// # Panics
    /// If the form was not wanted.
    pub(super) fn value(&self) -> &Tensor {
        self.value.as_ref().expect("the value was wanted")
    }

    /// # Panics
    /// If the form was not wanted.
    pub(super) fn rectified(&self) -> &Tensor {
        self.rectified.as_ref().expect("the rectified value was wanted")
    }
}

/// Gradients of a signal, one for everyone who read it.
#[derive(Debug, Default)]
pub(super) struct Gradient {
    pub(super) value: Vec<Tensor>,
    pub(super) rectified: Vec<Tensor>,
}

impl Gradient {
    pub(super) fn is_empty(&self) -> bool {
        self.value.is_empty() && self.rectified.is_empty()
    }
}

/// What the backward pass of a node needs.
#[derive(Debug)]
pub(super) struct Node {
    extents: Extents,
    normed: Vec<Normed>,
    rectified: Option<Tensor>,
}

/// The gradient of a node's sum, which is that of every plain term, and what [`Normed::backward`] needs beside it.
pub(super) struct Total {
    pub(super) gradient: Tensor,
    pub(super) sums: GradientSums,
}

impl Node {
    /// Sums terms of these extents.
    pub(super) fn sum<E: Element>(
        extents: Extents,
        normed: Vec<Normed>,
        plain: &[Tensor],
        wanted: Wanted,
    ) -> Result<(Self, Signal)> {
        let channels = extents.channels as usize;
        let (is_copy, mut signal) = match (&*normed, plain) {
            // A single plain term is the sum.
            ([], [term]) => {
                let value = wanted.value.then(|| term.shallow_clone());
                (true, Signal { extents, value, rectified: None })
            }
            _ => (false, Signal { extents, value: None, rectified: None }),
        };
        let fresh = |is_wanted: bool| is_wanted.then(|| extents.empty::<E>()).transpose();
        let mut value = fresh(wanted.value && !is_copy)?;
        let mut rectified = fresh(wanted.rectified)?;
        if value.is_some() || rectified.is_some() {
            let mut shift = vec![0.0; channels];
            for term in &normed {
                term.add_shift(&mut shift);
            }
            let scales: Vec<Vec<f64>> = normed.iter().map(Normed::scale).collect();
            let scaled = normed.iter().zip(&scales).map(|(term, scale)| Ok((term.rows::<E>()?, &**scale)));
            run(Combine {
                pixels: extents.pixels(),
                channels,
                scaled: &scaled.collect::<Result<Vec<_>>>()?,
                plain: &rows(plain, channels)?,
                shift: &shift,
                value: value.as_mut().map(|map| rows_mut(map, channels)).transpose()?,
                rectified: rectified.as_mut().map(|map| rows_mut(map, channels)).transpose()?,
            });
        }
        signal.value = value.or(signal.value);
        let mask = rectified.as_ref().map(Tensor::shallow_clone);
        signal.rectified = rectified;
        Ok((Self { extents, normed, rectified: mask }, signal))
    }

    /// The batch norms among the terms, in the order in which they were given.
    pub(super) fn normed(&self) -> &[Normed] {
        &self.normed
    }

    /// Adds up what those who read the node say of it.
    pub(super) fn total<E: Element>(&self, gradient: &Gradient) -> Result<Total> {
        if let ([], [only], []) = (&*self.normed, &*gradient.value, &*gradient.rectified) {
            let sums = GradientSums { plain: Vec::new(), deviations: Vec::new() };
            return Ok(Total { gradient: only.shallow_clone(), sums });
        }
        let channels = self.extents.channels as usize;
        let mask = match (&self.rectified, &*gradient.rectified) {
            (_, []) | (None, _) => None,
            (Some(rectified), _) => Some(Rows::whole(numbers::<E>(rectified)?, channels)),
        };
        let normed = self.normed.iter().map(|term| Ok((term.rows::<E>()?, term.mean())));
        let mut total = self.extents.empty::<E>()?;
        let sums = run(Gather {
            pixels: self.extents.pixels(),
            channels,
            value: &rows(&gradient.value, channels)?,
            rectified: &rows(&gradient.rectified, channels)?,
            mask,
            normed: &normed.collect::<Result<Vec<_>>>()?,
            total: RowsMut::whole(numbers_mut(&mut total)?, channels),
        });
        Ok(Total { gradient: total, sums })
    }
}

fn rows<E: Element>(maps: &[Tensor], channels: usize) -> Result<Vec<Rows<'_, E>>> {
    maps.iter().map(|map| Ok(Rows::whole(numbers::<E>(map)?, channels))).collect()
}

fn rows_mut<E: Element>(map: &mut Tensor, channels: usize) -> Result<RowsMut<'_, E>> {
    Ok(RowsMut::whole(numbers_mut(map)?, channels))
}
