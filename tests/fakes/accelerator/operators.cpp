// The operators that make, move and view memory, and those that the host has only under another name.
#include "fakegpu.h"
#include "host_view.h"

#include <ATen/EmptyTensor.h>
#include <ATen/InferSize.h>
#include <ATen/native/TensorFactories.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/bernoulli.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceGuard.h>
#include <torch/library.h>

#include <array>
#include <tuple>

namespace fakegpu {
namespace {

using at::IntArrayRef;
using at::Tensor;
using c10::SymIntArrayRef;

constexpr c10::DispatchKeySet KEYS(c10::DispatchKey::PrivateUse1);

c10::Device target(std::optional<c10::Device> device) {
  return device && device->has_index() ? *device : fakegpu::device(current_device());
}

Tensor empty(
    IntArrayRef size,
    std::optional<c10::ScalarType> dtype,
    std::optional<c10::Layout> /*layout*/,
    std::optional<c10::Device> device,
    std::optional<bool> /*pin_memory*/,
    std::optional<c10::MemoryFormat> format) {
  const c10::DeviceGuard guard(target(device));
  return at::detail::empty_generic(size, allocator(), KEYS, c10::dtype_or_default(dtype), format);
}

Tensor empty_strided(
    IntArrayRef size,
    IntArrayRef stride,
    std::optional<c10::ScalarType> dtype,
    std::optional<c10::Layout> /*layout*/,
    std::optional<c10::Device> device,
    std::optional<bool> /*pin_memory*/) {
  const c10::DeviceGuard guard(target(device));
  return at::detail::empty_strided_generic(size, stride, allocator(), KEYS, c10::dtype_or_default(dtype));
}

// What autograd writes for a gradient that is zero. It has no memory, and the host's own would be read.
Tensor zero_without_memory(
    IntArrayRef size,
    std::optional<c10::ScalarType> dtype,
    std::optional<c10::Layout> /*layout*/,
    std::optional<c10::Device> device,
    std::optional<bool> /*pin_memory*/) {
  at::native::ZeroTensorAllocator none(target(device));
  return at::detail::empty_generic(
      size, &none, KEYS | c10::DispatchKeySet(c10::DispatchKey::ZeroTensor), c10::dtype_or_default(dtype), {});
}

Tensor copy_from(const Tensor& from, const Tensor& to, bool /*non_blocking*/) {
  check();
  HostView view;
  view.host(to).copy_(view.host(from));
  return to;
}

// All is done at once, so no stream still reads what is freed.
void record_stream(Tensor& /*tensor*/, c10::Stream /*stream*/) {}

void grow(const Tensor& tensor, size_t nbytes) {
  auto* storage = tensor.storage().unsafeGetStorageImpl();
  if (nbytes > storage->nbytes())
    resize_storage(storage, nbytes);
}

void place(Tensor& tensor, IntArrayRef size, IntArrayRef stride, int64_t offset) {
  auto* impl = tensor.unsafeGetTensorImpl();
  if (stride.size() == size.size() && !stride.empty())
    impl->set_sizes_and_strides(size, stride, offset);
  else {
    impl->set_storage_offset(offset);
    impl->set_sizes_contiguous(size);
  }
  if (tensor.numel())
    grow(tensor, at::detail::computeStorageNbytes(tensor.sizes(), tensor.strides(), tensor.itemsize(), offset));
}

const Tensor& resize(const Tensor& tensor, IntArrayRef size, std::optional<c10::MemoryFormat> format) {
  Tensor same = tensor;
  place(same, size, {}, tensor.storage_offset());
  if (format && *format != c10::MemoryFormat::Preserve)
    tensor.unsafeGetTensorImpl()->empty_tensor_restride(*format);
  return tensor;
}

Tensor& set_storage_at(
    Tensor& tensor,
    c10::Storage storage,
    int64_t offset,
    IntArrayRef size,
    IntArrayRef stride) {
  TORCH_CHECK(
      storage.device().type() == c10::DeviceType::PrivateUse1,
      "Attempted to set the storage of a tensor on device \"", tensor.device(),
      "\" to a storage on different device \"", storage.device(), "\"");
  tensor.unsafeGetTensorImpl()->set_storage_keep_dtype(std::move(storage));
  place(tensor, size, stride, offset);
  return tensor;
}

Tensor& set_storage(Tensor& tensor, c10::Storage storage) {
  const auto count = static_cast<int64_t>(storage.nbytes() / tensor.itemsize());
  return set_storage_at(tensor, std::move(storage), 0, {count}, {});
}

Tensor& set_tensor(Tensor& tensor, const Tensor& source) {
  return set_storage_at(tensor, source.storage(), source.storage_offset(), source.sizes(), source.strides());
}

Tensor& set_empty(Tensor& tensor) {
  return set_tensor(tensor, empty({0}, tensor.scalar_type(), {}, tensor.device(), {}, {}));
}

// Without it a module that moves here would get new parameters, where with a GPU it keeps its own.
bool same_kind(const Tensor& one, const Tensor& other) {
  const auto dense = [](const Tensor& tensor) {
    const auto type = tensor.device().type();
    return tensor.layout() == c10::kStrided &&
        (type == c10::DeviceType::PrivateUse1 || type == c10::DeviceType::CPU);
  };
  return dense(one) && dense(other);
}

// torch takes this one for accelerators, and the host's own would move the host's random numbers. As theirs,
// it needs no memory but that of its results.
std::tuple<Tensor, Tensor> native_dropout(const Tensor& input, double p, std::optional<bool> train) {
  const bool drops = train.value_or(true) && p > 0;
  Tensor kept = at::empty_like(input, input.options().dtype(at::kBool));
  drops ? kept.bernoulli_(1 - p) : kept.fill_(true);
  Tensor result = input.mul(kept);
  return {drops && p < 1 ? result.mul_(1 / (1 - p)) : result, kept};
}

Tensor convolution(
    const Tensor& input,
    const Tensor& weight,
    const std::optional<Tensor>& bias,
    IntArrayRef stride,
    IntArrayRef padding,
    IntArrayRef dilation,
    bool transposed,
    IntArrayRef output_padding,
    int64_t groups) {
  check();
  HostView view;
  const Tensor host_bias = view.host(bias.value_or(Tensor()));
  const Tensor result = at::convolution(
      view.host(input), view.host(weight), host_bias.defined() ? std::optional(host_bias) : std::nullopt, stride,
      padding, dilation, transposed, output_padding, groups);
  return view.device(result, input.device());
}

std::tuple<Tensor, Tensor, Tensor> convolution_backward(
    const Tensor& grad,
    const Tensor& input,
    const Tensor& weight,
    IntArrayRef stride,
    IntArrayRef padding,
    IntArrayRef dilation,
    bool transposed,
    IntArrayRef output_padding,
    int64_t groups,
    std::array<bool, 3> mask) {
  check();
  HostView view;
  const std::array<int64_t, 1> bias{transposed ? weight.size(1) * groups : weight.size(0)};
  const auto [first, second, third] = at::convolution_backward(
      view.host(grad), view.host(input), view.host(weight), IntArrayRef(bias), stride, padding, dilation,
      transposed, output_padding, groups, mask);
  const auto device = input.device();
  return {view.device(first, device), view.device(second, device), view.device(third, device)};
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", TORCH_FN(empty));
  library.impl("empty_strided", TORCH_FN(empty_strided));
  library.impl("_efficientzerotensor", TORCH_FN(zero_without_memory));
  library.impl("_copy_from", TORCH_FN(copy_from));
  library.impl("record_stream", TORCH_FN(record_stream));
  library.impl("resize_", TORCH_FN(resize));
  library.impl("set_.source_Storage_storage_offset", TORCH_FN(set_storage_at));
  library.impl("set_.source_Storage", TORCH_FN(set_storage));
  library.impl("set_.source_Tensor", TORCH_FN(set_tensor));
  library.impl("set_", TORCH_FN(set_empty));
  library.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  library.impl("view", TORCH_FN(at::native::view));
  library.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  library.impl("_has_compatible_shallow_copy_type", TORCH_FN(same_kind));
  library.impl("native_dropout", TORCH_FN(native_dropout));
  library.impl("convolution_overrideable", TORCH_FN(convolution));
  library.impl("convolution_backward_overrideable", TORCH_FN(convolution_backward));
}

// The copy itself resolves these; resolved before it, they would need another copy.
TORCH_LIBRARY_IMPL(aten, Conjugate, library) {
  library.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, Negative, library) {
  library.impl("_copy_from", torch::CppFunction::makeFallthrough());
}

} // namespace
} // namespace fakegpu
