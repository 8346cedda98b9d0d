#include "native/limiter/compute/gate.hpp"

#include <algorithm>
#include <cstdlib>
#include <new>
#include <pthread.h>

#include "native/limiter/compute/futex.hpp"
#include "native/limiter/compute/watcher.hpp"

namespace aliquot::limiter::compute {
namespace {

constexpr std::uint64_t kTurnWait = 10'000'000; // ns, between looks at whether the arbiter still lives
constexpr std::uint64_t kTimeWait = 10'000'000; // so that changed limits are seen
constexpr std::uint64_t kSleepIsLate = 80'000;  // by so much a sleeper may wake after its time
constexpr std::uint64_t kYields = 30'000;       // ns before the expected end in which we only yield
constexpr std::uint64_t kExitPatience = 100'000'000;

pthread_key_t thread_key;
bool thread_key_made = false;

void leave_gate(void* thread) noexcept {
  detail::thread = nullptr;
  if (Gate* here = gate())
    here->leave(static_cast<ThreadState*>(thread));
}

void stop_gate() noexcept {
  if (Gate* here = gate())
    here->stop();
}

// The destructors of the driver and of the program run after this: it is registered later than theirs.
void register_once() noexcept {
  static const bool registered = [] {
    thread_key_made = pthread_key_create(&thread_key, leave_gate) == 0;
    return std::atexit(stop_gate) == 0;
  }();
  static_cast<void>(registered);
}

} // namespace

namespace detail {
std::atomic<Gate*> gate{nullptr};
constinit thread_local ThreadState* thread [[gnu::tls_model("initial-exec")]] = nullptr;

ThreadState* join_gate() noexcept {
  Gate* here = compute::gate();
  if (here == nullptr || InsideDriver::here())
    return nullptr;
  thread = here->join();
  return thread;
}
} // namespace detail

void make_gate(Limiter& limiter, const layout::Process& slot) noexcept {
  detail::gate.store(new (std::nothrow) Gate(limiter, slot), std::memory_order_release);
}

void forget_gate_in_child() noexcept {
  if (Gate* parents = gate())
    parents->abandon_in_child();
  detail::gate.store(nullptr, std::memory_order_relaxed);
  detail::thread = nullptr;
  captures_under_way.store(0, std::memory_order_relaxed);
}

Gate::Gate(Limiter& limiter, const layout::Process& slot) noexcept
    : link(limiter.region().folder()), limiter_(limiter), slot_(slot), grant_(limiter.region().grant()) {
  for (unsigned index = 0; index < layout::kMaxDevices; ++index)
    devices_[index].start(*this, index);
  const layout::Counters& counters = slot.counters;
  const std::atomic<std::uint64_t>* const words[kCounters] = {
      &counters.launches,         &counters.graph_launches, &counters.copies,
      &counters.copied_to_device, &counters.copied_to_host, &counters.copied_on_device};
  for (unsigned i = 0; i < kCounters; ++i)
    counted_before_[i] = words[i]->load(std::memory_order_relaxed);
}

ThreadState* Gate::join() noexcept {
  register_once();
  const std::lock_guard lock(threads_mutex_);
  ThreadState* state = threads_.load(std::memory_order_relaxed);
  while (state != nullptr && state->used)
    state = state->next;
  if (state == nullptr) {
    state = new (std::nothrow) ThreadState;
    if (state == nullptr)
      return nullptr;
    state->next = threads_.load(std::memory_order_relaxed);
    threads_.store(state, std::memory_order_release);
  }
  state->used = true;
  state->gate = this;
  state->remembered_epoch = 0;
  state->uses_unnamed = false;
  if (thread_key_made)
    pthread_setspecific(thread_key, state);
  if (!watching_.exchange(true)) {
    look_around(now_ns());
    start_watcher(*this);
  }
  return state;
}

void Gate::leave(ThreadState* thread) noexcept {
  if (stopped())
    return;
  for (unsigned index = 0; index < layout::kMaxDevices; ++index) {
    thread->leases[index].epoch = 0;
    thread->leases[index].credit.store(0, std::memory_order_relaxed);
    if (devices_[index].used())
      devices_[index].forget_thread(*thread);
  }
  const std::lock_guard lock(threads_mutex_);
  thread->used = false;
}

void Gate::look_around(std::uint64_t now) noexcept {
  const bool ever = grant_ != nullptr && grant_->alive_ns.load(std::memory_order_relaxed) != 0;
  if (link.connected())
    link.check();
  else if (ever)
    link.connect(now);
  bool free = true;
  for (unsigned index = 0; index < limiter_.region().device_count(); ++index)
    free = free && devices_[index].mode(now) == Mode::Free;
  if (all_free_.exchange(free) != free)
    void_leases();
}

void Gate::ring() noexcept {
  bell_.fetch_add(1, std::memory_order_release);
  wake(bell_);
}

bool Gate::place(CUcontext& context, unsigned& device) noexcept {
  Place here;
  if (!limiter_.current_place(here))
    return false;
  context = here.context;
  device = here.device == kNoDevice ? 0 : here.device; // a card of no slice counts as the slice's first
  return true;
}

// True where the launch has got a key that tells its arguments apart: its kernel takes now long and now
// short.
bool Gate::tell_arguments(ThreadState& thread, Work& work) noexcept {
  RememberedPrice& known = thread.price_of(work.key);
  if (work.arguments.function == nullptr || known.key != work.key || !known.by_arguments)
    return false;
  const std::uint64_t digest = arguments_.digest(work.arguments);
  if (digest == 0)
    return false;
  work.base = work.key;
  work.key = (work.key ^ digest) * kMix2 | 1u;
  return true;
}

void Gate::admit(ThreadState& thread, Work& work, Pending& pending) noexcept {
  if (tell_arguments(thread, work)) {
    pending = {};
    pending.lane = admit_quickly(thread, work, pending.price);
    if (pending.lane != nullptr)
      return;
    if (!prices.by_arguments(work.base)) { // it has been given up since
      work.key = std::exchange(work.base, 0);
      thread.price_of(work.key) = {};
    }
  }
  CUcontext context = nullptr;
  unsigned device = 0;
  if (stopped() || (something_captures() && is_capturing(work.stream)) || !place(context, device))
    return; // nothing runs, or the driver will say what is wrong
  CUcontext only = nullptr;
  if (only_context_.compare_exchange_strong(only, context))
    only_device_.store(device, std::memory_order_relaxed);
  else if (only != context)
    several_.store(true, std::memory_order_relaxed);
  Lane* lane = lane_for(thread, work, context, device);
  if (lane == nullptr)
    return;
  admit_to(thread, work, devices_[device], *lane, prices.quote(work), pending);
}

Lane* Gate::lane_for(ThreadState& thread, const Work& work, CUcontext context, unsigned device) noexcept {
  const std::uint32_t epoch = memory_epoch_.load(std::memory_order_acquire);
  if (thread.remembered_epoch != epoch) {
    thread.prices.fill({});
    thread.lanes.fill({});
    thread.remembered_epoch = epoch;
  }
  if (work.stream == CU_STREAM_PER_THREAD)
    thread.uses_unnamed = true;
  const bool several = several_.load(std::memory_order_relaxed);
  RememberedLane& known = thread.lane_of(work.stream, several ? context : nullptr);
  if (known.stream != work.stream || known.context != context || known.lane == nullptr ||
      known.waits != work.waits)
    known = {work.stream, context, device, work.waits,
             devices_[device].find_lane(thread, context, work.stream, work.waits)};
  if (known.lane == nullptr)
    known = {};
  return known.lane;
}

void Gate::admit_to(ThreadState& thread, const Work& work, DeviceGate& device, Lane& lane, const Quote& quote,
                    Pending& pending) noexcept {
  std::uint64_t waiting_since = 0;
  while (!stopped()) {
    const std::uint64_t now = now_ns();
    if (grant_ != nullptr && !link.connected() && grant_->alive_ns.load(std::memory_order_relaxed) != 0)
      link.connect(now);
    const Verdict verdict = device.admit(thread, work, quote, lane, now, pending);
    if (verdict.kind == Verdict::Kind::Pass) {
      if (waiting_since != 0)
        device.note_held_back(now - waiting_since);
      break;
    }
    if (waiting_since == 0)
      waiting_since = now;
    else
      device.note_held_back(now - std::exchange(waiting_since, now));
    await(verdict, device);
  }
  if (pending.lane == nullptr)
    return;
  thread.price_of(work.key) = {work.key, quote.price, quote.by_arguments ? 0 : quote.uses,
                               quote.by_arguments};
  device.begin_measuring(pending);
}

void Gate::await(const Verdict& verdict, const DeviceGate& device) noexcept {
  if (verdict.kind == Verdict::Kind::AwaitTurn) {
    wait_while(device.grant().turn, verdict.until, kTurnWait);
    if (device.grant().turn.load(std::memory_order_relaxed) == verdict.until)
      link.check();
    return;
  }
  const std::uint64_t now = now_ns();
  const std::uint64_t left = verdict.until > now ? verdict.until - now : 0;
  if (verdict.kind == Verdict::Kind::AwaitTime)
    return sleep_ns(std::min(left, kTimeWait));
  if (left > kSleepIsLate + kYields)
    return sleep_ns(std::min(left - kSleepIsLate, kTimeWait));
  if (left > kYields)
    return sleep_ns(left - kYields);
  sched_yield();
}

void Gate::void_memory() noexcept {
  memory_epoch_.fetch_add(1, std::memory_order_acq_rel);
  void_leases();
}

void Gate::synchronised(CUstream stream) noexcept {
  fold();
  CUcontext context = nullptr;
  unsigned device = 0;
  if (detail::thread != nullptr && !all_free_.load(std::memory_order_relaxed) && !stopped() &&
      place(context, device))
    devices_[device].drained(*detail::thread, context, stream);
}

void Gate::stream_ends(CUstream stream) noexcept {
  release_capture(stream);
  CUcontext context = nullptr;
  const auto used = [](const DeviceGate& device) { return device.used(); };
  if (stopped() || stream == nullptr || std::none_of(std::begin(devices_), std::end(devices_), used) ||
      is_capturing(stream) || driver().cuStreamGetCtx(stream, &context) != CUDA_SUCCESS)
    return;
  const ContextScope scope(context);
  for (DeviceGate& device : devices_) {
    if (scope && device.used())
      device.close_stream(context, stream);
  }
  void_memory();
}

void Gate::capture_begins(CUstream stream) noexcept {
  const std::lock_guard lock(threads_mutex_);
  try {
    capturing_.push_back(stream);
  } catch (const std::bad_alloc&) {
    return; // its work will be charged as if it ran
  }
  captures_under_way.store(static_cast<unsigned>(capturing_.size()), std::memory_order_release);
  void_leases();
}

void Gate::capture_ends(CUstream stream) noexcept {
  if (!is_capturing(stream))
    release_capture(stream);
}

void Gate::release_capture(CUstream stream) noexcept {
  if (!something_captures())
    return;
  const std::lock_guard lock(threads_mutex_);
  if (const auto found = std::find(capturing_.begin(), capturing_.end(), stream); found != capturing_.end())
    capturing_.erase(found);
  captures_under_way.store(static_cast<unsigned>(capturing_.size()), std::memory_order_release);
}

void Gate::functions_went() noexcept {
  prices.doubt_all();
  void_memory();
}

void Gate::context_call_begins() noexcept {
  functions_may_go();
  for (DeviceGate& device : devices_)
    device.mutex().lock();
}

void Gate::context_call_over(CUcontext ended) noexcept {
  for (DeviceGate& device : devices_) {
    if (ended != nullptr)
      device.forget_context_locked(ended);
    device.mutex().unlock();
  }
  if (ended == nullptr)
    return;
  only_context_.compare_exchange_strong(ended, nullptr);
  void_memory();
}

void Gate::fold() noexcept {
  const std::lock_guard lock(threads_mutex_);
  std::uint64_t sums[kCounters];
  std::copy(std::begin(counted_before_), std::end(counted_before_), sums);
  for_each_thread([&](const ThreadState& thread) {
    for (unsigned i = 0; i < kCounters; ++i)
      sums[i] += thread.counts[i].load(std::memory_order_relaxed);
  });
  layout::Counters& counters = limiter_.counters();
  std::atomic<std::uint64_t>* const words[kCounters] = {&counters.launches,       &counters.graph_launches,
                                                        &counters.copies,         &counters.copied_to_device,
                                                        &counters.copied_to_host, &counters.copied_on_device};
  for (unsigned i = 0; i < kCounters; ++i)
    words[i]->store(sums[i], std::memory_order_relaxed);
}

// The watcher looks at stopped() whenever it has taken a mutex. If one stays taken, this is called from
// within a call of the gate, by a signal handler, say, and the watcher is not in the driver either.
void Gate::stop() noexcept {
  stopped_.store(true, std::memory_order_seq_cst);
  all_free_.store(true, std::memory_order_seq_cst);
  const std::uint64_t begun = now_ns();
  for (DeviceGate& device : devices_) {
    while (!device.mutex().try_lock()) {
      if (now_ns() - begun > kExitPatience)
        return;
      sched_yield();
    }
    device.mutex().unlock();
    if (device.used())
      device.publish();
  }
  if (threads_mutex_.try_lock()) {
    threads_mutex_.unlock();
    fold();
  }
}

} // namespace aliquot::limiter::compute
