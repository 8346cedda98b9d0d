// The gate of this process: every launch, copy and set passes it on its way to the driver.
//
// The common case is inline: a thread that has a lease from the grant as it stands now subtracts a price that
// it remembers and goes on. No lock, no system call, no locked instruction. Everything else is in gate.cpp.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <vector>

#include "native/limiter/compute/arguments.hpp"
#include "native/limiter/compute/device_gate.hpp"
#include "native/limiter/compute/driver_call.hpp"

namespace aliquot::limiter::compute {

class Gate {
 public:
  Gate(Limiter& limiter, const layout::Process& slot) noexcept;

  // Null where there is no memory for it.
  ThreadState* join() noexcept;
  void leave(ThreadState* thread) noexcept;

  // Not null: the work may go to the driver, and was charged to this lane; `settle_quickly` follows.
  Lane* admit_quickly(ThreadState& thread, const Work& work, std::uint64_t& charged) noexcept;
  static void settle_quickly(Lane& lane, bool waits, std::uint64_t charged, bool succeeded) noexcept;
  // Waits until it may. The work may get another key, which tells its arguments apart. After the driver's
  // call, where pending.lane is set, `settle` follows.
  void admit(ThreadState& thread, Work& work, Pending& pending) noexcept;
  void settle(const Work& work, Pending& pending, bool succeeded) noexcept;
  // No device of the slice holds anything back.
  bool all_free() const noexcept { return all_free_.load(std::memory_order_relaxed); }

  // What the program's own calls tell.
  void synchronised(CUstream stream) noexcept; // null: the whole context
  void stream_ends(CUstream stream) noexcept;
  void capture_begins(CUstream stream) noexcept;
  void capture_ends(CUstream stream) noexcept;
  void functions_may_go() noexcept { arguments_.forget_all(); } // before the driver is called
  void functions_went() noexcept;
  void graph_went(std::uint64_t key) noexcept { prices.forget(key); }
  // Has all devices' events to itself from now until context_call_over.
  void context_call_begins() noexcept;
  void context_call_over(CUcontext ended) noexcept; // null: it goes on

  // Connects if there is somebody to connect to, and sees whether anything is to be held back at all.
  void look_around(std::uint64_t now) noexcept;
  // Has the watcher look: it sleeps while no device has anything to say.
  void ring() noexcept;
  const std::atomic<std::uint64_t>& bell() const noexcept { return bell_; }
  // What was counted reaches the account.
  void fold() noexcept;
  // No lease that was given before holds any more.
  void void_leases() noexcept { epoch_.fetch_add(1, std::memory_order_acq_rel); }
  std::uint32_t epoch() const noexcept { return epoch_.load(std::memory_order_acquire); }
  // From the end of the process on nothing is held back, and the driver is called by nobody but the program.
  void stop() noexcept;
  bool stopped() const noexcept { return stopped_.load(std::memory_order_acquire); }
  void abandon_in_child() noexcept { link.close_in_child(); }

  template <typename Visit>
  void for_each_thread(Visit visit) noexcept {
    for (ThreadState* thread = threads_.load(std::memory_order_acquire); thread != nullptr;
         thread = thread->next)
      visit(*thread);
  }

  Limiter& limiter() noexcept { return limiter_; }
  const layout::Process& slot() const noexcept { return slot_; }
  DeviceGate& device(unsigned index) noexcept { return devices_[index]; }

  ArbiterLink link;
  PriceTable prices;

 private:
  void void_memory() noexcept; // of lanes and prices, and leases with it
  bool tell_arguments(ThreadState& thread, Work& work) noexcept;
  bool place(CUcontext& context, unsigned& device) noexcept;
  void admit_to(ThreadState& thread, const Work& work, DeviceGate& device, Lane& lane, const Quote& quote,
                Pending& pending) noexcept;
  Lane* lane_for(ThreadState& thread, const Work& work, CUcontext context, unsigned device) noexcept;
  void await(const Verdict& verdict, const DeviceGate& device) noexcept;
  void release_capture(CUstream stream) noexcept;

  Limiter& limiter_;
  const layout::Process& slot_;
  const layout::Grant* grant_;
  std::atomic<std::uint64_t> bell_{0};
  std::atomic<std::uint32_t> epoch_{1};
  std::atomic<std::uint32_t> memory_epoch_{1}; // of what threads remember of lanes and prices
  std::atomic<bool> all_free_{false};          // no device holds anything back
  std::atomic<bool> several_{false};           // contexts or devices: each call has to ask where it is
  std::atomic<CUcontext> only_context_{nullptr};
  std::atomic<unsigned> only_device_{0};
  std::atomic<bool> stopped_{false};
  std::atomic<bool> watching_{false};
  ArgumentTable arguments_;
  DeviceGate devices_[layout::kMaxDevices];

  std::mutex threads_mutex_;                   // guards what follows, and folding
  std::atomic<ThreadState*> threads_{nullptr}; // only ever grows
  std::vector<CUstream> capturing_;
  std::uint64_t counted_before_[kCounters] = {}; // as the account said when this process came
};

namespace detail {
extern std::atomic<Gate*> gate;
extern constinit thread_local ThreadState* thread [[gnu::tls_model("initial-exec")]];
ThreadState* join_gate() noexcept;
} // namespace detail

inline Gate* gate() noexcept {
  return detail::gate.load(std::memory_order_acquire);
}

// Null before cuInit and where there is no memory.
inline ThreadState* this_thread() noexcept {
  if (ThreadState* thread = detail::thread) [[likely]]
    return thread;
  return detail::join_gate();
}

// With the limiter of this process, and without it in a forked child.
void make_gate(Limiter& limiter, const layout::Process& slot) noexcept;
void forget_gate_in_child() noexcept;

[[gnu::always_inline]] inline Lane* Gate::admit_quickly(ThreadState& thread, const Work& work,
                                                        std::uint64_t& charged) noexcept {
  unsigned device = only_device_.load(std::memory_order_relaxed);
  CUcontext context = nullptr; // whichever it is, there is one only
  if (several_.load(std::memory_order_relaxed)) [[unlikely]] {
    Place here;
    if (!place(here.context, here.device))
      return nullptr;
    context = here.context;
    device = here.device;
  }
  Lease& lease = thread.leases[device];
  if (lease.epoch != epoch_.load(std::memory_order_acquire) ||
      lease.turn != lease.grant->turn.load(std::memory_order_relaxed) ||
      lease.ends_ns != lease.grant->ends_ns.load(std::memory_order_relaxed) ||
      lease.flags != lease.grant->flags.load(std::memory_order_relaxed)) [[unlikely]]
    return nullptr;
  RememberedPrice& price = thread.price_of(work.key);
  const RememberedLane& known = thread.lane_of(work.stream, context);
  const std::uint64_t credit = lease.credit.load(std::memory_order_relaxed);
  if (price.key != work.key || price.uses == 0 || price.price > credit || known.stream != work.stream ||
      (context != nullptr && known.context != context) || known.waits != work.waits) [[unlikely]]
    return nullptr;
  Lane* const lane = known.lane;
  charged = price.price;
  --price.uses;
  lease.credit.store(credit - charged, std::memory_order_relaxed);
  lane->calling.store(true, std::memory_order_relaxed);
  lane->admitted.store(lane->admitted.load(std::memory_order_relaxed) + charged, std::memory_order_release);
  return lane;
}

[[gnu::always_inline]] inline void Gate::settle_quickly(Lane& lane, bool waits, std::uint64_t charged,
                                                        bool succeeded) noexcept {
  if (!succeeded) [[unlikely]]
    lane.take_back(charged);
  else if (waits)
    lane.drain();
  // Last: until then an empty stream says nothing about what was admitted.
  lane.calling.store(false, std::memory_order_release);
}

inline void Gate::settle(const Work& work, Pending& pending, bool succeeded) noexcept {
  devices_[pending.device].settle(work, pending, succeeded);
  pending.lane->calling.store(false, std::memory_order_release);
}

// Admits the work that `describe` tells, runs `call`, which gives it to the driver, and accounts for it.
// `thread` is null where nothing is limited, and within another hook. `repeated` is set where the thread has
// given the same work before.
template <typename Describe, typename Call>
[[gnu::always_inline]] inline CUresult submit(ThreadState* thread, Describe describe, Call call,
                                              bool& repeated) noexcept {
  if (thread == nullptr || thread->gate->all_free())
    return call();
  Gate& gate = *thread->gate;
  const Work work = describe();
  std::uint64_t charged = 0;
  Lane* const lane = gate.admit_quickly(*thread, work, charged);
  Pending pending;
  Work looked_at; // a copy, so that on the short way all of it stays in registers
  if (lane == nullptr) [[unlikely]] {
    looked_at = work;
    pending.lane = nullptr;
    gate.admit(*thread, looked_at, pending);
  }
  repeated = lane != nullptr;
  const CUresult answer = call();
  if (lane != nullptr) [[likely]]
    Gate::settle_quickly(*lane, work.waits, charged, answer == CUDA_SUCCESS);
  else if (pending.lane != nullptr)
    gate.settle(looked_at, pending, answer == CUDA_SUCCESS);
  return answer;
}

template <typename Describe, typename Call>
[[gnu::always_inline]] inline CUresult submit(ThreadState* thread, Describe describe, Call call) noexcept {
  bool unused = false;
  return submit(thread, describe, call, unused);
}

} // namespace aliquot::limiter::compute
