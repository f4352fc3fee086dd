// The devices' memory as torch sees it, and as a test sets it.
#include "fakegpu.h"
#include "pool.h"

#include <c10/core/DeviceGuard.h>
#include <c10/util/Exception.h>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <mutex>

namespace fakegpu {
namespace {

std::mutex lock;
// Never destroyed: tensors may die after the library's own destructors have run.
auto& pools = *new std::array<Pool, MAX_DEVICES>();

// A fork while another thread allocates would leave the lock taken in the child.
const int fork_handlers =
    pthread_atfork([] { lock.lock(); }, [] { lock.unlock(); }, [] { lock.unlock(); });

void* take(size_t size, c10::DeviceIndex index, std::string& why) {
  const std::lock_guard<std::mutex> guard(lock);
  return pools[index].take(size, index, why);
}

void give_back(void* address) {
  const std::lock_guard<std::mutex> guard(lock);
  for (auto& pool : pools)
    if (pool.give_back(address))
      return;
}

struct Allocator final : c10::DeviceAllocator {
  c10::DataPtr allocate(size_t size) override {
    check();
    const auto index = current_device();
    TORCH_CHECK(
        index < device_count(), "fakegpu error: invalid device ordinal ", int(index), " of ", int(device_count()));
    void* address = nullptr;
    if (size > 0) {
      std::string why;
      address = take(size, index, why);
      TORCH_CHECK_WITH(OutOfMemoryError, address, why);
    }
    return {address, address, &give_back, device(index)};
  }

  c10::DeleterFnPtr raw_deleter() const override {
    return &give_back;
  }

  void copy_data(void* to, const void* from, size_t size) const override {
    default_copy_data(to, from, size);
  }

  bool initialized() override {
    return started();
  }

  void emptyCache(c10::MempoolId_t /*pool*/) override {
    check();
    const std::lock_guard<std::mutex> guard(lock);
    for (auto& pool : pools)
      pool.flush();
  }

  void recordStream(const c10::DataPtr& /*pointer*/, c10::Stream /*stream*/) override {}

  Pool::Stats getDeviceStats(c10::DeviceIndex index) override {
    const std::lock_guard<std::mutex> guard(lock);
    return at(index).stats;
  }

  void resetAccumulatedStats(c10::DeviceIndex index) override {
    reset(index, [](auto& stat) { stat.reset_accumulated(); });
    const std::lock_guard<std::mutex> guard(lock);
    auto& stats = at(index).stats;
    stats.num_ooms = stats.num_alloc_retries = stats.num_device_alloc = stats.num_device_free = 0;
  }

  void resetPeakStats(c10::DeviceIndex index) override {
    reset(index, [](auto& stat) { stat.reset_peak(); });
  }

  std::pair<size_t, size_t> getMemoryInfo(c10::DeviceIndex index) override {
    check();
    const std::lock_guard<std::mutex> guard(lock);
    const Pool& pool = at(index);
    return {pool.free(), pool.capacity};
  }

 private:
  static Pool& at(c10::DeviceIndex index) {
    TORCH_CHECK(index >= 0 && index < device_count(), "Invalid device argument ", static_cast<int>(index));
    return pools[index];
  }

  template <typename Change>
  static void reset(c10::DeviceIndex index, Change change) {
    const std::lock_guard<std::mutex> guard(lock);
    auto& stats = at(index).stats;
    for (auto* array :
         {&stats.allocation, &stats.segment, &stats.active, &stats.inactive_split, &stats.allocated_bytes,
          &stats.reserved_bytes, &stats.active_bytes, &stats.inactive_split_bytes, &stats.requested_bytes})
      for (auto& stat : *array)
        change(stat);
  }
};

Allocator& the_allocator = *new Allocator();
REGISTER_ALLOCATOR(c10::DeviceType::PrivateUse1, &the_allocator)

} // namespace

c10::DeviceAllocator* allocator() {
  return &the_allocator;
}

void resize_storage(c10::StorageImpl* storage, size_t nbytes) {
  TORCH_CHECK(storage->resizable(), "Trying to resize storage that is not resizable");
  const c10::DeviceGuard guard(storage->device());
  c10::DataPtr moved = the_allocator.allocate(nbytes);
  const size_t kept = std::min(nbytes, storage->nbytes());
  if (kept)
    std::memcpy(moved.get(), storage->data(), kept);
  storage->set_data_ptr_noswap(std::move(moved));
  storage->set_nbytes(nbytes);
}

} // namespace fakegpu

// The controls; all of them are called with an index that Python has checked.
extern "C" {

void fakegpu_set_capacity(int index, size_t bytes) {
  const std::lock_guard<std::mutex> guard(fakegpu::lock);
  fakegpu::pools[index].capacity = bytes;
}

void fakegpu_set_others(int index, size_t bytes) {
  const std::lock_guard<std::mutex> guard(fakegpu::lock);
  fakegpu::pools[index].others = bytes;
}

size_t fakegpu_capacity(int index) {
  const std::lock_guard<std::mutex> guard(fakegpu::lock);
  return fakegpu::pools[index].capacity;
}

// A negative fraction takes the limit away.
void fakegpu_set_fraction(int index, double fraction) {
  const std::lock_guard<std::mutex> guard(fakegpu::lock);
  if (fraction < 0)
    fakegpu::pools[index].fraction.reset();
  else
    fakegpu::pools[index].fraction = fraction;
}

double fakegpu_fraction(int index) {
  const std::lock_guard<std::mutex> guard(fakegpu::lock);
  return fakegpu::pools[index].fraction.value_or(1.0);
}

// Returns null where there is no room; the caller then has the reason.
void* fakegpu_take(int index, size_t bytes, char* why, size_t length) {
  std::string reason;
  void* address = fakegpu::take(bytes, static_cast<c10::DeviceIndex>(index), reason);
  std::snprintf(why, length, "%s", reason.c_str());
  return address;
}

void fakegpu_give_back(void* address) {
  fakegpu::give_back(address);
}

// Fills in five numbers a block (device, address, size, requested, active) while there is room, and returns how
// many blocks there are.
size_t fakegpu_blocks(uint64_t* numbers, size_t room) {
  const std::lock_guard<std::mutex> guard(fakegpu::lock);
  size_t found = 0;
  for (int index = 0; index < fakegpu::MAX_DEVICES; ++index)
    for (const auto& [address, block] : fakegpu::pools[index].blocks()) {
      if (found++ >= room)
        continue;
      *numbers++ = static_cast<uint64_t>(index);
      *numbers++ = reinterpret_cast<uint64_t>(address);
      *numbers++ = block.size;
      *numbers++ = block.requested;
      *numbers++ = block.active;
    }
  return found;
}

} // extern "C"
