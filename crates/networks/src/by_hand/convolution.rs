//! Gradients of a convolution, by libtorch.
#![expect(unsafe_code, reason = "a function of libtorch that tch does not bind")]

use std::ffi::{CStr, c_char};
use std::ptr;

use tch::{TchError, Tensor};
use torch_sys::C_tensor;

use crate::{Result, layers::Convolution};

unsafe extern "C" {
    fn metad2a_convolution_backward(
        gradient: *const C_tensor,
        input: *const C_tensor,
        weight: *const C_tensor,
        stride: i64,
        padding: i64,
        input_gradient: *mut *mut C_tensor,
        weight_gradient: *mut *mut C_tensor,
        message: *mut c_char,
        room: usize,
    ) -> bool;
}

/// Gradients of a convolution's input, if asked for, and of its weight.
pub(super) struct ConvolutionGradients {
    pub(super) input: Option<Tensor>,
    pub(super) weight: Tensor,
}

/// Stride and zeros at the border of a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Steps {
    pub(super) stride: i64,
    pub(super) padding: i64,
}

impl Steps {
    pub(super) fn of(convolution: &Convolution) -> Self {
        let (stride, padding) = convolution.steps();
        Self { stride, padding }
    }
}

/// Of a convolution without bias, from the gradient of its output.
pub(super) fn convolution_backward(
    gradient: &Tensor,
    input: &Tensor,
    weight: &Tensor,
    steps: Steps,
    with_input: bool,
) -> Result<ConvolutionGradients> {
    let mut message = [0; 4096];
    let (mut of_input, mut of_weight) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: a C_tensor is an at::Tensor, which outlives the call. The function writes at most as much of the message
    // as there is room for, and gives tensors that are ours exactly if it returns true.
    unsafe {
        let place = if with_input { &raw mut of_input } else { ptr::null_mut() };
        let is_done = metad2a_convolution_backward(
            gradient.as_ptr(),
            input.as_ptr(),
            weight.as_ptr(),
            steps.stride,
            steps.padding,
            place,
            &raw mut of_weight,
            message.as_mut_ptr(),
            message.len(),
        );
        if !is_done {
            let message = CStr::from_ptr(message.as_ptr()).to_string_lossy().into_owned();
            return Err(TchError::Torch(message).into());
        }
        let input = with_input.then(|| Tensor::from_ptr(of_input));
        Ok(ConvolutionGradients { input, weight: Tensor::from_ptr(of_weight) })
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    #[test]
    fn shapes_that_do_not_fit_are_an_error_in_libtorchs_words() {
        let map = |channels: i64| Tensor::zeros([1, channels, 4, 4], (Kind::Float, Device::Cpu));
        let weight = Tensor::zeros([2, 3, 3, 3], (Kind::Float, Device::Cpu));
        let steps = Steps { stride: 1, padding: 1 };
        let found = convolution_backward(&map(2), &map(3), &weight, steps, true).unwrap();
        assert_eq!(found.input.unwrap().size(), [1, 3, 4, 4]);
        let Err(error) = convolution_backward(&map(2), &map(4), &weight, steps, true) else {
            panic!("4 channels are not 3")
        };
        assert!(error.to_string().contains("channels"), "{error}");
    }
}
