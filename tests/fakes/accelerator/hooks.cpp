// What torch asks of a backend: its random numbers, and host memory that counts as pinned.
#include "fakegpu.h"
#include "generator.h"

#include <ATen/core/CachingHostAllocator.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>

#include <cstdlib>
#include <map>
#include <mutex>

namespace fakegpu {
namespace {

std::mutex lock;
auto& pinned = *new std::map<const char*, size_t>();

void unpin(void* address) {
  if (!address)
    return;
  std::lock_guard<std::mutex> guard(lock);
  pinned.erase(static_cast<const char*>(address));
  std::free(address);
}

struct PinnedMemory final : at::HostAllocator {
  c10::DataPtr allocate(size_t size) override {
    check();
    void* address = size ? std::malloc(size) : nullptr;
    TORCH_CHECK_WITH(OutOfMemoryError, address || !size, "fakegpu cannot pin ", size, " bytes of host memory");
    if (address) {
      std::lock_guard<std::mutex> guard(lock);
      pinned[static_cast<const char*>(address)] = size;
    }
    return {address, address, &unpin, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override {
    return &unpin;
  }

  void copy_data(void* to, const void* from, size_t size) const override {
    default_copy_data(to, from, size);
  }

  bool record_event(void* /*address*/, void* /*context*/, c10::Stream /*stream*/) override {
    return true;
  }

  void empty_cache() override {}

  at::HostStats get_stats() override {
    return {};
  }

  void reset_accumulated_stats() override {}
  void reset_peak_stats() override {}
};

PinnedMemory& pinned_memory = *new PinnedMemory();
REGISTER_HOST_ALLOCATOR(at::kPrivateUse1, &pinned_memory)

struct Hooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override {
    return true;
  }

  bool isAvailable() const override {
    return device_count() > 0;
  }

  bool hasPrimaryContext(c10::DeviceIndex /*index*/) const override {
    return started();
  }

  void init() const override {
    start();
  }

  c10::DeviceIndex deviceCount() const override {
    return device_count();
  }

  c10::DeviceIndex getCurrentDevice() const override {
    return current_device();
  }

  void setCurrentDevice(c10::DeviceIndex index) const override {
    set_current_device(index);
  }

  const at::Generator& getDefaultGenerator(c10::DeviceIndex index) const override {
    return default_generator(index < 0 ? current_device() : index);
  }

  at::Generator getNewGenerator(c10::DeviceIndex index) const override {
    return new_generator(index < 0 ? current_device() : index);
  }

  at::Device getDeviceFromPtr(void* /*data*/) const override {
    return device(current_device());
  }

  bool isPinnedPtr(const void* data) const override {
    std::lock_guard<std::mutex> guard(lock);
    const auto* address = static_cast<const char*>(data);
    auto after = pinned.upper_bound(address);
    if (after == pinned.begin())
      return false;
    const auto& [begin, size] = *--after;
    return address < begin + size;
  }

  at::Allocator* getPinnedMemoryAllocator() const override {
    return &pinned_memory;
  }

  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t nbytes) const override {
    resize_storage(storage.unsafeGetStorageImpl(), nbytes);
  }
};

const int registered = (at::RegisterPrivateUse1HooksInterface(new Hooks()), 0);

} // namespace
} // namespace fakegpu
