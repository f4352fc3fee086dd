// Every operator that the device has not got itself is the host's, on the host's views of the arguments.
#include "fakegpu.h"
#include "generator.h"
#include "host_view.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include <optional>
#include <set>
#include <string>

namespace fakegpu {
namespace {

using c10::IValue;
using c10::OperatorHandle;
using torch::jit::Stack;

// These take some of their tensors from the host; all others want all of them on one device.
bool mixes(const std::string& name) {
  static const auto& names = *new std::set<std::string>{
      "aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index",
      "aten::_unsafe_index_put", "aten::_pack_padded_sequence", "aten::_ctc_loss", "aten::_fused_adam_",
      "aten::_fused_adamw_", "aten::_fused_sgd_"};
  return names.count(name) > 0;
}

class Call {
 public:
  Call(const OperatorHandle& op, Stack& stack)
      : schema_(op.schema()), stack_(stack), begin_(stack.size() - schema_.arguments().size()) {}

  void run(const OperatorHandle& op) {
    choose_device();
    for (size_t i = 0; i < schema_.arguments().size(); ++i)
      stack_[begin_ + i] = to_host(stack_[begin_ + i], schema_.arguments()[i]);
    op.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &stack_);
    view_.follow();
    const size_t first = stack_.size() - schema_.returns().size();
    for (size_t i = 0; i < schema_.returns().size(); ++i)
      stack_[first + i] = to_device(stack_[first + i]);
  }

 private:
  void meet(const at::Tensor& tensor) {
    if (!tensor.defined())
      return;
    const bool own = tensor.device().type() == c10::DeviceType::PrivateUse1;
    // A number in a tensor may come from the host.
    if (!own && (tensor.dim() == 0 || mixes(schema_.name())))
      return;
    if (!seen_)
      seen_ = tensor.device();
    TORCH_CHECK(
        *seen_ == tensor.device() || (own && tensor.dim() == 0),
        "Expected all tensors to be on the same device, but found at least two devices, ", *seen_, " and ",
        tensor.device(), "! (when checking arguments of ", schema_.name(), ")");
    if (own && !target_)
      target_ = tensor.device();
  }

  void choose_device() {
    for (size_t i = begin_; i < stack_.size(); ++i) {
      const IValue& value = stack_[i];
      if (value.isTensor())
        meet(value.toTensor());
      else if (value.isTensorList())
        for (const at::Tensor& tensor : value.toTensorList())
          meet(tensor);
      else if (value.isOptionalTensorList())
        for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorList())
          meet(tensor.value_or(at::Tensor()));
      else if (value.isDevice() && value.toDevice().has_index())
        target_ = value.toDevice();
    }
    if (!target_)
      target_ = fakegpu::device(current_device());
  }

  IValue to_host(const IValue& value, const c10::Argument& argument) {
    if (value.isTensor())
      return view_.host(value.toTensor());
    if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& tensor : value.toTensorList())
        list.push_back(view_.host(tensor));
      return list;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> list;
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorList())
        list.push_back(tensor ? std::optional<at::Tensor>(view_.host(*tensor)) : std::nullopt);
      return list;
    }
    if (value.isDevice())
      return c10::Device(c10::DeviceType::CPU);
    if (value.isGenerator())
      return host_generator(value.toGenerator());
    if (value.isNone() && argument.type()->str() == "Generator?")
      return host_generator(default_generator(target_->index()));
    return value;
  }

  IValue to_device(const IValue& value) {
    if (value.isTensor())
      return view_.device(value.toTensor(), *target_);
    if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& tensor : value.toTensorList())
        list.push_back(view_.device(tensor, *target_));
      return list;
    }
    return value;
  }

  const c10::FunctionSchema& schema_;
  Stack& stack_;
  const size_t begin_;
  HostView view_;
  std::optional<c10::Device> seen_;
  std::optional<c10::Device> target_;
};

void run_on_host(const OperatorHandle& op, Stack* stack) {
  check();
  Call(op, *stack).run(op);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

// torch would make the result of these first, in a shape at which the host then warns.
TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  for (const char* name : {"mse_loss", "smooth_l1_loss"})
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<&run_on_host>());
}

} // namespace
} // namespace fakegpu
