// A device's random numbers are drawn by a generator of the host that only this device has: the same seed
// gives the same numbers as on the host, and neither moves the other.
#include "generator.h"
#include "fakegpu.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/Tensor.h>

#include <array>
#include <cstring>

namespace fakegpu {
namespace {

struct Generator final : c10::GeneratorImpl {
  Generator(c10::DeviceIndex index, at::Generator drawing)
      : GeneratorImpl(fakegpu::device(index), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1)),
        host(std::move(drawing)) {}

  void set_current_seed(uint64_t seed) override {
    host.set_current_seed(seed);
  }
  uint64_t current_seed() const override {
    return host.current_seed();
  }
  uint64_t seed() override {
    return host.seed();
  }
  void set_offset(uint64_t offset) override {
    host.set_offset(offset);
  }
  uint64_t get_offset() const override {
    return host.get_offset();
  }
  void set_state(const c10::TensorImpl& state) override {
    host.unsafeGetGeneratorImpl()->set_state(state);
  }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return host.unsafeGetGeneratorImpl()->get_state();
  }
  Generator* clone_impl() const override {
    return new Generator(device().index(), host.clone());
  }

  at::Generator host;
};

} // namespace

at::Generator new_generator(c10::DeviceIndex index) {
  return at::make_generator<Generator>(index, at::detail::createCPUGenerator());
}

const at::Generator& default_generator(c10::DeviceIndex index) {
  static auto& generators = *new std::array<at::Generator, MAX_DEVICES>{
      new_generator(0), new_generator(1), new_generator(2), new_generator(3)};
  return generators.at(index);
}

at::Generator host_generator(const at::Generator& generator) {
  auto* own = dynamic_cast<Generator*>(generator.unsafeGetGeneratorImpl());
  return own ? own->host : generator;
}

} // namespace fakegpu

static c10::GeneratorImpl& of(int index) {
  return *fakegpu::default_generator(static_cast<c10::DeviceIndex>(index)).unsafeGetGeneratorImpl();
}

extern "C" {

void fakegpu_seed(int index, uint64_t seed) {
  of(index).set_current_seed(seed);
}

uint64_t fakegpu_initial_seed(int index) {
  return of(index).current_seed();
}

// The state as bytes; returns how many there are, and fills them in where there is room.
size_t fakegpu_get_rng_state(int index, char* bytes, size_t room) {
  const at::Tensor state(of(index).get_state());
  if (room >= state.nbytes())
    std::memcpy(bytes, state.const_data_ptr(), state.nbytes());
  return state.nbytes();
}

// Takes as many bytes as fakegpu_get_rng_state has said.
void fakegpu_set_rng_state(int index, const char* bytes) {
  const at::Tensor state(of(index).get_state());
  std::memcpy(state.mutable_data_ptr(), bytes, state.nbytes());
  of(index).set_state(*state.unsafeGetTensorImpl());
}

} // extern "C"
