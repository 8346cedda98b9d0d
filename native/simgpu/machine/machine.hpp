// The simulated machine: cards that belong to the host, not to a process.
//
// One shared region per machine home (ALIQUOT_SIMGPU_HOME, by default a folder of this user's under /dev/shm)
// holds the cards, who uses them, whose turn it is on each engine, and what was really used. Any process may
// be killed at any instruction: no lock outlives its holder, and what the dead held is given back by the next
// one who looks.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "native/simgpu/machine/card_model.hpp"

namespace aliquot::simgpu::machine {

class Mig;
class Faults;
struct ComputeInstance;

enum class Status : std::uint8_t {
  Ok,
  OutOfVram,       // the card is full
  OutOfHostBudget, // the host could not back it: a log line says so and how to raise the budget
  TooManyProcesses,
  BadSetting,  // the card setting does not parse, or names an unknown model
  Unavailable, // the region cannot be made or opened
};

// One card as configured: identity is stable for a machine home.
struct Card {
  const CardModel* model = nullptr; // from the catalogue
  std::uint8_t uuid[16] = {};
  std::uint32_t pci_domain = 0, pci_bus = 0, pci_device = 0;
  std::string name; // "NVIDIA H100 80GB HBM3 (simulated)"
};

struct VramInfo {
  std::uint64_t total = 0, used = 0; // bytes, over all processes
};

// What the device itself saw a process do. Never written by anything but the simulated device.
struct ProcessRecord {
  std::int32_t pid = 0;
  std::uint64_t start_time = 0; // clock ticks since boot, tells a reused pid apart
  std::uint32_t card = 0;
  std::uint64_t vram_bytes = 0, peak_vram_bytes = 0;
  std::uint64_t busy_ns = 0; // time for which it held the engine with work running
  std::uint64_t launches = 0;
  std::uint64_t copied_to_device = 0, copied_to_host = 0, copied_on_device = 0; // bytes
  char command[32] = {};
  char slice[64] = {}; // the slice it ran in (last part of ALIQUOT_SLICE), empty if none
  std::uint32_t gpu_instance = 0xffffffff, compute_instance = 0xffffffff; // all ones: the card as a whole
  bool has_context = false;
  std::uint64_t identity = 0; // unique to the process
};

inline constexpr std::uint64_t kOverlaps = 1; // BusyInterval::flags: under MPS others may have run meanwhile

// A span in which one process had the engine (turns less than 20 us apart are one), on CLOCK_MONOTONIC.
struct BusyInterval {
  std::uint64_t identity = 0; // unique to the process
  std::uint64_t start_ns = 0, end_ns = 0, busy_ns = 0;
  std::uint32_t unit = 0; // 8 times the card, and for an instance (MIG) 1 plus the slice at which it starts
  std::uint64_t flags = 0;
  std::uint32_t pid() const noexcept { return static_cast<std::uint32_t>(identity >> 42); }
};

// How far one has read a card's record. Zeros: from the oldest that is kept.
struct RecordPosition {
  std::uint64_t segment = 0, offset = 0;
};

struct RecordBatch {
  struct Names {
    std::string command, slice;
  };
  std::vector<BusyInterval> intervals;    // in the order in which they ended, nearly
  std::map<std::uint64_t, Names> names;   // by identity, of those who began to write in this stretch
  bool gap = false;                       // what was between the position and the first of these is gone
  std::uint64_t damaged = 0, missing = 0; // unreadable here; not written since the machine was made
};

// As NVML numbers them.
enum class ComputeMode : std::uint32_t { Default = 0, Prohibited = 2, ExclusiveProcess = 3 };

struct HostBudget {
  std::uint64_t limit = 0;            // bytes of VRAM that this machine may back
  std::uint64_t reserved = 0;         // by this machine home
  std::uint64_t reserved_by_user = 0; // by all machine homes of this user
};

enum class Copy : std::uint8_t { ToDevice, ToHost, OnDevice };

inline constexpr std::uint64_t kUsualContext = ~std::uint64_t{0};

// This process' place on the machine. Opened once, at cuInit or nvmlInit. Thread-safe.
class Machine {
 public:
  // Opens the machine of this environment, making it where it does not exist. Null and `status` on failure.
  // `attach` takes a process slot (the driver does; NVML and tools only look).
  static std::shared_ptr<Machine> open(bool attach, Status& status, std::string& message);
  virtual ~Machine() = default;

  virtual const std::vector<Card>& cards() const noexcept = 0;

  // Dividing cards (mig.hpp); what goes wrong, and events (faults.hpp).
  virtual Mig& mig() noexcept = 0;
  virtual Faults& faults() noexcept = 0;

  // How cards are set.
  virtual ComputeMode compute_mode(std::uint32_t card) const noexcept = 0;
  virtual void set_compute_mode(std::uint32_t card, ComputeMode mode) noexcept = 0;
  virtual bool mps_enabled(std::uint32_t card) const noexcept = 0; // processes overlap
  virtual void set_mps(std::uint32_t card, bool enabled) noexcept = 0;
  virtual std::uint64_t slice_ns(std::uint32_t card) const noexcept = 0;        // how long a turn lasts
  virtual void set_slice_ns(std::uint32_t card, std::uint64_t ns) noexcept = 0; // 0: the default

  // From now on `card` means this instance of it, for this process: its memory, its engine. False if it went
  // away meanwhile. Before the first reserve or acquire there.
  virtual bool use_instance(std::uint32_t card, const ComputeInstance& instance) = 0;
  // Around the life of the contexts on a card. Refused (Unavailable) by the compute mode, on a lost card, and
  // on one that is divided while this process uses no instance.
  virtual Status open_context(std::uint32_t card) noexcept = 0;
  virtual void close_context(std::uint32_t card) noexcept = 0;
  virtual std::uint32_t unit(std::uint32_t card) const noexcept = 0; // where its engine's state lies

  // Accounts device memory to this process. reserve is exact over all processes; release never underflows.
  virtual Status reserve(std::uint32_t card, std::uint64_t bytes) noexcept = 0;
  virtual void release(std::uint32_t card, std::uint64_t bytes) noexcept = 0;
  // The same for what a driver takes for itself: no host memory stands behind it.
  virtual Status reserve_overhead(std::uint32_t card, std::uint64_t bytes) noexcept = 0;
  virtual void release_overhead(std::uint32_t card, std::uint64_t bytes) noexcept = 0;
  // What a context takes of a card beside its local memory and buffers; kUsualContext: as the model says.
  virtual std::uint64_t context_bytes(std::uint32_t card) const noexcept = 0;
  virtual void set_context_bytes(std::uint32_t card, std::uint64_t bytes) noexcept = 0;
  virtual VramInfo vram(std::uint32_t card) noexcept = 0;

  // Memory of another process that this one maps. `owner` is that process' `identity`, `key` its name for the
  // memory. It is charged to its owner while he lives, then to one of those who import it.
  virtual std::uint64_t identity() const noexcept = 0;
  virtual bool import(std::uint32_t card, std::uint64_t owner, std::uint64_t key,
                      std::uint64_t bytes) noexcept = 0;
  virtual void unimport(std::uint64_t owner, std::uint64_t key) noexcept = 0;

  // The engine of a card serves one process at a time, in time slices.
  // acquire blocks until this process holds it; false if `give_up` became true first. Threads of one process
  // share its turn: each acquires and releases. Release when there is no more work or when should_yield says
  // so, not after each kernel: the turn ends with the last release if somebody waits.
  virtual bool engine_acquire(std::uint32_t card, const std::atomic<bool>& give_up) noexcept = 0;
  // True when the slice is over and another process waits. Cheap: meant to be polled every ~50 us.
  virtual bool engine_should_yield(std::uint32_t card) noexcept = 0;
  virtual void engine_release(std::uint32_t card) noexcept = 0;

  // A kernel of this process did what ends its context: the card reports the Xid. Changes nobody else's.
  virtual void report_kernel_fault(std::uint32_t card, std::uint32_t xid) noexcept = 0;

  virtual void count_launch(std::uint32_t card) noexcept = 0;
  virtual void count_copy(std::uint32_t card, Copy direction, std::uint64_t bytes) noexcept = 0;

  // For NVML and tools. Utilisation: percent of the last second for which the engine was busy.
  virtual std::vector<ProcessRecord> processes() = 0;
  virtual std::uint32_t utilisation_percent(std::uint32_t card) noexcept = 0;
  virtual std::uint64_t busy_ns(std::uint32_t card) noexcept = 0;

  // The last processes that left, one record per process and card; vram_bytes is 0.
  virtual std::vector<ProcessRecord> departed() = 0;
  // What the card recorded: all that is kept, oldest first, and the runs that are not over.
  virtual std::vector<BusyInterval> busy_intervals(std::uint32_t card) = 0;
  virtual RecordBatch read_record(std::uint32_t card, RecordPosition& position, std::size_t most) = 0;
  virtual std::uint32_t process_utilisation_percent(std::uint32_t card, std::int32_t pid) noexcept = 0;
  virtual HostBudget host_budget() = 0;
  virtual const std::string& setting() const noexcept = 0; // canonical, "h100:2,t4:4"
};

} // namespace aliquot::simgpu::machine
