//! Loss and accuracy of many batches, summed on the device so that no batch waits for them.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// Mean cross-entropy and share of right answers of one split.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Mean cross-entropy in nats.
    pub loss: f64,
    /// In `[0, 1]`.
    pub accuracy: f64,
}

/// What `attempt` makes of `pictures` pictures, or of half as many for as long as memory does not suffice, with the
/// number that did.
pub(super) fn that_fit<T>(pictures: i64, mut attempt: impl FnMut(i64) -> Result<T>) -> Result<(i64, T)> {
    let mut pictures = pictures;
    loop {
        match attempt(pictures) {
            Err(Error::Memory(_)) if pictures > 1 => pictures /= 2,
            outcome => return outcome.map(|value| (pictures, value)),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// An allocator with room for so many pictures: it refuses more with libtorch's own error.
    fn room_for(most: i64) -> impl Fn(i64) -> Result<i64> {
        move |pictures| {
            if pictures > most {
                let _ = Tensor::f_empty([1_i64 << 50], (Kind::Float, Device::Cpu))?;
            }
            Ok(pictures)
        }
    }

    #[test]
    fn pictures_are_halved_until_they_fit() {
        for (most, fitting) in [(300, 256), (256, 256), (255, 128), (100, 64), (1, 1)] {
            assert_eq!(that_fit(256, room_for(most)).unwrap(), (fitting, fitting), "room for {most}");
        }
        assert_eq!(that_fit(7, room_for(2)).unwrap().0, 1);
    }

    #[test]
    fn a_single_picture_that_does_not_fit_is_an_error_and_so_is_anything_but_memory_at_once() {
        assert!(matches!(that_fit(256, room_for(0)), Err(Error::Memory(_))));
        let mut attempts = 0;
        let broken = that_fit(256, |_| {
            attempts += 1;
            Err::<(), _>(Error::Torch("shapes".into()))
        });
        assert!(matches!(broken, Err(Error::Torch(_))));
        assert_eq!(attempts, 1);
    }
}
