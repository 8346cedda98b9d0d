// What a thread may do without asking anyone: its leases, the prices and lanes that it used last, and its
// counts. Only its own thread writes it, except where a member says so.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "aliquot/slice_layout.hpp"
#include "native/limiter/compute/lanes.hpp"
#include "native/limiter/compute/work.hpp"

namespace aliquot::limiter::compute {

// How much a thread may admit to a device while the grant says what it said.
struct Lease {
  const layout::DeviceGrant* grant = nullptr; // of its device; set where epoch is
  std::uint64_t turn = 0, ends_ns = 0, flags = 0;
  std::uint32_t epoch = 0; // of the gate; 0 is never one
  bool paced = false;      // what is left of it goes back to the process' own bucket
  std::atomic<std::uint64_t> credit{0};
};

struct RememberedPrice {
  std::uint64_t key = 0, price = 0;
  std::uint32_t uses = 0;
  bool by_arguments = false; // then there is one price for each set of them, under another key
};

struct RememberedLane {
  CUstream stream = nullptr;
  CUcontext context = nullptr;
  unsigned device = 0;
  bool waits = false; // as the lane's
  Lane* lane = nullptr;
};

// What is to be done behind the driver's call, of work that was looked at closely. `lane` is null where
// nothing is, and the rest has no meaning then.
struct Pending {
  Lane* lane;
  std::uint64_t price;
  bool mark, measure;
  bool cold; // nothing else is in flight
  unsigned device;
  CUcontext context;
  CUevent begin;
  std::uint64_t began_at; // of work that the call waits for
  std::uint64_t turn;
};

class Gate;

struct ThreadState {
  static constexpr unsigned kPrices = 256, kLanes = 16;

  std::array<std::atomic<std::uint64_t>, kCounters> counts{}; // read by all
  std::array<Lease, layout::kMaxDevices> leases;              // credit is read by all
  std::array<RememberedPrice, kPrices> prices{};
  std::array<RememberedLane, kLanes> lanes{};
  std::array<const void*, kPrices> functions{};
  std::uint32_t remembered_epoch = 0;
  bool uses_unnamed = false;   // its default stream, which nobody else can ask for
  Gate* gate = nullptr;        // of this process
  ThreadState* next = nullptr; // guarded by the gate
  bool used = false;           // guarded by the gate

  RememberedPrice& price_of(std::uint64_t key) noexcept { return prices[key >> 56u]; }
  // `context` is null where the process has only one.
  RememberedLane& lane_of(CUstream stream, CUcontext context) noexcept {
    const auto bits = reinterpret_cast<std::uint64_t>(stream) ^ reinterpret_cast<std::uint64_t>(context);
    return lanes[(bits ^ bits >> 4u ^ bits >> 9u) % kLanes];
  }
  // Whether the thread has not launched this function lately.
  bool is_new(const void* function) noexcept {
    const void*& known = functions[(reinterpret_cast<std::uint64_t>(function) >> 4u) % kPrices];
    if (known == function)
      return false;
    known = function;
    return true;
  }
  void count(Counter counter, std::uint64_t amount) noexcept {
    std::atomic<std::uint64_t>& word = counts[static_cast<unsigned>(counter)];
    word.store(word.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
};

} // namespace aliquot::limiter::compute
