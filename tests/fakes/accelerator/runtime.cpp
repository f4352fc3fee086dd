// Which devices there are, whether the runtime has started, and the error from which it does not recover.
#include "fakegpu.h"

#include <c10/util/Exception.h>
#include <pthread.h>

#include <atomic>
#include <mutex>

namespace fakegpu {
namespace {

std::atomic<c10::DeviceIndex> count{1};
std::atomic<bool> running{false};
std::atomic<bool> forked{false};
std::atomic<bool> broken{false};
std::mutex lock;
std::string reason;
thread_local c10::DeviceIndex current = 0;

void in_child() {
  forked = running.load();
}

// cudaErrorAssert has this number.
constexpr int32_t DEVICE_ASSERT = 710;

} // namespace

c10::DeviceIndex device_count() noexcept {
  return count;
}

c10::DeviceIndex current_device() noexcept {
  return current;
}

void set_current_device(c10::DeviceIndex index) noexcept {
  current = index;
}

bool started() noexcept {
  return running;
}

void start() {
  TORCH_CHECK(
      !forked,
      "Cannot re-initialize fakegpu in forked subprocess. To use fakegpu with multiprocessing, "
      "you must use the 'spawn' start method");
  if (!running.exchange(true)) {
    static const int registered = pthread_atfork(nullptr, nullptr, in_child);
    (void)registered;
  }
}

void check() {
  start();
  if (broken) {
    std::lock_guard<std::mutex> guard(lock);
    throw c10::AcceleratorError({__func__, __FILE__, __LINE__}, DEVICE_ASSERT, reason);
  }
}

} // namespace fakegpu

extern "C" {

void fakegpu_set_device_count(int devices) {
  fakegpu::count = static_cast<c10::DeviceIndex>(devices);
}

int fakegpu_max_devices() {
  return fakegpu::MAX_DEVICES;
}

int fakegpu_started() {
  return fakegpu::started();
}

int fakegpu_forked() {
  return fakegpu::forked;
}

void fakegpu_stop() {
  fakegpu::running = false;
}

int fakegpu_current_device() {
  return fakegpu::current_device();
}

// With no message, the devices work again.
void fakegpu_break(const char* message) {
  std::lock_guard<std::mutex> guard(fakegpu::lock);
  fakegpu::reason = message ? message : "";
  fakegpu::broken = message != nullptr;
}

} // extern "C"
