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
inline constexpr std::uint32_t kLayoutVersion = 1;

inline constexpr std::uint32_t kMaxCards = 64;
inline constexpr std::uint32_t kMaxProcesses = 256;
inline constexpr std::uint32_t kWaitWords = kMaxProcesses / 64;
inline constexpr std::uint32_t kIntervals = 16384;
inline constexpr std::uint32_t kDeparted = 1024;

// Busy time is kept in buckets: 64 of 20 ms cover the last second and a margin.
inline constexpr std::uint32_t kBuckets = 64;
inline constexpr std::uint64_t kBucketNs = 20'000'000;

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

// One busy interval of a card, or one departed process: words under a sequence number that is 0 while they
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
  Word served; // the most that any process has been served
  alignas(64) Word busy_ns;
  Word intervals;
  Busy busy;
  Record<4> interval[kIntervals]; // identity, start, end, busy
};

// What one process did on one card.
struct alignas(64) Usage {
  Word peak, busy_ns, launches, copied[3];
  Word turn;      // owner word under which it last ran
  Word last_seen; // when it last polled or waited
  Word served;    // busy time, for comparing who has had more; who comes back from idling starts level
  Word run_start, run_end, run_busy; // busy interval not yet in the card's record; start 0: none
  Busy busy;
};

inline constexpr std::size_t kDepartedWords = 24;

struct MachineRegion {
  Header header;
  alignas(64) SlotTable slots;
  alignas(64) Account host;
  Account vram[kMaxCards];
  EngineState engine[kMaxCards];
  Usage usage[kMaxProcesses][kMaxCards];
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
