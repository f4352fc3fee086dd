// The memory of one device.
#pragma once

#include <c10/core/CachingDeviceAllocator.h>

#include <map>
#include <optional>
#include <string>
#include <unordered_map>

namespace fakegpu {

struct Block {
  void* address;
  size_t size;
  size_t requested;
  bool active;
};

// Hands out the host's memory in blocks, and keeps the freed ones for the next request of the same size.
class Pool {
 public:
  using Stats = c10::CachingDeviceAllocator::DeviceStats;

  size_t capacity = size_t(256) << 20;
  // What other processes hold of the device.
  size_t others = 0;
  // How much of the device this process may reserve, where there is a limit.
  std::optional<double> fraction;
  Stats stats;

  // Returns null where there is no room even after the cache is flushed, and says why.
  void* take(size_t requested, int device, std::string& why);
  // Returns false for an address of another pool.
  bool give_back(void* address);
  void flush();

  size_t free() const;
  const std::unordered_map<void*, Block>& blocks() const {
    return blocks_;
  }

 private:
  size_t reserved() const;
  size_t allowed() const;
  Block* reuse(size_t size);
  Block* make(size_t size);
  std::string shortage(size_t size, int device) const;
  void count_active(const Block& block, bool up);
  void count_reserved(const Block& block, bool up);

  std::unordered_map<void*, Block> blocks_;
  std::multimap<size_t, Block*> cached_;
};

} // namespace fakegpu
