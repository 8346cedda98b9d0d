// Device memory of another process, shown at addresses of this one, and accounted: to its owner while he
// lives, then to one of those who import it.
#pragma once

#include <cstdint>
#include <memory>

#include "native/simgpu/driver/core/address_space.hpp"
#include "native/simgpu/machine/machine.hpp"

namespace aliquot::simgpu::driver {

struct ImportSource {
  FileView view;              // whole blocks
  std::uint64_t start = 0;    // of the allocation, in the first block
  std::uint64_t bytes = 0;    // of the allocation
  std::uint64_t owner = 0;    // the machine's identity of the process that it belongs to
  std::uint64_t key = 0;      // that process' name for the blocks
  std::shared_ptr<void> hold; // kept for as long as the import lives
};

class ImportedMemory {
 public:
  // Null where there are no addresses, the source does not fit its file, or it cannot be accounted.
  static std::shared_ptr<ImportedMemory> make(AddressSpace& space, std::shared_ptr<machine::Machine> machine,
                                              std::uint32_t card, const ImportSource& source);
  ~ImportedMemory();
  ImportedMemory(const ImportedMemory&) = delete;
  ImportedMemory& operator=(const ImportedMemory&) = delete;

  // Of the allocation. What else lies in its first and last block is not to be seen.
  std::uint64_t address() const noexcept { return blocks_ + source_.start; }
  std::uint64_t bytes() const noexcept { return source_.bytes; }

  ImportedMemory(AddressSpace& space, std::shared_ptr<machine::Machine> machine, const ImportSource& source,
                 std::uint64_t blocks, std::uint64_t count) noexcept
      : space_(space), machine_(std::move(machine)), source_(source), blocks_(blocks), count_(count) {}

 private:
  AddressSpace& space_;
  const std::shared_ptr<machine::Machine> machine_;
  const ImportSource source_;
  const std::uint64_t blocks_, count_;
};

} // namespace aliquot::simgpu::driver
