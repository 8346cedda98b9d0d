// What can go wrong with a simulated card, on demand, and what the card reports: Xids, ECC errors, a lost or
// hung device, throttling, allocations that fail.
//
// All of it lies in the region, so every process of the machine sees it: the driver ends the contexts that a
// fault ends, NVML shows counters and events. Each call here is complete once it returns; a process that is
// killed inside leaves the fault or no fault, and at most a counter without its event.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "native/simgpu/machine/layout.hpp"

namespace aliquot::simgpu::machine {

struct Card;

enum class EventKind : std::uint32_t {
  Xid = 1,      // data: the Xid
  SingleBitEcc, // data: errors
  DoubleBitEcc, // data: errors
  RowRemap,     // data: 1 corrected, 2 uncorrected
  PageRetired,  // data: the same
  Throttle,     // data: reasons, 0 when it ends
  Clock,        // data: percent of the full clock
  MigConfig,    // the card's division changed
  Lost,         // the card is gone
  Cleared,      // faults were cleared: the card is as new
};

struct DeviceEvent {
  std::uint64_t sequence = 0; // counts over all cards, from 1
  std::uint32_t card = 0;
  EventKind kind = EventKind::Xid;
  std::uint64_t data = 0;
  std::int32_t pid = 0;                                                   // 0: of no process
  std::uint64_t monotonic_ns = 0, realtime_ns = 0;                        // when
  std::uint32_t gpu_instance = 0xffffffff, compute_instance = 0xffffffff; // all ones: the card's own
};

enum class EccLocation : std::uint8_t { Dram, L2, L1, RegisterFile, Sram };
static_assert(kEccLocations == static_cast<std::uint32_t>(EccLocation::Sram) + 1);

struct EccCounters {
  // [0] since the driver started, [1] over the life of the card; then by EccLocation.
  std::uint64_t corrected[2][kEccLocations] = {}, uncorrected[2][kEccLocations] = {};
  std::uint64_t total(bool aggregate, bool is_uncorrected) const noexcept;
};

struct RowRemaps {
  std::uint64_t corrected = 0, uncorrected = 0;
  bool pending = false, failed = false;
};

struct RetiredPage {
  std::uint64_t address = 0, realtime_ns = 0;
  bool double_bit = false;
};

// Bits of NVML's clocks event reasons (nvml.h, "nvmlClocksEventReasons").
inline constexpr std::uint64_t kReasonSwPower = 0x4, kReasonHwSlowdown = 0x8, kReasonSwThermal = 0x20,
                               kReasonHwThermal = 0x40, kReasonHwPowerBrake = 0x80;

struct Throttle {
  std::uint64_t reasons = 0; // 0: none
  std::uint32_t clock_percent = 100;
  std::uint32_t temperature_mc = 0; // millidegrees Celsius; 0: as the load makes it
};

struct Hang {
  bool armed = false;            // the next kernel of the target will not end
  std::int32_t target = 0;       // pid; 0: whichever is first
  std::uint32_t watchdog_ms = 0; // 0: nobody ends it
  std::uint64_t hung = 0;        // identity of the process whose kernel hangs; 0: none yet
  std::uint64_t since_ns = 0;    // CLOCK_MONOTONIC
};

// A context of the card must fail with `error` (a CUresult), and stay so.
struct FatalFault {
  std::uint64_t sequence = 0; // counts per card, from 1
  int error = 0;
  std::uint32_t xid = 0;
};

class Faults {
 public:
  Faults(MachineRegion& region, const std::vector<Card>& cards) noexcept : region_(region), cards_(cards) {}

  // ---- what the card reports -----------------------------------------------------------------------------
  // Events have sequence numbers. To wait for what comes: `from = last_event()`, then
  // `wait_event(from, timeout)`, then `next_event` until it is empty. The last 1024 are kept; who falls
  // behind further misses the oldest.
  std::uint64_t last_event() const noexcept;
  // The first event after `after`, which it moves on. None: there is no newer one.
  std::optional<DeviceEvent> next_event(std::uint64_t& after) const;
  // Sleeps until there is an event after `after`: false if `timeout_ns` passed first. Burns nothing: the one
  // who posts wakes it.
  bool wait_event(std::uint64_t after, std::uint64_t timeout_ns) const noexcept;
  std::uint64_t post(std::uint32_t card, EventKind kind, std::uint64_t data, std::int32_t pid = 0,
                     std::uint32_t gpu_instance = 0xffffffff,
                     std::uint32_t compute_instance = 0xffffffff) noexcept;

  // ---- state, for NVML -----------------------------------------------------------------------------------
  bool lost(std::uint32_t card) const noexcept;         // NVML_ERROR_GPU_IS_LOST
  bool reset_needed(std::uint32_t card) const noexcept; // recovery action: reset
  EccCounters ecc(std::uint32_t card) const noexcept;
  void clear_ecc(std::uint32_t card, bool aggregate) noexcept;
  RowRemaps row_remaps(std::uint32_t card) const noexcept;
  std::vector<RetiredPage> retired_pages(std::uint32_t card) const;
  Throttle throttle(std::uint32_t card) const noexcept;
  Hang hang(std::uint32_t card) const noexcept;

  // ---- faults on demand ----------------------------------------------------------------------------------
  // An Xid with its event. Of those that end work (as the vendor's catalogue says) the contexts of `pid`, or
  // of all, fail; 79 loses the card.
  void inject_xid(std::uint32_t card, std::uint32_t xid, std::int32_t pid) noexcept;
  // Corrected (single bit) or not (double bit). A double-bit error remaps the row or retires the page, and
  // ends the contexts of `pid` (contained) or of all.
  void inject_ecc(std::uint32_t card, bool double_bit, EccLocation where, std::uint32_t count,
                  std::int32_t pid) noexcept;
  void lose(std::uint32_t card) noexcept; // Xid 79
  void arm_hang(std::uint32_t card, std::int32_t pid, std::uint32_t watchdog_ms) noexcept;
  void set_throttle(std::uint32_t card, const Throttle& throttle) noexcept;
  // The nth allocation from now on (1: the next) and `times - 1` after it fail; of `pid`, or of anybody.
  void fail_allocation(std::uint32_t card, std::uint32_t nth, std::uint32_t times, std::int32_t pid) noexcept;
  void clear(std::uint32_t card) noexcept; // as after a reset; aggregate counters and remaps stay

  // ---- for the driver ------------------------------------------------------------------------------------
  std::uint64_t last_fatal(std::uint32_t card) const noexcept; // one load
  // The first fault after `after` that concerns this process on this engine; `after` moves on.
  std::optional<FatalFault> next_fatal(std::uint32_t card, std::uint32_t unit, std::uint64_t identity,
                                       std::uint64_t& after) const noexcept;
  // Neither hangs nor is held down. Two loads.
  bool is_well(std::uint32_t card) const noexcept {
    const FaultState& state = region_.fault[card];
    return (state.throttle.load(std::memory_order_relaxed) | state.hang.load(std::memory_order_relaxed)) == 0;
  }
  // Counts an allocation call. True: it must fail.
  bool allocation_fails(std::uint32_t card, std::int32_t pid) noexcept;
  // Whether the kernel that this process runs now must not end. Takes up an armed hang.
  bool hangs(std::uint32_t card, std::uint64_t identity) noexcept;
  // The watchdog's time is over: ends the contexts of the one that hangs.
  bool watchdog(std::uint32_t card) noexcept;

 private:
  void end_contexts(std::uint32_t card, int error, std::uint64_t target, std::uint32_t xid) noexcept;
  void record_memory_fault(std::uint32_t card, bool double_bit, std::uint32_t count) noexcept;

  MachineRegion& region_;
  const std::vector<Card>& cards_;
};

} // namespace aliquot::simgpu::machine
