#include "host_view.h"
#include "fakegpu.h"

#include <ATen/EmptyTensor.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/DeviceGuard.h>

#include <cstring>

namespace fakegpu {
namespace {

at::Tensor like(const at::Tensor& tensor, c10::Storage storage, c10::DispatchKey key) {
  auto made = at::detail::make_tensor<c10::TensorImpl>(
      std::move(storage), c10::DispatchKeySet(key), tensor.dtype());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(tensor.sizes(), tensor.strides(), tensor.storage_offset());
  if (tensor.is_conj())
    made._set_conj(true);
  if (tensor.is_neg())
    made._set_neg(true);
  return made;
}

bool same_geometry(const at::Tensor& one, const at::Tensor& other) {
  return one.sizes() == other.sizes() && one.strides() == other.strides() &&
      one.storage_offset() == other.storage_offset();
}

} // namespace

const HostView::Storage& HostView::storage(const at::Tensor& tensor) {
  const auto* wanted = tensor.storage().unsafeGetStorageImpl();
  for (const auto& known : storages_)
    if (known.device.unsafeGetStorageImpl() == wanted)
      return known;
  void* address = const_cast<void*>(wanted->data());
  c10::Storage host(
      c10::Storage::use_byte_size_t(), wanted->nbytes(), c10::DataPtr(address, c10::DeviceType::CPU),
      c10::GetCPUAllocator(), wanted->resizable());
  storages_.push_back({tensor.storage(), std::move(host), address});
  return storages_.back();
}

at::Tensor HostView::host(const at::Tensor& tensor) {
  if (!tensor.defined() || tensor.device().type() != c10::DeviceType::PrivateUse1)
    return tensor;
  for (const auto& [device, host] : tensors_)
    if (device.is_same(tensor))
      return host;
  auto made = like(tensor, storage(tensor).host, c10::DispatchKey::CPU);
  tensors_.emplace_back(tensor, made);
  return made;
}

at::Tensor HostView::device(const at::Tensor& result, c10::Device target) {
  if (!result.defined() || result.device().type() != c10::DeviceType::CPU)
    return result;
  for (const auto& [device, host] : tensors_)
    if (host.is_same(result))
      return device;
  for (const auto& known : storages_)
    if (known.host.is_alias_of(result.storage()))
      return like(result, known.device, c10::DispatchKey::PrivateUse1);
  const auto dense = result.is_non_overlapping_and_dense() ? result : result.contiguous();
  const c10::DeviceGuard guard(target);
  at::Tensor made = at::detail::empty_strided_generic(
      dense.sizes(), dense.strides(), allocator(), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
      dense.scalar_type());
  if (dense.nbytes())
    std::memcpy(made.mutable_data_ptr(), dense.const_data_ptr(), dense.nbytes());
  return made;
}

void HostView::follow() {
  for (const auto& known : storages_) {
    const auto* host = known.host.unsafeGetStorageImpl();
    if (host->data() == known.address)
      continue;
    auto* device = known.device.unsafeGetStorageImpl();
    resize_storage(device, host->nbytes());
    if (host->nbytes())
      std::memcpy(device->mutable_data(), host->data(), host->nbytes());
  }
  for (const auto& [device, host] : tensors_)
    if (!same_geometry(device, host))
      device.unsafeGetTensorImpl()->set_sizes_and_strides(host.sizes(), host.strides(), host.storage_offset());
}

} // namespace fakegpu
