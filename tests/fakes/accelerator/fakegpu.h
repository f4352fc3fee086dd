// What the parts of the fake accelerator know of each other.
#pragma once

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Device.h>
#include <c10/core/StorageImpl.h>

#include <string>

namespace fakegpu {

// Autograd makes its threads once, for so many devices, whatever is installed later.
constexpr c10::DeviceIndex MAX_DEVICES = 4;

inline c10::Device device(c10::DeviceIndex index) {
  return {c10::DeviceType::PrivateUse1, index};
}

// The runtime: which devices there are, and whether they still work.
c10::DeviceIndex device_count() noexcept;
c10::DeviceIndex current_device() noexcept;
void set_current_device(c10::DeviceIndex index) noexcept;
bool started() noexcept;
// Starts the runtime; throws in a process that was forked from one where it had started.
void start();
// As start(); throws also once a device is broken.
void check();

// The memory.
c10::DeviceAllocator* allocator();
void resize_storage(c10::StorageImpl* storage, size_t nbytes);

} // namespace fakegpu
