#include "native/simgpu/driver/endpoint.hpp"

#include "native/simgpu/driver/core/executor.hpp"
#include "native/simgpu/driver/core/host_memory.hpp"
#include "native/simgpu/driver/entry.hpp"

namespace aliquot::simgpu::driver {

namespace {

// What is mapped at reserved addresses: as many mappings side by side as it takes, each of which the card
// (or, for memory of the host, anybody) may read and, where asked for, write.
CUresult resolve_mapped(Driver& driver, std::uint64_t address, std::size_t bytes, bool writes,
                        Endpoint& endpoint) {
  ContextPtr
      context; // none where a graph's node is made ready on a thread of ours: then the memory's own card
  current_context_even_if_failed(context);
  std::size_t covered = 0;
  while (covered < bytes) {
    const auto known = driver.allocations.find(address + covered);
    if (!known || known->kind != MemoryKind::Mapped)
      return CUDA_ERROR_INVALID_VALUE;
    const std::uint32_t card = context ? context->device().card : known->card;
    const exec::Range range = driver.space.find_mapped(address + covered, card);
    if (range.end == 0 || (writes && !range.writable))
      return CUDA_ERROR_INVALID_VALUE;
    covered = range.end - address;
    endpoint.device = endpoint.device || known->card != kNoCard;
  }
  endpoint.at = driver.space.bytes_at(address);
  return CUDA_SUCCESS;
}

} // namespace

CUresult resolve_endpoint(Driver& driver, std::uint64_t address, std::size_t bytes, Role role,
                          Endpoint& endpoint, bool writes) {
  if (driver.space.in_window(address) && driver.space.is_reservable(address))
    return resolve_mapped(driver, address, bytes, writes, endpoint);
  if (const auto known = driver.allocations.find(address)) {
    if (bytes > known->bytes - (address - known->address)) {
      // Host memory may well go on behind a registered part of it.
      const bool host = !on_device(known->kind) && role != Role::Device;
      if (!host || !host_range_is_mapped(reinterpret_cast<void*>(address), bytes))
        return CUDA_ERROR_INVALID_VALUE;
      endpoint = {reinterpret_cast<std::uint8_t*>(address), false, true};
      return CUDA_SUCCESS;
    }
    endpoint.device = on_device(known->kind);
    endpoint.at = endpoint.device ? driver.space.bytes_at(address) : reinterpret_cast<std::uint8_t*>(address);
    return CUDA_SUCCESS;
  }
  if (role == Role::Device || address == 0 || driver.space.overlaps_window(address, bytes))
    return CUDA_ERROR_INVALID_VALUE;
  if (!host_range_is_mapped(reinterpret_cast<void*>(address), bytes))
    return CUDA_ERROR_INVALID_VALUE;
  endpoint = {reinterpret_cast<std::uint8_t*>(address), false, true};
  return CUDA_SUCCESS;
}

Direction direction_of(const Endpoint& to, const Endpoint& from) noexcept {
  if (to.device)
    return from.device ? Direction::OnDevice : Direction::ToDevice;
  return from.device ? Direction::ToHost : Direction::OnHost;
}

CUresult submit_copy(const std::shared_ptr<Stream>& stream, const Endpoint& to, const Endpoint& from,
                     const Pitched& to_layout, const Pitched& from_layout, const Extent3D& extent,
                     bool blocking) {
  if (extent.bytes() == 0)
    return CUDA_SUCCESS;
  auto command = std::make_unique<CopyCommand>(to_layout, from_layout, extent, direction_of(to, from));
  bool wait = to.pageable || (blocking && !(to.device && from.device));
  if (from.pageable && !wait) {
    if (extent.bytes() <= kSmallTransfer)
      command->stage();
    else
      wait = true;
  }
  Executor& executor = Executor::instance();
  const std::uint64_t sequence = executor.submit(stream, std::move(command));
  if (wait)
    executor.wait(stream, sequence);
  else
    executor.run_light(stream);
  return wait ? stream->context().failure() : CUDA_SUCCESS;
}

} // namespace aliquot::simgpu::driver
