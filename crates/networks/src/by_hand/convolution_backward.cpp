// Gradients of a convolution without bias. libtorch has the function; tch does not bind it.

#include <ATen/core/Tensor.h>
#include <ATen/ops/convolution_backward.h>

#include <cstdio>
#include <exception>

// Gives new tensors, which the caller frees, or false with a message of at most `room` bytes, zero included. The input's
// gradient is only computed where there is a place for it.
extern "C" bool metad2a_convolution_backward(const at::Tensor *gradient, const at::Tensor *input,
                                             const at::Tensor *weight, int64_t stride, int64_t padding,
                                             at::Tensor **input_gradient, at::Tensor **weight_gradient, char *message,
                                             size_t room) noexcept {
  try {
    auto found = at::convolution_backward(*gradient, *input, *weight, at::OptionalIntArrayRef(), {stride, stride},
                                          {padding, padding}, {1, 1}, /*transposed=*/false, {0, 0}, /*groups=*/1,
                                          {input_gradient != nullptr, true, false});
    if (input_gradient != nullptr) {
      *input_gradient = new at::Tensor(std::get<0>(found));
    }
    *weight_gradient = new at::Tensor(std::get<1>(found));
    return true;
  } catch (const std::exception &error) {
    std::snprintf(message, room, "%s", error.what());
  } catch (...) {
    std::snprintf(message, room, "no reason was given");
  }
  return false;
}
