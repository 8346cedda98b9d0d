// Device memory that a process maps but another one owns: who is charged for it once its owner is gone.
//
// The owner pays for as long as it lives. Each importer keeps an entry of its own; entries whose owner is
// dead count for the living importer with the lowest slot. Nothing is moved when an owner dies, so nothing
// can be lost if somebody is killed meanwhile: like all totals these are summed when they are wanted.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <utility>

#include "native/simgpu/machine/layout.hpp"

namespace aliquot::simgpu::machine {

inline constexpr std::uint32_t kAnySlot = kMaxProcesses, kAnyUnit = ~std::uint32_t{0};

// Bytes on `unit` (or all) that are charged to importers, or to the one in `slot`.
std::uint64_t orphaned_bytes(const SlotTable& table, const ImportTable& imports, std::uint32_t unit,
                             std::uint32_t slot = kAnySlot) noexcept;

void clear_imports(ImportTable& imports, std::uint32_t slot) noexcept;

// This process' entries. Thread-safe.
class Imports {
 public:
  Imports(ImportTable& table, std::uint32_t slot) noexcept : table_(table), slot_(slot) {}

  // `key` is the owner's name for the memory; the same may be imported often and is counted once. False where
  // there is no room to remember it.
  bool add(std::uint64_t owner, std::uint64_t key, std::uint32_t unit, std::uint64_t bytes);
  void remove(std::uint64_t owner, std::uint64_t key) noexcept;

 private:
  struct Held {
    std::uint32_t index = 0;
    unsigned count = 0;
  };

  ImportTable& table_;
  const std::uint32_t slot_;
  std::mutex mutex_;
  std::map<std::pair<std::uint64_t, std::uint64_t>, Held> held_;
};

} // namespace aliquot::simgpu::machine
