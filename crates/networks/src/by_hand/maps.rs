//! Feature maps as Rust slices.

use tch::{Device, Tensor};

use super::vector::Element;
use crate::{Error, Result, layers::channels_last};

/// Extents of a feature map (n, c, h, w).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extents {
    pub(super) images: i64,
    pub(super) channels: i64,
    pub(super) height: i64,
    pub(super) width: i64,
}

impl Extents {
    pub(super) fn of(map: &Tensor) -> Result<Self> {
        let (images, channels, height, width) = map.size4()?;
        Ok(Self { images, channels, height, width })
    }

    pub(super) fn pixels(self) -> usize {
        (self.images * self.height * self.width) as usize
    }

    /// A map of any content, channels last.
    pub(super) fn empty<T: Element>(self) -> Result<Tensor> {
        let size = [self.images, self.height, self.width, self.channels];
        Ok(Tensor::f_empty(size, (T::KIND, Device::Cpu))?.f_permute([0, 3, 1, 2])?)
    }

    pub(super) fn zeros<T: Element>(self) -> Result<Tensor> {
        Ok(self.empty::<T>()?.f_zero_()?)
    }
}

/// The same map, stored without gaps and with the channels of a pixel side by side.
pub(super) fn dense(map: Tensor) -> Result<Tensor> {
    if is_dense(&map) { Ok(map) } else { channels_last(&map) }
}

fn is_dense(map: &Tensor) -> bool {
    let (size, stride) = (map.size(), map.stride());
    let order: &[usize] = if size.len() == 4 { &[1, 3, 2, 0] } else { &[0] };
    let mut expected = 1;
    order.iter().all(|&dimension| {
        let fits = size[dimension] == 1 || stride[dimension] == expected;
        expected *= size[dimension];
        fits
    })
}

fn check<T: Element>(map: &Tensor) -> Result<()> {
    if map.kind() == T::KIND && map.device() == Device::Cpu && is_dense(map) {
        return Ok(());
    }
    let (found, strides) = ((map.kind(), map.device(), map.size()), map.stride());
    Err(Error::Torch(format!("a tensor {found:?} with strides {strides:?} is not stored as it must be")))
}

/// The numbers of a dense map (pixel by pixel) or vector.
#[expect(unsafe_code, reason = "tch has no view of a tensor's numbers")]
pub(super) fn numbers<T: Element>(tensor: &Tensor) -> Result<&[T]> {
    check::<T>(tensor)?;
    // SAFETY: a dense tensor on the CPU has that many numbers of that kind one after another, and keeps them while it
    // is borrowed. Nothing here writes to a tensor that was read from before it is dropped.
    Ok(unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<T>(), tensor.numel()) })
}

/// As [`numbers`], to write into a tensor that nothing else reads meanwhile.
#[expect(unsafe_code, reason = "tch has no view of a tensor's numbers")]
pub(super) fn numbers_mut<T: Element>(tensor: &mut Tensor) -> Result<&mut [T]> {
    check::<T>(tensor)?;
    // SAFETY: as above; the borrow is exclusive.
    Ok(unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<T>(), tensor.numel()) })
}
