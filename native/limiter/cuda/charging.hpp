// The pattern of every hook that takes device memory: reserve, call the driver, commit or roll back.
#pragma once

#include <cstdint>

#include "native/limiter/cuda/driver.hpp"
#include "native/limiter/cuda/limiter.hpp"

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

// Runs `call`, which takes about `estimate` bytes where the calling thread is and stores an address or handle
// at `result`. `measure` says afterwards how many bytes it took, and `undo` gives them back.
template <typename Result, typename Call, typename Measure, typename Undo>
CUresult charged(AllocationTable Limiter::* table, Result* result, std::uint64_t estimate, Call call,
                 Measure measure, Undo undo) noexcept {
  if (InsideDriver::here())
    return call();
  Limiter* here = limiter();
  if (here == nullptr)
    return CUDA_ERROR_NOT_INITIALIZED; // as the driver says before cuInit and in a forked child
  Place place;
  if (result == nullptr || !here->current_place(place))
    return unplaced(call, undo);
  Reservation reservation(*here, place.device, estimate);
  if (!reservation)
    return here->refuse(place.device, estimate);
  const CUresult answer = in_driver(call);
  if (answer != CUDA_SUCCESS)
    return answer;
  const std::uint64_t bytes = measure();
  const Allocation allocation{as_key(*result), as_key(place.context), bytes, place.device,
                              static_cast<std::uint8_t>(Charge::Context)};
  const bool within = reservation.resize(bytes);
  if (!within || !(here->*table).insert(allocation)) {
    in_driver(undo);
    *result = Result{};
    return within ? CUDA_ERROR_OUT_OF_MEMORY : here->refuse(place.device, bytes);
  }
  reservation.commit();
  here->counters().allocations.fetch_add(1, std::memory_order_relaxed);
  return CUDA_SUCCESS;
}

// Runs `call`, which frees what `key` names. What this process never accounted is the driver's to judge.
template <typename Call>
CUresult refunded(AllocationTable Limiter::* table, std::uint64_t key, Call call) noexcept {
  Limiter* here = limiter();
  Allocation allocation;
  if (here == nullptr || InsideDriver::here() || !(here->*table).take(key, allocation))
    return in_driver(call);
  const CUresult answer = in_driver(call);
  if (answer != CUDA_SUCCESS) {
    (here->*table).insert(allocation); // it is still there
    return answer;
  }
  if (allocation.charge == static_cast<std::uint8_t>(Charge::Pool)) {
    here->pools.settle(reinterpret_cast<CUmemoryPool>(allocation.owner));
  } else {
    here->release(static_cast<unsigned>(allocation.device), allocation.bytes);
  }
  return answer;
}

} // namespace aliquot::limiter
