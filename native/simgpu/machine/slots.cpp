#include "native/simgpu/machine/slots.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace aliquot::simgpu::machine {
namespace {

void raise_high(SlotTable& table, std::uint64_t count) noexcept {
  std::uint64_t high = table.high.load();
  while (high < count && !table.high.compare_exchange_weak(high, count)) {
  }
}

void copy_text(char* to, std::size_t size, const char* from) noexcept {
  const std::size_t length = std::min(std::strlen(from), size - 1);
  std::memcpy(to, from, length);
  to[length] = '\0';
}

const char* slice_name() noexcept {
  const char* path = std::getenv("ALIQUOT_SLICE");
  if (path == nullptr)
    return "";
  const char* slash = std::strrchr(path, '/');
  return slash != nullptr ? slash + 1 : path;
}

} // namespace

std::uint32_t slot_count(const SlotTable& table) noexcept {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(table.high.load(), kMaxProcesses));
}

std::uint64_t live_identity(const SlotTable& table, std::uint32_t slot) noexcept {
  const std::uint64_t identity = table.identity[slot].load();
  return identity != 0 && table.ready[slot].load() == identity ? identity : 0;
}

void leave_slot(SlotTable& table, std::uint32_t slot, std::uint64_t identity) noexcept {
  table.ready[slot].store(0);
  table.identity[slot].compare_exchange_strong(identity, 0);
}

namespace detail {

std::optional<std::uint32_t> claim_identity(SlotTable& table, std::uint64_t identity) noexcept {
  for (std::uint32_t slot = 0; slot < kMaxProcesses; ++slot) {
    std::uint64_t free = 0;
    if (!table.identity[slot].compare_exchange_strong(free, identity))
      continue;
    // A leftover from the same process (a second copy of the library) must not count before it is cleared.
    table.ready[slot].store(0);
    raise_high(table, slot + 1);
    return slot;
  }
  return std::nullopt;
}

void publish_slot(SlotTable& table, std::uint32_t slot, const common::ProcessStatus& self,
                  std::uint64_t identity) noexcept {
  SlotTable::Detail& detail = table.detail[slot];
  detail.start_ticks.store(self.start_ticks);
  detail.image.store(self.stack_start);
  common::read_command_name(self.pid, detail.command);
  copy_text(detail.slice, sizeof detail.slice, slice_name());
  table.ready[slot].store(identity);
}

} // namespace detail
} // namespace aliquot::simgpu::machine
