#include "native/simgpu/driver/core/heap.hpp"

#include <iterator>

namespace aliquot::simgpu::driver {
namespace {

constexpr std::uint64_t kLargestSmall = kBlockBytes / 2;

constexpr std::uint64_t divide_up(std::uint64_t value, std::uint64_t by) noexcept {
  return value / by + (value % by != 0 ? 1 : 0);
}

} // namespace

Heap::~Heap() {
  for (const auto& [address, units] : small_) {
    space_.withdraw(address, 1);
    release(address, 1);
  }
  trim(0);
}

std::uint64_t Heap::allocate(std::uint64_t bytes) {
  const std::lock_guard guard(mutex_);
  if (bytes <= kLargestSmall)
    return allocate_small(bytes);
  const std::uint64_t blocks = divide_up(bytes, kBlockBytes);
  const std::uint64_t address = take(blocks);
  if (address != 0)
    space_.publish_large(address, divide_up(bytes, kUnitBytes) * kUnitBytes);
  return address;
}

std::uint64_t Heap::allocate_small(std::uint64_t bytes) {
  const auto units = static_cast<std::uint32_t>(divide_up(bytes, kUnitBytes));
  for (auto& [block, map] : small_)
    if (const int first = map->take(units); first >= 0)
      return block + first * kUnitBytes;
  const std::uint64_t block = take(1);
  if (block == 0)
    return 0;
  UnitMap* map = space_.publish_small(block);
  small_.emplace(block, map);
  return block + map->take(units) * kUnitBytes;
}

void Heap::free(std::uint64_t address, std::uint64_t bytes) noexcept {
  const std::lock_guard guard(mutex_);
  const std::uint64_t block = address / kBlockBytes * kBlockBytes;
  const auto small = small_.find(block);
  if (small == small_.end()) {
    const std::uint64_t blocks = divide_up(bytes, kBlockBytes);
    space_.withdraw(address, blocks);
    return give_back(address, blocks);
  }
  const auto first = static_cast<std::uint32_t>((address - block) / kUnitBytes);
  small->second->give_back(first, static_cast<std::uint32_t>(divide_up(bytes, kUnitBytes)));
  if (!retain_)
    space_.discard(address, divide_up(bytes, kUnitBytes) * kUnitBytes);
  if (!small->second->empty())
    return;
  small_.erase(small);
  space_.withdraw(block, 1);
  give_back(block, 1);
}

std::uint64_t Heap::take(std::uint64_t blocks) {
  if (const std::uint64_t kept = take_retained(blocks); kept != 0)
    return kept;
  const std::uint64_t bytes = blocks * kBlockBytes;
  if (machine_->reserve(card_, bytes) != machine::Status::Ok)
    return 0;
  const std::uint64_t address = space_.take_blocks(card_, blocks);
  if (address == 0) {
    machine_->release(card_, bytes);
    return 0;
  }
  charged_ += bytes;
  return address;
}

std::uint64_t Heap::take_retained(std::uint64_t blocks) {
  for (auto at = retained_.begin(); at != retained_.end(); ++at) {
    if (at->second < blocks)
      continue;
    const auto [address, count] = *at;
    if (count > blocks)
      retained_.emplace_hint(std::next(at), address + blocks * kBlockBytes, count - blocks);
    retained_.erase(at);
    return address;
  }
  return 0;
}

void Heap::give_back(std::uint64_t address, std::uint64_t blocks) noexcept {
  if (retain_) {
    try {
      auto at = retained_.emplace(address, blocks).first;
      if (const auto next = std::next(at);
          next != retained_.end() && at->first + at->second * kBlockBytes == next->first) {
        at->second += next->second;
        retained_.erase(next);
      }
      if (at != retained_.begin())
        if (const auto previous = std::prev(at);
            previous->first + previous->second * kBlockBytes == at->first) {
          previous->second += at->second;
          retained_.erase(at);
        }
      return;
    } catch (...) { // no memory to remember it by: give it back instead
    }
  }
  release(address, blocks);
}

void Heap::release(std::uint64_t address, std::uint64_t blocks) noexcept {
  const std::uint64_t bytes = blocks * kBlockBytes;
  space_.discard(address, bytes);
  try {
    space_.give_back_blocks(address, blocks);
  } catch (...) { // these addresses are not used again; the memory behind them is back all the same
  }
  machine_->release(card_, bytes);
  charged_ -= bytes;
}

void Heap::trim(std::uint64_t keep) noexcept {
  const std::lock_guard guard(mutex_);
  while (charged_ > keep && !retained_.empty()) {
    const auto last = std::prev(retained_.end());
    const auto [address, blocks] = *last;
    const std::uint64_t excess = divide_up(charged_ - keep, kBlockBytes);
    const std::uint64_t count = excess < blocks ? excess : blocks;
    if (count == blocks)
      retained_.erase(last);
    else
      last->second -= count;
    release(address + (blocks - count) * kBlockBytes, count);
  }
}

std::uint64_t Heap::charged() const noexcept {
  const std::lock_guard guard(mutex_);
  return charged_;
}

} // namespace aliquot::simgpu::driver
