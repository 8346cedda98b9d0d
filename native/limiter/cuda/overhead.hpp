// What the driver takes of a device by itself: contexts, code, local memory, buffers. No call says how much;
// the driver's figure of what this process holds does, and what of that the limiter has not charged is this.
//
// Compared are figure and account after every call that makes the driver take memory, and before the next
// allocation after something that may have. A call that took the slice over its limit is undone.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>

#include "aliquot/cuda_abi.h"
#include "native/limiter/cuda/device_figure.hpp"
#include "native/limiter/cuda/memory_call.hpp"
#include "native/limiter/cuda/physical_size.hpp"
#include "native/limiter/region/slice_region.hpp"

namespace aliquot::limiter {

class Limiter;

class Overhead {
 public:
  explicit Overhead(Limiter& limiter) noexcept : limiter_(limiter) {}

  DeviceFigure& figure() noexcept { return figure_; }

  // Runs `call`, after which the driver may hold more: at least `estimate`, where it is known. `undo` takes
  // it back where that is over the limit.
  template <typename Call, typename Undo>
  CUresult taking(unsigned device, Call call, Undo undo, std::uint64_t estimate = kBlockBytes) noexcept;
  // The same for a call that makes a context. What contexts take is known from the last one, in whichever
  // process of the slice, and is reserved before the call.
  template <typename Call, typename Undo>
  CUresult making_context(unsigned device, Call call, Undo undo) noexcept;
  // `call` ends a context and refunds what the program had allocated there.
  template <typename Call>
  CUresult ending_context(unsigned device, Call call) noexcept;
  // A context that was made past our hooks is met for the first time.
  void met_context(unsigned device) noexcept;

  // One relaxed operation each. What may have grown is compared before anything else is allocated; what may
  // have shrunk, when somebody wants to know or is about to be refused.
  void may_have_grown(unsigned device) noexcept { note(grown_, device); }
  void may_have_shrunk(unsigned device) noexcept { note(shrunk_, device); }
  void may_have_grown_anywhere() noexcept { grown_.store(used_.load()); }
  void may_have_shrunk_anywhere() noexcept { shrunk_.store(used_.load()); }
  bool has_grown() const noexcept { return grown_.load(std::memory_order_relaxed) != 0; }
  bool has_shrunk() const noexcept { return shrunk_.load(std::memory_order_relaxed) != 0; }

  // Compares what the marks above name. `shrink` is true where anything was refunded.
  void catch_up() noexcept;
  bool shrink() noexcept;
  // Looks after what nothing announced. Costs a clock reading, and a comparison now and then.
  void look_now_and_then() noexcept;

  // True where the driver tells what this process holds: what is freed may then stay charged until it says
  // so.
  bool is_exact() const noexcept { return exact_.load(std::memory_order_relaxed); }
  // `bytes` that were charged for something that is gone go on being charged until the driver's figure says
  // that they are free. Where it has no figure they are refunded.
  void keep_until_free(unsigned device, std::uint64_t bytes) noexcept;
  // Charged in full, though the device may hold less of it (managed memory).
  void add_managed(unsigned device, std::int64_t bytes) noexcept;

 private:
  class Books;
  enum class Compared : std::uint8_t { Done, OverLimit, Unknown };
  struct Moment { // at which account and figure were read
    DeviceFigure::Answer answer = DeviceFigure::Answer::Unknown;
    std::uint64_t figure = 0, held = 0;
    bool quiet = false; // no call that changes either was under way
  };
  struct Before { // the state before a call
    std::uint64_t charged = 0, estimate = 0, held = 0, card = 0;
    bool knows_card = false;
  };

  void note(std::atomic<std::uint32_t>& marks, unsigned device) noexcept {
    if (device < layout::kMaxDevices && is_exact())
      marks.fetch_or(1u << device, std::memory_order_relaxed);
  }

  void remember(unsigned device, Before& before) noexcept;
  void context_has_gone(unsigned device, const Before& before) noexcept;
  bool begin(unsigned device, std::uint64_t estimate, Before& before) noexcept;
  void give_up(unsigned device, const Before& before) noexcept;
  bool finish(unsigned device, const Before& before, std::uint64_t& taken) noexcept;
  Compared compare(unsigned device, bool refuse, std::uint64_t* missing = nullptr) noexcept;
  Moment look(unsigned device) noexcept;
  Compared adjust(unsigned device, const Moment& moment, bool refuse, std::uint64_t* missing) noexcept;
  Compared set(unsigned device, std::uint64_t bytes, bool refuse, std::uint64_t* missing) noexcept;
  Compared take_difference(unsigned device, const Before& before, std::uint64_t* missing) noexcept;
  CUresult refused(unsigned device, std::uint64_t bytes) noexcept;
  std::uint64_t context_estimate(unsigned device) const noexcept;
  void publish_context(unsigned device, std::uint64_t bytes) noexcept;
  template <typename Call, typename Undo>
  CUresult measured(unsigned device, std::uint64_t estimate, Call call, Undo undo,
                    std::uint64_t& taken) noexcept;

  Limiter& limiter_;
  DeviceFigure figure_;
  std::recursive_mutex mutex_; // guards charged_; after the books'
  std::uint64_t charged_[layout::kMaxDevices] = {};
  std::atomic<std::uint64_t> managed_[layout::kMaxDevices] = {};
  std::atomic<std::uint32_t> grown_{0}, shrunk_{0}; // a bit a device
  std::atomic<std::uint32_t> used_{0};              // devices on which the driver has listed us
  std::atomic<bool> exact_{false};
  std::atomic<std::uint64_t> looked_ns_{0}, launches_then_{0};
  std::atomic<std::uint64_t> not_before_ns_{0}; // after a comparison that found calls under way
};

template <typename Call, typename Undo>
CUresult Overhead::measured(unsigned device, std::uint64_t estimate, Call call, Undo undo,
                            std::uint64_t& taken) noexcept {
  const MemoryCall under_way;
  Before before;
  if (!begin(device, estimate, before))
    return refused(device, estimate);
  const CUresult answer = call();
  if (answer != CUDA_SUCCESS) {
    give_up(device, before);
    return answer;
  }
  if (finish(device, before, taken))
    return CUDA_SUCCESS;
  undo();
  give_up(device, before);
  return refused(device, taken);
}

template <typename Call, typename Undo>
CUresult Overhead::taking(unsigned device, Call call, Undo undo, std::uint64_t estimate) noexcept {
  std::uint64_t taken = 0;
  return measured(device, is_exact() ? estimate : 0, call, undo, taken);
}

template <typename Call, typename Undo>
CUresult Overhead::making_context(unsigned device, Call call, Undo undo) noexcept {
  std::uint64_t taken = 0;
  const CUresult answer = measured(device, context_estimate(device), call, undo, taken);
  if (answer == CUDA_SUCCESS)
    publish_context(device, taken);
  return answer;
}

template <typename Call>
CUresult Overhead::ending_context(unsigned device, Call call) noexcept {
  Before before;
  remember(device, before);
  const CUresult answer = call();
  if (answer == CUDA_SUCCESS)
    context_has_gone(device, before);
  return answer;
}

} // namespace aliquot::limiter
