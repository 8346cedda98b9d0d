// The pattern of every hook that takes device memory: reserve, call the driver, commit or roll back.
#pragma once

#include <cstdint>

#include "native/limiter/cuda/driver.hpp"
#include "native/limiter/cuda/limiter.hpp"
#include "native/limiter/cuda/memory_call.hpp"

namespace aliquot::limiter {

template <typename Value>
std::uint64_t as_key(Value value) noexcept {
  return (std::uint64_t)value;
}

// Runs a call of which it is not known where it acts. The driver should say what is wrong; if it finds
// nothing wrong, nobody would pay for the memory, so it goes back.
template <typename Call, typename Undo>
CUresult unplaced(Call call, Undo undo) noexcept {
  const CUresult answer = in_driver(call);
  if (answer != CUDA_SUCCESS)
    return answer;
  in_driver(undo);
  return CUDA_ERROR_INVALID_CONTEXT;
}

// Once in so many calls a thread looks whether the driver took memory that nothing announced.
inline constexpr std::uint64_t kCallsBetweenLooks = 256;

inline void look_now_and_then(Limiter& here, const MemoryCall& call) noexcept {
  if (call.number() % kCallsBetweenLooks == 0)
    here.overhead.look_now_and_then();
}

// Runs `call`, which takes about `estimate` bytes where the calling thread is and stores an address or handle
// at `result`. `measure` says afterwards how many bytes it took, and `undo` gives them back.
template <typename Result, typename Call, typename Measure, typename Undo>
CUresult charged(AllocationTable Limiter::* table, Charge charge, Result* result, std::uint64_t estimate,
                 Call call, Measure measure, Undo undo) noexcept {
  if (InsideDriver::here())
    return call();
  Limiter* here = limiter();
  if (here == nullptr)
    return CUDA_ERROR_NOT_INITIALIZED; // as the driver says before cuInit and in a forked child
  Place place;
  if (result == nullptr || !here->current_place(place))
    return unplaced(call, undo);
  const MemoryCall under_way;
  look_now_and_then(*here, under_way);
  Reservation reservation(*here, place.device, estimate);
  if (!reservation)
    return here->refuse(place.device, estimate);
  const CUresult answer = in_driver(call);
  if (answer != CUDA_SUCCESS)
    return answer;
  const std::uint64_t bytes = measure();
  const bool within = reservation.resize(bytes);
  if (!within ||
      !(here->*table).insert({as_key(*result), as_key(place.context), bytes, place.device, charge})) {
    in_driver(undo);
    *result = Result{};
    return within ? CUDA_ERROR_OUT_OF_MEMORY : here->refuse(place.device, bytes);
  }
  reservation.commit();
  here->counters().allocations.fetch_add(1, std::memory_order_relaxed);
  return CUDA_SUCCESS;
}

// The same for linear memory of at most half a block, which shares a block with others: whether one more
// block is taken shows in the address. At the limit it may still fit into a block that is charged.
template <typename Address, typename Call, typename Undo>
CUresult charged_small(Address* address, std::uint64_t bytes, Call call, Undo undo) noexcept {
  if (InsideDriver::here())
    return call();
  Limiter* here = limiter();
  if (here == nullptr)
    return CUDA_ERROR_NOT_INITIALIZED;
  Place place;
  if (address == nullptr || !here->current_place(place))
    return unplaced(call, undo);
  const MemoryCall under_way;
  look_now_and_then(*here, under_way);
  Reservation reservation(*here, place.device, kBlockBytes);
  if (!reservation && !here->small_blocks.has_room(bytes, place.device))
    return here->refuse(place.device, bytes);
  const CUresult answer = in_driver(call);
  if (answer != CUDA_SUCCESS)
    return answer;
  const auto entered = here->small_blocks.enter(*address, bytes, place.device);
  const Allocation allocation{*address, as_key(place.context), bytes, place.device, Charge::Small};
  const bool paid = entered == SmallBlocks::Entered::Known || reservation;
  if (!paid || entered == SmallBlocks::Entered::NoMemory || !here->memory.insert(allocation)) {
    if (entered != SmallBlocks::Entered::NoMemory)
      here->small_blocks.leave(*address, bytes, entered == SmallBlocks::Entered::Known);
    in_driver(undo);
    *address = Address{};
    return paid ? CUDA_ERROR_OUT_OF_MEMORY : here->refuse(place.device, bytes);
  }
  if (entered == SmallBlocks::Entered::New) {
    reservation.commit();
    here->overhead.may_have_shrunk(place.device); // the block may have been charged as the driver's own
  }
  here->counters().allocations.fetch_add(1, std::memory_order_relaxed);
  return CUDA_SUCCESS;
}

// Runs `call`, which frees what `key` names. What this process never accounted is the driver's to judge.
template <typename Call>
CUresult refunded(AllocationTable Limiter::* table, std::uint64_t key, Call call) noexcept {
  Limiter* here = limiter();
  Allocation allocation;
  if (here == nullptr || InsideDriver::here())
    return in_driver(call);
  const MemoryCall under_way;
  const bool known = (here->*table).take(key, allocation);
  const CUresult answer = in_driver(call);
  if (answer == CUDA_SUCCESS && here->shared.any())
    here->shared.gone(key);
  if (!known)
    return answer;
  if (answer == CUDA_SUCCESS)
    here->refund(allocation);
  else
    (here->*table).insert(allocation); // it is still there
  return answer;
}

} // namespace aliquot::limiter
