// What an administrator has set on the cards: modes, limits, locked clocks. All processes of a machine see
// it.
//
// A file of its own beside the machine's region: settings come and go with it, and the region's layout does
// not change with them. Nothing here is about a process; whoever may set what is decided by the caller.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "native/simgpu/machine/layout.hpp"
#include "native/simgpu/machine/region.hpp"

namespace aliquot::simgpu::machine {

inline constexpr std::uint64_t kControlMagic = 0x3153544c52544341; // "ACTRLTS1"
inline constexpr std::uint32_t kMaxFans = 4;

// A range or a pair of clocks in one word, so that it changes in one step. 0: not set.
struct ClockPair {
  std::uint32_t low_mhz = 0, high_mhz = 0;
};

inline std::uint64_t packed(ClockPair pair) noexcept {
  return std::uint64_t{pair.low_mhz} << 32 | pair.high_mhz;
}
inline ClockPair unpacked(std::uint64_t word) noexcept {
  return {static_cast<std::uint32_t>(word >> 32), static_cast<std::uint32_t>(word)};
}

// What was used up to a moment: from there on it is computed with the rates of now.
struct Ledger {
  Word at_ns, busy_ns;  // the moment (CLOCK_BOOTTIME) and the engine's busy time then
  Word energy_uj;       // drawn until then
  Word load_mw;         // what work draws from then on, in addition to idling
  Word reasons;         // why clocks are held down from then on
  Word power_capped_ns; // busy time under a power cap until then
  Word thermal_ns;      // time of thermal slowdown until then
};

// One card. A mode is stored as its number + 1; 0 is the default.
struct alignas(64) CardControls {
  Word persistence, ecc_pending;
  Word power_limit_mw;
  Word locked_gpu, locked_memory; // ClockPair: lowest, highest
  Word applications;              // ClockPair: memory, SM
  Word gpu_offset, memory_offset; // MHz + kOffsetBias
  Word restrictions;              // bit by nvmlRestrictedAPI_t: changed from the default
  Word accounting, accounting_since_ns, accounting_cleared_ns; // CLOCK_BOOTTIME
  Word fan[kMaxFans];                                          // percent + 1; 0: automatic
  Word hostname[8];
  Word ledger_in_use; // its lowest bit: readers take ledger[this]; the other one may be half-written
  Ledger ledger[2];
};
inline constexpr std::uint64_t kOffsetBias = 1U << 31;

struct ControlRegion {
  Header header;
  CardControls card[kMaxCards];
};

// The settings of a machine's cards. Thread-safe.
class Controls {
 public:
  // Makes them where they do not exist. Null and a message on failure.
  static std::unique_ptr<Controls> open(const std::string& home, const std::string& setting,
                                        std::string& message);

  CardControls& card(std::uint32_t index) const noexcept {
    return mapping_.as<ControlRegion>()->card[index % kMaxCards];
  }

  // Runs `change` while no other process or thread is in one. False if that could not be had soon: somebody
  // was stopped in the midst. The kernel takes the lock from who dies.
  template <typename Change>
  bool exclusively(Change&& change) {
    const int lock = take_lock();
    if (lock < 0)
      return false;
    change();
    drop_lock(lock);
    return true;
  }

 private:
  Controls(Mapping mapping, std::string path) : mapping_(std::move(mapping)), path_(std::move(path)) {}
  int take_lock() const noexcept;
  static void drop_lock(int lock) noexcept;

  const Mapping mapping_;
  const std::string path_;
};

} // namespace aliquot::simgpu::machine
