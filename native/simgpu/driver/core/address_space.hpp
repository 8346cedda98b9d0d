// Where simulated device memory lies in this process.
//
// Each card gets a window of addresses that are mapped to nothing (PROT_NONE): a host program that
// dereferences a device pointer faults, as on a real card. The bytes live in a second mapping of the same
// shape, at a constant distance. Its pages exist once they are touched and go back to the host on `discard`;
// they stay readable after that, so a kernel that races with a free reads zeros rather than crashing the
// host. Behind the cards' windows lies one for addresses that programs reserve and map themselves.
//
// Bytes are anonymous memory, which is touched fastest. Blocks that another process or another address is to
// show get a file of their own (`export_blocks`), and blocks may show a file that came from elsewhere
// (`map_file`).
//
// Hands out 2 MiB blocks and remembers, for lookups without locks, what each block holds. Knows nothing of
// accounting, contexts or the API.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "native/simgpu/driver/core/backing_file.hpp"
#include "native/simgpu/exec/exec.hpp"

namespace aliquot::simgpu::driver {

inline constexpr std::uint64_t kBlockBytes = std::uint64_t{2} << 20;
inline constexpr std::uint64_t kUnitBytes = 512; // what a small allocation is rounded to
inline constexpr std::uint32_t kUnitsPerBlock = kBlockBytes / kUnitBytes;

// Which units of a 2 MiB block are taken. Written under the lock of its heap, read by kernels without one.
class UnitMap {
 public:
  // Index of the first unit of a free run of `units`, or -1.
  int take(std::uint32_t units) noexcept;
  void give_back(std::uint32_t first, std::uint32_t units) noexcept;
  bool empty() const noexcept { return used_count_ == 0; }
  // Free bytes, in fragments of any size.
  std::uint64_t free_bytes() const noexcept { return (kUnitsPerBlock - used_count_) * kUnitBytes; }
  // Units [first, last) of the allocation that holds `unit`; false where it is free.
  bool find(std::uint32_t unit, std::uint32_t& first, std::uint32_t& last) const noexcept;

 private:
  static constexpr std::uint32_t kWords = kUnitsPerBlock / 64;
  bool used(std::uint32_t unit) const noexcept {
    return (used_[unit / 64].load(std::memory_order_relaxed) >> (unit % 64) & 1) != 0;
  }
  bool starts(std::uint32_t unit) const noexcept {
    return (first_[unit / 64].load(std::memory_order_relaxed) >> (unit % 64) & 1) != 0;
  }

  std::atomic<std::uint64_t> used_[kWords] = {};
  std::atomic<std::uint64_t> first_[kWords] = {};
  std::uint32_t used_count_ = 0;
  std::uint32_t longest_free_ = kUnitsPerBlock; // upper bound, so that full blocks are passed over quickly
};

// Which cards may read and write what is mapped at a reserved address: bit i is card i.
struct CardAccess {
  std::uint64_t read = 0, write = 0;
};

class AddressSpace {
 public:
  // `card_bytes[i]` is the VRAM of card i. False where the process may not have that many addresses
  // (RLIMIT_AS).
  bool open(const std::vector<std::uint64_t>& card_bytes) noexcept;

  // Consecutive blocks in a card's window; 0 where there are none.
  std::uint64_t take_blocks(std::uint32_t card, std::uint64_t count);
  void give_back_blocks(std::uint64_t address, std::uint64_t count);

  // What lookups find: a large allocation over whole blocks, a block of small ones, or nothing again.
  void publish_large(std::uint64_t address, std::uint64_t bytes);
  UnitMap* publish_small(std::uint64_t block);
  void withdraw(std::uint64_t address, std::uint64_t block_count) noexcept;

  // Addresses for the program's own mappings: `alignment` a power of two, at `hint` if that is free. Whole
  // blocks; 0 where there are none.
  std::uint64_t reserve(std::uint64_t bytes, std::uint64_t alignment, std::uint64_t hint);
  void unreserve(std::uint64_t address, std::uint64_t bytes);
  // What a card finds at reserved addresses. `access` may change while it is published.
  void publish_mapping(std::uint64_t address, std::uint64_t bytes, CardAccess access);
  void set_access(std::uint64_t address, CardAccess access) noexcept;
  CardAccess access_at(std::uint64_t address) const noexcept;

  // Moves what the blocks hold into a file, unless it lies in one, and says where. Empty where the host gives
  // no file. Only under a Quiet: nobody may write meanwhile.
  FileView export_blocks(std::uint64_t address, std::uint64_t bytes);
  // The blocks show a file, or private zeros again. Whole blocks of a window, which the caller holds.
  bool map_file(std::uint64_t address, std::uint64_t bytes, const FileView& view);
  void unmap_file(std::uint64_t address, std::uint64_t bytes) noexcept;
  FileView file_of(std::uint64_t address) const;

  // Pages back to the host; they read as zeros from then on.
  void discard(std::uint64_t address, std::uint64_t bytes) noexcept;

  // The live allocation around a device address; empty where there is none. Lock-free.
  exec::Range find(std::uint64_t address) const noexcept;
  // The same for what is mapped at a reserved address, as `card` may touch it.
  exec::Range find_mapped(std::uint64_t address, std::uint32_t card) const noexcept;

  bool is_reservable(std::uint64_t address) const noexcept {
    return address - reservable_.begin < reservable_.end - reservable_.begin;
  }
  bool in_window(std::uint64_t address) const noexcept { return address - base_ < bytes_; }
  bool overlaps_window(std::uint64_t address, std::uint64_t bytes) const noexcept {
    return address < base_ + bytes_ && address + bytes > base_;
  }
  std::uint32_t card_of(std::uint64_t address) const noexcept;
  // The host address of the bytes of a device address inside the window.
  std::uint8_t* bytes_at(std::uint64_t address) const noexcept {
    return reinterpret_cast<std::uint8_t*>(address + static_cast<std::uint64_t>(delta_));
  }

 private:
  struct Window {
    std::uint64_t begin = 0, end = 0;
    std::map<std::uint64_t, std::uint64_t> free; // begin -> bytes, coalesced
  };
  struct Extent {
    std::atomic<std::uint64_t> begin{0}, end{0};
    std::atomic<std::uint64_t> readers{0}, writers{0}; // cards; of mappings at reserved addresses alone
  };
  struct MappedFile {
    std::uint64_t bytes = 0;
    FileView view;
  };
  // One word a block, so that a lookup never sees half of a change: 0, an Extent*, or a UnitMap* with bit 0
  // set. Both are recycled but never freed: a lookup that comes late reads old bounds, not freed memory.
  using BlockEntry = std::atomic<std::uint64_t>;
  static constexpr std::uint64_t kSmallTag = 1;

  bool map(std::uint64_t bytes) noexcept;
  bool open_scaled(const std::vector<std::uint64_t>& card_bytes, unsigned factor, bool reservable);
  static std::uint64_t take(Window& window, std::uint64_t bytes, std::uint64_t alignment);
  static bool take_at(Window& window, std::uint64_t address, std::uint64_t bytes);
  static void give_back(Window& window, std::uint64_t address, std::uint64_t bytes);
  Extent* spare_extent();
  bool show(std::uint64_t address, std::uint64_t bytes, const FileView& view) noexcept;
  void forget_files(std::uint64_t address, std::uint64_t bytes);
  void remember_file(std::uint64_t address, std::uint64_t bytes, const FileView& view);
  bool discard_in_file(std::uint64_t address, std::uint64_t bytes) noexcept;
  BlockEntry& entry_of(std::uint64_t address) const noexcept {
    return entries_[(address - base_) / kBlockBytes];
  }

  std::mutex mutex_; // guards the free maps and the spares
  std::vector<Extent*> spare_extents_;
  std::vector<UnitMap*> spare_unit_maps_;
  std::vector<Window> windows_;
  Window reservable_;
  mutable std::mutex files_mutex_; // a leaf; guards files_
  std::map<std::uint64_t, MappedFile> files_;
  std::atomic<bool> any_file_{false};
  std::uint64_t base_ = 0, bytes_ = 0;
  std::int64_t delta_ = 0;
  BlockEntry* entries_ = nullptr;
};

} // namespace aliquot::simgpu::driver
