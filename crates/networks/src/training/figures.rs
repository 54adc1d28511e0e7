//! Loss and accuracy of many batches, summed on the device so that no batch waits for them.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::Result;

/// Mean cross-entropy and share of right answers of one split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// In `[0, 1]`.
    pub accuracy: f64,
}

/// Mean over the batch.
pub(super) fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    Ok(logits.f_cross_entropy_loss(labels, None::<&Tensor>, tch::Reduction::Mean, -100, 0.0)?)
}

/// Running sums over batches, kept on the device.
pub(super) struct Sums {
    loss: Tensor,
    right: Tensor,
}

/// The sums as they stand in a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StoredSums {
    /// The bits of an f64: JSON has no form for the infinite loss of a training that is about to diverge.
    loss_bits: u64,
    right: i64,
}

impl Sums {
    pub(super) fn new(device: Device) -> Result<Self> {
        Ok(Self {
            loss: Tensor::f_zeros([], (Kind::Double, device))?,
            right: Tensor::f_zeros([], (Kind::Int64, device))?,
        })
    }

    pub(super) fn restored(stored: StoredSums, device: Device) -> Result<Self> {
        let loss = Tensor::f_from_slice(&[f64::from_bits(stored.loss_bits)])?;
        let right = Tensor::f_from_slice(&[stored.right])?;
        Ok(Self {
            loss: loss.f_reshape([0_i64; 0].as_slice())?.f_to_device(device)?,
            right: right.f_reshape([0_i64; 0].as_slice())?.f_to_device(device)?,
        })
    }

    pub(super) fn stored(&self) -> Result<StoredSums> {
        Ok(StoredSums {
            loss_bits: self.loss.f_double_value(&[])?.to_bits(),
            right: self.right.f_int64_value(&[])?,
        })
    }

    pub(super) fn add(&mut self, logits: &Tensor, loss: &Tensor, labels: &Tensor) -> Result<()> {
        let _guard = tch::no_grad_guard();
        let batch_loss = loss.f_detach()?.f_to_kind(Kind::Double)?.f_mul_scalar(labels.size()[0])?;
        let _ = self.loss.f_add_(&batch_loss)?;
        let right = logits.f_argmax(1, false)?.f_eq_tensor(labels)?.f_sum(Kind::Int64)?;
        let _ = self.right.f_add_(&right)?;
        Ok(())
    }

    pub(super) fn figures(&self, count: i64) -> Result<Figures> {
        Ok(Figures {
            loss: self.loss.f_double_value(&[])? / count as f64,
            accuracy: self.right.f_int64_value(&[])? as f64 / count as f64,
        })
    }
}
