// A backing file of another process, by the descriptor under which that process holds it.
//
// Opened through /proc, which asks the kernel whether this process may look into that one (the same user, the
// same pid namespace). No thread has to serve it. A pid or a descriptor that is used for something else by
// now is told by the number of the file.
#pragma once

#include <cstdint>
#include <memory>

#include "native/simgpu/driver/core/backing_file.hpp"

namespace aliquot::simgpu::driver {

struct ProcessFile {
  std::uint32_t pid = 0, fd = 0;
  std::uint64_t inode = 0;
};

// What another process needs to open `file` for as long as this one holds it.
ProcessFile name_of(const BackingFile& file) noexcept;
// Null where it is gone, is something else, or is not ours to open.
std::shared_ptr<BackingFile> open_file(const ProcessFile& name) noexcept;

} // namespace aliquot::simgpu::driver
