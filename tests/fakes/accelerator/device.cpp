// What torch asks of a device: the current one, its streams and events, of which all is done at once.
#include "fakegpu.h"

#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <chrono>

namespace fakegpu {
namespace {

using c10::Device;
using c10::DeviceIndex;
using c10::Stream;
using Clock = std::chrono::steady_clock;

struct Guard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override {
    return c10::DeviceType::PrivateUse1;
  }

  Device exchangeDevice(Device to) const override {
    const Device before = getDevice();
    setDevice(to);
    return before;
  }

  Device getDevice() const override {
    return device(current_device());
  }

  // Also to one that is not installed, which is where autograd's idle threads sit.
  void setDevice(Device to) const override {
    TORCH_CHECK(
        to.index() >= 0 && to.index() < MAX_DEVICES, "fakegpu error: invalid device ordinal ", int(to.index()));
    set_current_device(to.index());
  }

  void uncheckedSetDevice(Device to) const noexcept override {
    set_current_device(to.index());
  }

  Stream getStream(Device of) const override {
    return Stream(Stream::DEFAULT, of.has_index() ? of : getDevice());
  }

  Stream getDefaultStream(Device of) const override {
    return getStream(of);
  }

  Stream getStreamFromGlobalPool(Device of, bool /*high*/) const override {
    return getStream(of);
  }

  Stream getNewStream(Device of, int /*priority*/) const override {
    return getStream(of);
  }

  Stream exchangeStream(Stream to) const override {
    return getStream(to.device());
  }

  // All of them, installed or not: autograd makes its threads by this number, once.
  DeviceIndex deviceCount() const noexcept override {
    return MAX_DEVICES;
  }

  bool queryStream(const Stream& /*stream*/) const override {
    return true;
  }

  void synchronizeStream(const Stream& /*stream*/) const override {
    check();
  }

  void synchronizeDevice(const DeviceIndex /*index*/) const override {
    check();
  }

  void record(void** event, const Stream& /*stream*/, const DeviceIndex /*index*/, const c10::EventFlag /*flag*/)
      const override {
    if (!*event)
      *event = new Clock::time_point();
    *static_cast<Clock::time_point*>(*event) = Clock::now();
  }

  void block(void* /*event*/, const Stream& /*stream*/) const override {}

  bool queryEvent(void* /*event*/) const override {
    return true;
  }

  void synchronizeEvent(void* /*event*/) const override {}

  void destroyEvent(void* event, const DeviceIndex /*index*/) const noexcept override {
    delete static_cast<Clock::time_point*>(event);
  }

  double elapsedTime(void* begin, void* end, const DeviceIndex /*index*/) const override {
    const auto passed = *static_cast<Clock::time_point*>(end) - *static_cast<Clock::time_point*>(begin);
    return std::chrono::duration<double, std::milli>(passed).count();
  }
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

} // namespace
} // namespace fakegpu
