//! The layers that both models are made of.

use tch::Tensor;

use crate::config::HEADS;
use crate::error::Result;
use crate::parameters::{Declarations, Parameters};

/// An affine map of the last axis, or a linear one without bias.
#[derive(Debug)]
pub(crate) struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    pub(crate) fn of(parameters: &Parameters, name: &str) -> Self {
        let bias = Some(parameters.expect(&format!("{name}.bias")));
        Self { weight: parameters.expect(&format!("{name}.weight")), bias }
    }

    pub(crate) fn without_bias(parameters: &Parameters, name: &str) -> Self {
        Self { weight: parameters.expect(&format!("{name}.weight")), bias: None }
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x.f_linear(&self.weight, self.bias.as_ref())?)
    }
}

/// Two affine maps with a rectifier between.
#[derive(Debug)]
pub(crate) struct Perceptron {
    first: Linear,
    second: Linear,
}

impl Perceptron {
    pub(crate) fn declare(declared: &mut Declarations, name: &str, inputs: i64, inner: i64, outputs: i64) {
        declared.linear(&format!("{name}.0"), inputs, inner);
        declared.linear(&format!("{name}.2"), inner, outputs);
    }

    pub(crate) fn of(parameters: &Parameters, name: &str) -> Self {
        let layer = |place| Linear::of(parameters, &format!("{name}.{place}"));
        Self { first: layer(0), second: layer(2) }
    }

    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(x)?.f_relu()?)
    }
}

/// A gated recurrent unit (`PyTorch`'s gate order: reset, update, new).
#[derive(Debug)]
pub(crate) struct Gru {
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias_ih: Tensor,
    bias_hh: Tensor,
}

impl Gru {
    pub(crate) fn of(parameters: &Parameters, name: &str) -> Self {
        let part = |part| parameters.expect(&format!("{name}.{part}"));
        Self {
            weight_ih: part("weight_ih"),
            weight_hh: part("weight_hh"),
            bias_ih: part("bias_ih"),
            bias_hh: part("bias_hh"),
        }
    }

    /// Inputs (n, inputs), states (n, hidden) → states (n, hidden).
    pub(crate) fn forward(&self, input: &Tensor, state: &Tensor) -> Result<Tensor> {
        let biases = (Some(&self.bias_ih), Some(&self.bias_hh));
        Ok(input.f_gru_cell(state, &self.weight_ih, &self.weight_hh, biases.0, biases.1)?)
    }
}

/// Multi-head attention with a residual on the projected query (MAB of the Set Transformer, without layer norm). The
/// scale is 1/√width, not 1/√(width of a head), as published.
#[derive(Debug)]
pub(crate) struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
}

impl Attention {
    pub(crate) fn declare(declared: &mut Declarations, name: &str, inputs: i64, width: i64) {
        for part in ["fc_q", "fc_k", "fc_v"] {
            declared.linear(&format!("{name}.{part}"), inputs, width);
        }
        declared.linear(&format!("{name}.fc_o"), width, width);
    }

    pub(crate) fn of(parameters: &Parameters, name: &str) -> Self {
        let part = |part| Linear::of(parameters, &format!("{name}.{part}"));
        Self { query: part("fc_q"), key: part("fc_k"), value: part("fc_v"), output: part("fc_o") }
    }

    /// Sets (n, l, inputs) attended by themselves → (n, l, width). `mask` (n, 1, 1, l) is true at places that hold no
    /// element: nothing attends to them, and what comes out there means nothing.
    pub(crate) fn of_set(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        // One product in the place of three.
        let parts = [&self.query, &self.key, &self.value];
        let weight = Tensor::f_cat(&parts.map(|part| &part.weight), 0)?;
        let biases: Vec<&Tensor> = parts.iter().filter_map(|part| part.bias.as_ref()).collect();
        let all = x.f_linear(&weight, Some(Tensor::f_cat(&biases, 0)?))?;
        let mut all = all.f_chunk(3, -1)?.into_iter();
        match (all.next(), all.next(), all.next()) {
            (Some(query), Some(key), Some(value)) => self.attend(&query, &key, &value, mask),
            _ => unreachable!("a chunk in three has three parts"),
        }
    }

    /// Sets (n, l, width) attended by one query (1, 1, width) → (n, 1, width).
    pub(crate) fn of_query(&self, query: &Tensor, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let query = self.query.forward(query)?;
        self.attend(&query, &self.key.forward(x)?, &self.value.forward(x)?, mask)
    }

    fn attend(&self, query: &Tensor, key: &Tensor, value: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let width = query.size()[2];
        let heads = |x: &Tensor| -> Result<Tensor> {
            Ok(x.f_unflatten(2, [HEADS, width / HEADS])?.f_transpose(1, 2)?)
        };
        let scaled = query.f_mul_scalar(1.0 / (width as f64).sqrt())?;
        let mut scores = heads(&scaled)?.f_matmul(&heads(key)?.f_transpose(2, 3)?)?;
        if let Some(mask) = mask {
            scores = scores.f_masked_fill(mask, f64::NEG_INFINITY)?;
        }
        let attended = scores.f_softmax(-1, None)?.f_matmul(&heads(value)?)?;
        let out = query.f_add(&attended.f_transpose(1, 2)?.f_flatten(2, 3)?)?;
        let change = self.output.forward(&out)?.f_relu()?;
        Ok(out.f_add(&change)?)
    }
}
