// A file descriptor that stands for memory and can be given to other processes.
//
// It is one end of a pair of sockets in whose queue a message lies: a header and the descriptor of the file
// with the bytes. Whoever has the end can read the message, any number of times. The other end stays with the
// exporter, who sees by it when the last copy, in whatever process, is closed: until then the memory is his.
//
// Knows nothing of what is shared; what it reads it does not trust.
#pragma once

#include <cstdint>
#include <memory>

#include "native/simgpu/driver/core/backing_file.hpp"

namespace aliquot::simgpu::driver {

enum class SharedKind : std::uint32_t { Memory = 1, Pool };

struct SharedHeader {
  SharedKind kind = SharedKind::Memory;
  std::uint32_t host = 0; // not on a card
  std::uint8_t card_uuid[16] = {};
  std::uint64_t owner = 0; // the machine's identity of the exporter
  std::uint64_t key = 0;   // the exporter's name for the memory
  std::uint64_t bytes = 0;
};

// A descriptor for the client; -1 where the host gives none. `keep` is held until all its copies are closed.
int export_shared(const SharedHeader& header, const BackingFile& file, std::shared_ptr<void> keep);

// The other side. While `hold` lives, the exporter's memory stays.
struct SharedImport {
  SharedHeader header;
  std::shared_ptr<BackingFile> file;
  std::shared_ptr<void> hold;
};
// Empty file where `fd` is no such descriptor.
SharedImport import_shared(int fd, SharedKind kind);

} // namespace aliquot::simgpu::driver
