#include "native/simgpu/driver/core/physical_memory.hpp"

#include <atomic>
#include <cstring>
#include <iterator>
#include <utility>

#include "native/simgpu/driver/core/driver.hpp"

namespace aliquot::simgpu::driver {
namespace {

std::uint64_t next_key() noexcept {
  // Not a device address, which is what other shared memory is named by.
  static std::atomic<std::uint64_t> next{std::uint64_t{1} << 63};
  return next.fetch_add(1, std::memory_order_relaxed);
}

Device* device_of(const std::uint8_t (&uuid)[16]) noexcept {
  for (const auto& device : Driver::instance().devices)
    if (std::memcmp(device->facts.uuid, uuid, sizeof uuid) == 0)
      return device.get();
  return nullptr;
}

CUmemAllocationProp properties_of(const Device* device) noexcept {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR;
  properties.location.type = device != nullptr ? CU_MEM_LOCATION_TYPE_DEVICE : CU_MEM_LOCATION_TYPE_HOST_NUMA;
  properties.location.id = device != nullptr ? device->ordinal : 0;
  return properties;
}

} // namespace

FileView Arena::take(std::uint64_t bytes) {
  const std::lock_guard guard(mutex_);
  if (!file_) {
    file_ = BackingFile::make(bytes_);
    if (!file_)
      return {};
    free_.emplace(0, bytes_);
  }
  for (auto at = free_.begin(); at != free_.end(); ++at) {
    const auto [offset, size] = *at;
    if (size < bytes)
      continue;
    if (size > bytes)
      free_.emplace_hint(std::next(at), offset + bytes, size - bytes);
    free_.erase(at);
    return {file_, offset};
  }
  return {};
}

void Arena::give_back(const FileView& view, std::uint64_t bytes) noexcept try {
  view.file->discard(view.offset, bytes);
  const std::lock_guard guard(mutex_);
  auto at = free_.emplace(view.offset, bytes).first;
  if (const auto next = std::next(at); next != free_.end() && at->first + at->second == next->first) {
    at->second += next->second;
    free_.erase(next);
  }
  if (at == free_.begin())
    return;
  if (const auto previous = std::prev(at); previous->first + previous->second == at->first) {
    previous->second += at->second;
    free_.erase(at);
  }
} catch (...) { // this part of the file is not used again; the memory behind it is back all the same
}

std::shared_ptr<Charge> Charge::make(const std::shared_ptr<machine::Machine>& machine, std::uint32_t card,
                                     std::uint64_t bytes) {
  if (machine->reserve(card, bytes) != machine::Status::Ok)
    return nullptr;
  try {
    return std::make_shared<Charge>(machine, card, bytes);
  } catch (...) {
    machine->release(card, bytes);
    throw;
  }
}

PhysicalMemory::PhysicalMemory(Device* device_, std::uint64_t bytes_,
                               const CUmemAllocationProp& properties_) noexcept
    : device(device_), bytes(bytes_), properties(properties_), key_(next_key()) {}

std::shared_ptr<PhysicalMemory> PhysicalMemory::make(Device* device, std::uint64_t bytes,
                                                     const CUmemAllocationProp& properties, CUresult& error) {
  error = CUDA_ERROR_OUT_OF_MEMORY;
  auto memory = std::make_shared<PhysicalMemory>(device, bytes, properties);
  if (device == nullptr) {
    memory->view = {BackingFile::make(bytes), 0};
    return memory->view ? memory : nullptr;
  }
  if (device->refuses(bytes))
    return nullptr;
  Driver& driver = Driver::instance();
  memory->charge_ = Charge::make(driver.machine, device->card, bytes);
  if (!memory->charge_) {
    driver.trim_pools();
    memory->charge_ = Charge::make(driver.machine, device->card, bytes);
  }
  if (!memory->charge_)
    return nullptr;
  const std::shared_ptr<Arena> arena = driver.virtual_memory.arena_of(*device);
  memory->view = arena->take(bytes);
  if (!memory->view)
    return nullptr;
  memory->arena_ = arena;
  return memory;
}

std::shared_ptr<PhysicalMemory> PhysicalMemory::import_fd(int fd, CUresult& error) {
  error = CUDA_ERROR_INVALID_VALUE;
  SharedImport found = import_shared(fd, SharedKind::Memory);
  if (!found.file || found.header.bytes % kBlockBytes != 0)
    return nullptr;
  error = CUDA_ERROR_NOT_SUPPORTED;
  Device* const device = found.header.host == 0 ? device_of(found.header.card_uuid) : nullptr;
  if (device == nullptr && found.header.host == 0)
    return nullptr; // a card that this process does not see
  error = CUDA_ERROR_OUT_OF_MEMORY;
  auto memory = std::make_shared<PhysicalMemory>(device, found.header.bytes, properties_of(device));
  Driver& driver = Driver::instance();
  // Within one process the maker's charge is the only one.
  if (device != nullptr && found.header.owner != driver.machine->identity() &&
      !driver.machine->import(device->card, found.header.owner, found.header.key, found.header.bytes))
    return nullptr;
  memory->view = {found.file, 0};
  memory->imported_ = std::move(found);
  return memory;
}

PhysicalMemory::~PhysicalMemory() {
  if (arena_) {
    arena_->give_back(view, bytes);
    return;
  }
  if (!imported_.file) {
    // Nobody maps it any more; a child of fork may still have the descriptor, which is not to keep the bytes.
    if (view)
      view.file->discard(view.offset, bytes);
    return;
  }
  machine::Machine& machine = *Driver::instance().machine;
  if (device != nullptr && imported_.header.owner != machine.identity())
    machine.unimport(imported_.header.owner, imported_.header.key);
}

int PhysicalMemory::export_fd(std::shared_ptr<PhysicalMemory> self) {
  SharedHeader header = imported_.header;
  if (!imported_.file) {
    header.host = on_host() ? 1 : 0;
    if (device != nullptr)
      std::memcpy(header.card_uuid, device->facts.uuid, sizeof header.card_uuid);
    header.owner = Driver::instance().machine->identity();
    header.key = key_;
    header.bytes = bytes;
  }
  return export_shared(header, *view.file, std::move(self));
}

void PhysicalMemory::move_to(FileView to) noexcept {
  const FileView from = std::exchange(view, std::move(to));
  arena_->give_back(from, bytes);
  arena_ = nullptr;
}

} // namespace aliquot::simgpu::driver
