// Device tensors as the host sees them. The memory is the host's, so nothing is copied.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

namespace fakegpu {

// The views of one call: tensors that share memory on the device share it on the host, too.
class HostView {
 public:
  // Returns the view of a device tensor; any other tensor as it is.
  at::Tensor host(const at::Tensor& tensor);

  // Gives a result of the host to the device: an argument as itself, a view of one as a view, a new tensor
  // as a copy on `target`.
  at::Tensor device(const at::Tensor& result, c10::Device target);

  // Lets a device tensor follow its view, where the host has given that another shape or more memory.
  void follow();

 private:
  struct Storage {
    c10::Storage device;
    c10::Storage host;
    const void* address;
  };
  const Storage& storage(const at::Tensor& tensor);

  std::vector<Storage> storages_;
  std::vector<std::pair<at::Tensor, at::Tensor>> tensors_;
};

} // namespace fakegpu
