//! Gradients of parameters, by the parameter's place in the network.

use tch::{Kind, Tensor};

use crate::Result;

/// What a backward pass has found so far.
pub(crate) struct ParameterGradients {
    kind: Kind,
    found: Vec<Option<Tensor>>,
}

impl ParameterGradients {
    /// Of so many parameters of that kind.
    pub(super) fn new(count: usize, kind: Kind) -> Self {
        Self { kind, found: (0..count).map(|_| None).collect() }
    }

    /// Kind of the parameters, and so of their gradients.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn put(&mut self, place: usize, gradient: Tensor) {
        self.found[place] = Some(gradient);
    }

    /// As [`Self::put`], of a gradient that was computed in another kind.
    pub(super) fn put_converted(&mut self, place: usize, gradient: &Tensor) -> Result<()> {
        let gradient = gradient.f_to_kind(self.kind)?;
        self.put(place, gradient);
        Ok(())
    }

    /// The gradients at these places, each of which the pass has reached.
    ///
    /// # Panics
    /// If one was not reached: which parameters are in use is known before.
    pub(crate) fn at(mut self, places: &[usize]) -> Vec<Tensor> {
        let at = |place: &usize| self.found[*place].take().expect("a parameter in use has a gradient");
        places.iter().map(at).collect()
    }
}
