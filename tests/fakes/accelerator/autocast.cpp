// torch.autocast("fakegpu"): which operators take their arguments in the lower precision, and which in full.
#include <ATen/autocast_mode.h>
#include <torch/library.h>

namespace fakegpu {
namespace {

using c10::IValue;
using c10::OperatorHandle;
using torch::jit::Stack;

constexpr auto DEVICE = c10::DeviceType::PrivateUse1;

void cast(const OperatorHandle& op, Stack* stack, at::ScalarType dtype) {
  const c10::impl::ExcludeDispatchKeyGuard once(c10::DispatchKey::AutocastPrivateUse1);
  for (size_t i = stack->size() - op.schema().arguments().size(); i < stack->size(); ++i) {
    IValue& value = (*stack)[i];
    if (value.isTensor() && value.toTensor().defined())
      value = at::autocast::cached_cast(dtype, value.toTensor(), DEVICE);
  }
  op.callBoxed(stack);
}

void lower(const OperatorHandle& op, Stack* stack) {
  cast(op, stack, at::autocast::get_autocast_dtype(DEVICE));
}

void full(const OperatorHandle& op, Stack* stack) {
  cast(op, stack, at::kFloat);
}

TORCH_LIBRARY_IMPL(_, AutocastPrivateUse1, library) {
  library.fallback(torch::CppFunction::makeFallthrough());
}

TORCH_LIBRARY_IMPL(aten, AutocastPrivateUse1, library) {
  for (const char* name :
       {"_convolution", "addbmm", "addmm", "addmv", "addr", "baddbmm", "bmm", "conv1d", "conv2d", "conv3d",
        "conv_transpose1d", "conv_transpose2d.input", "conv_transpose3d.input", "convolution", "linear", "matmul",
        "mm", "mv", "prelu", "scaled_dot_product_attention"})
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<&lower>());
  for (const char* name :
       {"binary_cross_entropy_with_logits", "cosine_embedding_loss", "cosine_similarity", "cross_entropy_loss",
        "cumprod", "cumsum", "exp", "group_norm", "kl_div", "l1_loss", "layer_norm", "log", "log_softmax.int",
        "mse_loss", "nll_loss", "norm.Scalar", "pow.Tensor_Scalar", "pow.Tensor_Tensor", "prod", "reciprocal",
        "rsqrt", "smooth_l1_loss", "softmax.int", "softplus", "sum", "sum.dim_IntList"})
    library.impl(name, torch::CppFunction::makeFromBoxedFunction<&full>());
}

} // namespace
} // namespace fakegpu
