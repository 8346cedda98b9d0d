// The card's own record of who had its engine, and when: files that are only ever appended to.
//
// Nothing of it is mapped into a process, so no stray store of a tenant can reach what is written, and no
// call of the driver API leads here. Each entry is 64 bytes and one append: whole or absent, whoever is
// killed. A record is cut into segments; the last few are kept. Who could not write (no room, no descriptor)
// is counted, and readers say so.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "native/simgpu/machine/layout.hpp"
#include "native/simgpu/machine/machine.hpp"

namespace aliquot::simgpu::machine {

class Journal {
 public:
  // Segments lie beside `machine_path`, the region's file.
  Journal(MachineRegion& region, std::string machine_path);
  ~Journal();
  void disown() noexcept; // in a forked child
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  void append(const BusyInterval& interval) noexcept;

  // What was written after `position`, which moves on; at most `most` entries. Oldest first as written.
  RecordBatch read(std::uint32_t card, RecordPosition& position, std::size_t most) const;

 private:
  struct Segment {
    int fd = -1;
    std::uint64_t number = 0, inode = 0, device = 0;
    std::uint64_t introduced = 0; // identity whose name stands in it
  };
  std::uint64_t serial() const noexcept;
  std::string path_of(std::uint32_t card, std::uint64_t segment) const;
  bool usable(Segment& segment, std::uint64_t number) const noexcept;
  bool open_segment(std::uint32_t card, Segment& segment) noexcept;
  bool write_entry(std::uint32_t card, const void* entry) noexcept;
  void roll(std::uint32_t card, std::uint64_t number) noexcept;
  void introduce(std::uint32_t card, std::uint64_t identity) noexcept;

  MachineRegion& region_;
  const std::string stem_;
  std::mutex mutex_;
  Segment segments_[kMaxCards];
};

} // namespace aliquot::simgpu::machine
