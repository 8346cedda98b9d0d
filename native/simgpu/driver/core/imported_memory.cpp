#include "native/simgpu/driver/core/imported_memory.hpp"

namespace aliquot::simgpu::driver {
namespace {

bool fits_its_file(const ImportSource& source) noexcept {
  const std::uint64_t file_bytes = source.view.file->bytes();
  return source.view.offset <= file_bytes && source.start < kBlockBytes && source.bytes != 0 &&
         source.bytes <= file_bytes && source.start + source.bytes <= file_bytes - source.view.offset;
}

std::uint64_t blocks_of(const ImportSource& source) noexcept {
  return (source.start + source.bytes + kBlockBytes - 1) / kBlockBytes;
}

} // namespace

std::shared_ptr<ImportedMemory> ImportedMemory::make(AddressSpace& space,
                                                     std::shared_ptr<machine::Machine> machine,
                                                     std::uint32_t card, const ImportSource& source) {
  if (!source.view || !fits_its_file(source))
    return nullptr;
  const std::uint64_t count = blocks_of(source), bytes = count * kBlockBytes;
  if (bytes > source.view.file->bytes() - source.view.offset)
    return nullptr;
  if (!machine->import(card, source.owner, source.key, bytes))
    return nullptr;
  const std::uint64_t address = space.take_blocks(card, count);
  if (address != 0 && space.map_file(address, bytes, source.view)) {
    space.publish_large(address + source.start, source.bytes);
    return std::make_shared<ImportedMemory>(space, std::move(machine), source, address, count);
  }
  if (address != 0)
    space.give_back_blocks(address, count);
  machine->unimport(source.owner, source.key);
  return nullptr;
}

ImportedMemory::~ImportedMemory() {
  space_.withdraw(blocks_, count_);
  space_.unmap_file(blocks_, count_ * kBlockBytes);
  try {
    space_.give_back_blocks(blocks_, count_);
  } catch (...) { // these addresses are not used again
  }
  machine_->unimport(source_.owner, source_.key);
}

} // namespace aliquot::simgpu::driver
