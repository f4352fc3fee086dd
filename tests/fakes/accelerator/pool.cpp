#include "pool.h"

#include <c10/util/StringUtil.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace fakegpu {
namespace {

using c10::CachingAllocator::StatArray;
using c10::CachingAllocator::StatType;

constexpr size_t GRAIN = 512;
constexpr size_t SMALL = size_t(1) << 20;

void count(StatArray& stat, const Block& block, size_t amount, bool up) {
  const auto kind = block.size <= SMALL ? StatType::SMALL_POOL : StatType::LARGE_POOL;
  for (auto type : {StatType::AGGREGATE, kind}) {
    auto& one = stat[static_cast<size_t>(type)];
    up ? one.increase(amount) : one.decrease(amount);
  }
}

size_t rounded(size_t size) {
  return size > SIZE_MAX - GRAIN ? SIZE_MAX / GRAIN * GRAIN : (size + GRAIN - 1) / GRAIN * GRAIN;
}

// Large blocks are shared mappings, so that a limit on the host's own data (RLIMIT_DATA) does not see them,
// as it does not see a GPU's memory. Small ones are not, as a process may have only some 65,000 mappings.
void* map(size_t size) {
  if (size <= SMALL)
    return std::aligned_alloc(GRAIN, size);
  constexpr int FLAGS = MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE;
  void* found = mmap(nullptr, size, PROT_READ | PROT_WRITE, FLAGS, -1, 0);
  return found == MAP_FAILED ? nullptr : found;
}

void unmap(const Block& block) {
  if (block.size <= SMALL)
    std::free(block.address);
  else
    munmap(block.address, block.size);
}

std::string text(size_t size) {
  if (size < 1024)
    return c10::str(size, " bytes");
  double number = static_cast<double>(size) / 1024;
  const char* unit = "KiB";
  for (const char* larger : {"MiB", "GiB"})
    if (number >= 1024) {
      number /= 1024;
      unit = larger;
    }
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, "%.2f %s", number, unit);
  return buffer;
}

} // namespace

size_t Pool::reserved() const {
  return static_cast<size_t>(stats.reserved_bytes[0].current);
}

size_t Pool::allowed() const {
  return fraction ? static_cast<size_t>(*fraction * static_cast<double>(capacity)) : capacity;
}

size_t Pool::free() const {
  const size_t used = others + reserved();
  return used < capacity ? capacity - used : 0;
}

void Pool::count_active(const Block& block, bool up) {
  count(stats.allocation, block, 1, up);
  count(stats.active, block, 1, up);
  count(stats.allocated_bytes, block, block.size, up);
  count(stats.active_bytes, block, block.size, up);
  count(stats.requested_bytes, block, block.requested, up);
}

void Pool::count_reserved(const Block& block, bool up) {
  count(stats.segment, block, 1, up);
  count(stats.reserved_bytes, block, block.size, up);
  (up ? stats.num_device_alloc : stats.num_device_free) += 1;
}

Block* Pool::reuse(size_t size) {
  const auto found = cached_.find(size);
  if (found == cached_.end())
    return nullptr;
  Block* block = found->second;
  cached_.erase(found);
  return block;
}

Block* Pool::make(size_t size) {
  if (size > free() || reserved() + size > allowed())
    return nullptr;
  void* address = map(size);
  if (!address)
    return nullptr;
  Block& block = blocks_[address] = {address, size, 0, false};
  count_reserved(block, true);
  return &block;
}

void Pool::flush() {
  for (const auto& [size, block] : cached_) {
    count_reserved(*block, false);
    unmap(*block);
    blocks_.erase(block->address);
  }
  cached_.clear();
}

void* Pool::take(size_t requested, int device, std::string& why) {
  const size_t size = rounded(requested);
  Block* block = reuse(size);
  if (!block)
    block = make(size);
  if (!block) {
    flush();
    stats.num_alloc_retries += 1;
    block = make(size);
  }
  if (!block) {
    stats.num_ooms += 1;
    why = shortage(requested, device);
    return nullptr;
  }
  block->requested = requested;
  block->active = true;
  count_active(*block, true);
  return block->address;
}

bool Pool::give_back(void* address) {
  const auto found = blocks_.find(address);
  if (found == blocks_.end())
    return false;
  Block& block = found->second;
  count_active(block, false);
  block.active = false;
  cached_.emplace(block.size, &block);
  return true;
}

// The sentences of torch's CUDA allocator, so that what reads them can be tried on these.
std::string Pool::shortage(size_t size, int device) const {
  const auto allocated = static_cast<size_t>(stats.allocated_bytes[0].current);
  return c10::str(
      "fakegpu out of memory. Tried to allocate ", text(size), ". GPU ", device, " has a total capacity of ",
      text(capacity), " of which ", text(free()), " is free. Including non-PyTorch memory, this process has ",
      text(reserved()), " memory in use. ", fraction ? text(allowed()) + " allowed; " : "",
      "Of the allocated memory ", text(allocated), " is allocated by PyTorch, and ", text(reserved() - allocated),
      " is reserved by PyTorch but unallocated.");
}

} // namespace fakegpu
