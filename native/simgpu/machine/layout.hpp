// The shared regions as they lie in memory. Read by every process of this user that uses a simulated card, so
// a change here is a new kLayoutVersion. All zeros is a valid, empty state of everything but the header.
//
// Rules, on which crash safety rests (README.md argues them):
//  - a process writes only its own entries; what several write is one atomic word each;
//  - totals are never stored, they are summed over the entries of live processes;
//  - an entry counts only while `ready` equals `identity`: what a former owner of the slot left behind does
//  not.
// Nothing here may be trusted: indices and lengths that come from a region are bounded by whoever uses them.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace aliquot::simgpu::machine {

inline constexpr std::uint64_t kMachineMagic = 0x31454e4948434d41; // "AMCHINE1"
inline constexpr std::uint64_t kHostMagic = 0x313054534f484d41;    // "AMHOST01"
inline constexpr std::uint32_t kLayoutVersion = 2;     // of the machine's region and of its settings
inline constexpr std::uint32_t kHostLayoutVersion = 1; // of the account over all homes of a user

inline constexpr std::uint32_t kMaxCards = 64;
inline constexpr std::uint32_t kMaxProcesses = 256;
inline constexpr std::uint32_t kWaitWords = kMaxProcesses / 64;
// Each card has a place for itself and for seven instances (MIG): an engine, an account, what each process
// did.
inline constexpr std::uint32_t kUnitsPerCard = 8;
inline constexpr std::uint32_t kMaxUnits = kMaxCards * kUnitsPerCard;
inline constexpr std::uint32_t kEvents = 1024;
inline constexpr std::uint32_t kFatals = 64;
inline constexpr std::uint32_t kEccLocations = 5;
inline constexpr std::uint32_t kRetiredPages = 64;
inline constexpr std::uint32_t kDeparted = 1024;
inline constexpr std::uint32_t kMaxImports = 4096; // a process

// Busy time is kept in buckets: 64 of 20 ms cover the last second and a margin.
inline constexpr std::uint32_t kBuckets = 64;
inline constexpr std::uint64_t kBucketNs = 20'000'000;

inline constexpr std::uint64_t kShortestSliceNs = 100'000, kLongestSliceNs = 1'000'000'000;

using Word = std::atomic<std::uint64_t>;
static_assert(Word::is_always_lock_free && sizeof(Word) == 8);

struct Header {
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t header_bytes;
  std::uint64_t region_bytes;
  std::uint32_t max_cards, max_processes;
  char boot_id[40];   // a region of an earlier boot is stale
  char setting[1024]; // canonical; empty in a host region
  std::uint64_t
      uuid_seed; // from the host that made the region, so that all who share it name its cards alike
};

// Who has a slot. identity is claimed by one compare-and-swap, and unique to a process image.
struct SlotTable {
  Word high; // slots below it may be in use; never lowered
  Word identity[kMaxProcesses];
  Word ready[kMaxProcesses];
  struct Detail {
    Word start_ticks; // field 22 of /proc/<pid>/stat
    Word image;       // field 28: moves when the process calls exec
    char command[32];
    char slice[64]; // last part of ALIQUOT_SLICE: which slice the process belongs to
  } detail[kMaxProcesses];
};

// Bytes of one resource that live processes hold.
struct Account {
  Word changes; // counts takes, so that a sum can tell whether it was torn
  struct Entry {
    Word held, asking;
  };
  alignas(64) Entry entry[kMaxProcesses];
};

// What processes map of others' memory (imports.hpp): entry i of a slot counts while its `bytes` are not 0.
struct ImportTable {
  struct Entry {
    Word owner, key, unit, bytes; // identity of the owner, and its name for the memory
  };
  struct alignas(64) Slot {
    Word high; // entries below it may be in use
    Entry entry[kMaxImports];
  } slot[kMaxProcesses];
};

// One departed process, or one event: words under a sequence number that is 0 while they
// are being written, so that a half-written one is recognised whenever its writer died.
template <std::size_t N>
struct Record {
  Word sequence;
  Word words[N];
};

struct Busy {
  Word bucket[kBuckets]; // high half: bucket number; low half: nanoseconds
};

// The engine of one card.
struct alignas(64) EngineState {
  Word owner; // turn << 16 | (slot + 1); slot part 0: free. The low half is the futex.
  alignas(64) Word waiting[kWaitWords];
  alignas(64) Word busy_ns;
  Busy busy;
};

// A card's record of busy intervals lies in files beside the region (journal.hpp).
struct RecordState {
  Word segment; // the one that is written
  Word missing; // entries that could not be written
};

// What one process did on one card.
struct alignas(64) Usage {
  Word peak, busy_ns, launches, copied[3];
  Word turn;      // owner word under which it last ran
  Word last_seen; // when it last polled or waited
  Word served;    // busy time, for comparing who has had more; who comes back from idling starts level
  Word run_start, run_end, run_busy; // busy interval not yet in the card's record; start 0: none
  Word present;                      // uses this card or instance: 1 opened, 2 has a context on it
  Busy busy;
};

inline constexpr std::size_t kDepartedWords = 24;

// How a card is set, by people and by NVML. Every word is one decision.
struct alignas(64) CardSettings {
  Word mig;            // mode, GPU instances and compute instances: mig.cpp says how they are packed
  Word compute_mode;   // 0 default, 2 prohibited, 3 one process alone, as NVML numbers them
  Word mps;            // 1: processes overlap instead of taking turns
  Word slice_ns;       // 0: as the process' environment says
  Word context_memory; // 1 + what a context takes, in bytes; 0: as the model says
};

// What is wrong with a card. faults.hpp says what each means.
struct alignas(64) FaultState {
  Word lost_since;               // CLOCK_MONOTONIC; 0: it is there
  Word reset_needed;             // nothing new runs before it is cleared
  Word hang;                     // target pid << 32 | watchdog in ms << 1 | armed
  Word hung;                     // identity of the process whose kernel does not end
  Word hung_since;               // CLOCK_MONOTONIC
  Word throttle;                 // reasons << 32 | percent of the clock; 0: none
  Word temperature;              // millidegrees Celsius; 0: as the load makes it
  Word fail_allocation;          // target pid << 32 | calls to go << 16 | how many then fail
  Word ecc[2][2][kEccLocations]; // volatile or aggregate, corrected or not, where
  Word remapped[2], remap_pending, remap_failed;
  Word retired_count;               // of pages, on cards older than row remapping
  Record<3> retired[kRetiredPages]; // address, cause, when
  Word fatals;                      // ended contexts so far
  Record<4> fatal[kFatals];         // CUresult, target identity or pid, unit, Xid
};

// One thing that a card reports: an Xid, an ECC error, a change of its division.
inline constexpr std::size_t kEventWords = 8; // card, kind, data, pid, monotonic, real time, instance, 0

struct MachineRegion {
  Header header;
  Word serial; // of this region alone: names the files of its record; set by the first who needs it
  alignas(64) SlotTable slots;
  alignas(64) Account host;
  RecordState record[kMaxCards];
  CardSettings settings[kMaxCards];
  FaultState fault[kMaxCards];
  alignas(64) Word events; // how many there were; the low half is the futex of those who wait for one
  Record<kEventWords> event[kEvents];
  Account vram[kMaxUnits];
  EngineState engine[kMaxUnits];
  Usage usage[kMaxProcesses][kMaxUnits];
  ImportTable imports;
  Word departures;
  Record<kDepartedWords> departed[kDeparted];
};

// What all machine homes of one user have taken from the host together.
struct HostRegion {
  Header header;
  alignas(64) SlotTable slots;
  alignas(64) Account bytes;
};

} // namespace aliquot::simgpu::machine
