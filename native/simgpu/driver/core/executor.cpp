#include "native/simgpu/driver/core/executor.hpp"

#include <sched.h>
#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <new>
#include <utility>

#include "native/common/log.hpp"
#include "native/simgpu/driver/core/context.hpp"
#include "native/simgpu/driver/core/event.hpp"
#include "native/simgpu/driver/core/memory_gate.hpp"
#include "native/simgpu/driver/core/poller.hpp"
#include "native/simgpu/driver/core/thread_state.hpp"
#include "native/simgpu/driver/core/threads.hpp"

namespace aliquot::simgpu::driver {
namespace {

using std::chrono::microseconds;

constexpr auto kMonitorPeriod = microseconds(50);
// Rounds without work after which the monitor sleeps until it is woken: 2 ms.
constexpr unsigned kIdleRounds = 40;
// For so long ready streams wait for a slot before running kernels are asked to make room.
constexpr std::uint64_t kStarvedNs = 2'000'000;
constexpr int kDependencyDepth = 8;

// Of the command that this thread runs: the priority of its stream, and whether it yielded to make room.
thread_local int running_priority = kLeastPriority;
thread_local bool made_room = false;
constexpr std::uint64_t kNoLimit = ~std::uint64_t{0};

unsigned configured_threads() noexcept {
  if (const char* text = std::getenv("ALIQUOT_SIMGPU_THREADS"); text != nullptr) {
    const long asked = std::strtol(text, nullptr, 10);
    if (asked >= 1 && asked <= 1024)
      return static_cast<unsigned>(asked);
    common::log_line(common::LogLevel::Warning,
                     "ALIQUOT_SIMGPU_THREADS=%s is not a number from 1 to 1024; ignored", text);
  }
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const int cores = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : 1;
  return static_cast<unsigned>(std::max(cores, 1));
}

// A few microseconds: what a short kernel on another thread still needs, and far less than a thread switch.
bool spin_until(const Stream& stream, std::uint64_t sequence) noexcept {
  for (int i = 0; i < 100; ++i) {
    if (stream.completed() >= sequence)
      return true;
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }
  return false;
}

Outcome run_inside_gate(Command& command, Stream& stream) noexcept {
  const InsideGate inside;
  return command.run(stream);
}

} // namespace

Executor::Executor() : thread_count_(configured_threads()) {
  slots_ = static_cast<int>(thread_count_);
}

Executor& Executor::instance() noexcept {
  alignas(Executor) static std::byte storage[sizeof(Executor)];
  static auto* executor = new (storage) Executor; // never destroyed: threads may be inside at exit
  return *executor;
}

void Executor::watch(CardEngine* engine) {
  const std::lock_guard guard(monitor_mutex_);
  engines_.push_back(engine);
}

void Executor::start_threads() {
  const std::lock_guard guard(start_mutex_);
  if (started_)
    return;
  start_thread("monitor", [this] { monitor_loop(); });
  for (unsigned i = 0; i < thread_count_; ++i)
    start_thread("worker", [this] { worker_loop(); });
  started_ = true;
}

// ---- submission -------------------------------------------------------------------------------------------

std::uint64_t Executor::submit(const std::shared_ptr<Stream>& stream, std::unique_ptr<Command> command) {
  if (!started_.load(std::memory_order_acquire))
    start_threads();
  stream->context().add_implicit_order(*stream, command->waits_for);
  std::uint64_t sequence = 0;
  bool ready = false;
  {
    const std::lock_guard guard(stream->mutex_);
    stream->queue_.push_back(std::move(command));
    sequence = stream->submitted_.load(std::memory_order_relaxed) + 1;
    stream->submitted_.store(sequence, std::memory_order_release);
    if (stream->state_ == Stream::State::Idle) {
      stream->state_ = Stream::State::Ready;
      ready = !std::exchange(stream->queued_, true);
    }
  }
  if (ready)
    push_ready(stream);
  return sequence;
}

// The ready queue links the streams themselves: it must not fail for want of memory.
void Executor::push_ready(const std::shared_ptr<Stream>& stream) noexcept {
  {
    const std::lock_guard guard(ready_mutex_);
    const std::size_t index =
        stream->rotated_ ? kRotatedList : static_cast<std::size_t>(stream->priority() - kGreatestPriority);
    ReadyList& list = ready_[index];
    ready_lists_.fetch_or(1u << index, std::memory_order_relaxed);
    (list.last == nullptr ? list.first : list.last->next_ready_) = stream;
    list.last = stream.get();
    ready_count_.fetch_add(1, std::memory_order_seq_cst);
  }
  wake_monitor();
}

std::shared_ptr<Stream> Executor::pop_ready() noexcept {
  const std::lock_guard guard(ready_mutex_);
  for (std::size_t index = 0; index < ready_.size(); ++index) {
    ReadyList& list = ready_[index];
    if (!list.first)
      continue;
    std::shared_ptr<Stream> stream = std::move(list.first);
    list.first = std::move(stream->next_ready_);
    if (!list.first) {
      list.last = nullptr;
      ready_lists_.fetch_and(~(1u << index), std::memory_order_relaxed);
    }
    stream->rotated_ = false;
    ready_count_.fetch_sub(1, std::memory_order_release);
    return stream;
  }
  return nullptr;
}

void Executor::make_ready(const std::shared_ptr<Stream>& stream) noexcept {
  bool push = false;
  {
    const std::lock_guard guard(stream->mutex_);
    if (stream->state_ != Stream::State::Blocked)
      return;
    stream->state_ = Stream::State::Ready;
    push = !std::exchange(stream->queued_, true);
  }
  if (push)
    push_ready(stream);
}

// ---- running ----------------------------------------------------------------------------------------------

bool Executor::take_slot() noexcept {
  int free = slots_.load(std::memory_order_relaxed);
  while (free > 0)
    if (slots_.compare_exchange_weak(free, free - 1, std::memory_order_acquire))
      return true;
  return false;
}

// Whether a stream of a higher priority than this waits for a thread.
bool Executor::outranked(int priority) noexcept {
  const auto higher = static_cast<std::size_t>(priority - kGreatestPriority);
  if ((ready_lists_.load(std::memory_order_relaxed) & ((1u << higher) - 1)) == 0)
    return false;
  const std::lock_guard guard(ready_mutex_);
  for (std::size_t index = 0; index < higher; ++index)
    for (const Stream* each = ready_[index].first.get(); each != nullptr; each = each->next_ready_.get())
      if (each->state_ == Stream::State::Ready) // others were claimed by a caller, and are only listed
        return true;
  return false;
}

// Whether a caller who waits for this stream must leave the thread to others. A worker takes them.
bool Executor::gives_way(Stream& stream) noexcept {
  return stream.rotated_.load(std::memory_order_relaxed) || outranked(stream.priority());
}

bool Executor::claim(Stream& stream) noexcept {
  const std::lock_guard guard(stream.mutex_);
  if (stream.state_ != Stream::State::Ready)
    return false;
  stream.state_ = Stream::State::Running;
  return true;
}

void Executor::requeue_locked_stream(const std::shared_ptr<Stream>& stream) noexcept {
  stream->state_ = Stream::State::Ready;
  if (!std::exchange(stream->queued_, true))
    push_ready(stream);
}

// Runs commands of a stream that this thread has claimed, until `until` is done or it can go no further.
void Executor::drive(const std::shared_ptr<Stream>& stream, std::uint64_t until, bool light_only) noexcept {
  while (step(stream, until, light_only)) {
  }
}

bool Executor::step(const std::shared_ptr<Stream>& stream, std::uint64_t until, bool light_only) noexcept {
  Command* command = nullptr;
  Dependency unmet;
  {
    const std::lock_guard guard(stream->mutex_);
    if (stream->queue_.empty()) {
      stream->state_ = Stream::State::Idle;
      return false;
    }
    command = stream->queue_.front().get(); // stays there: only who has claimed the stream takes it out
    for (const Dependency& dependency : command->waits_for)
      if (dependency.stream->completed() < dependency.sequence)
        unmet = dependency;
    if (unmet.stream) {
      stream->state_ = Stream::State::Blocked;
    } else if (stream->completed() >= until || (light_only && !command->light()) || shutting_down()) {
      requeue_locked_stream(stream);
      return false;
    }
  }
  if (unmet.stream) {
    block_on(stream, unmet);
    return false;
  }
  Outcome outcome = Outcome::Done;
  if (stream->context().failed())
    command->skip();
  else {
    running_priority = stream->priority();
    made_room = false;
    outcome = run_inside_gate(*command, *stream);
  }
  if (outcome == Outcome::Detached)
    return false;
  if (outcome == Outcome::Yielded) {
    const std::lock_guard guard(stream->mutex_);
    stream->rotated_ = made_room;
    requeue_locked_stream(stream);
    return false;
  }
  complete_one(stream);
  return true;
}

void Executor::block_on(const std::shared_ptr<Stream>& stream, const Dependency& dependency) noexcept {
  try {
    const std::lock_guard guard(dependency.stream->mutex_);
    if (dependency.stream->completed() < dependency.sequence) {
      dependency.stream->waiters_.push_back({stream, dependency.sequence});
      return;
    }
  } catch (const std::bad_alloc&) { // looked at again, by whoever takes it from the ready queue
  }
  make_ready(stream);
}

void Executor::complete_one(const std::shared_ptr<Stream>& stream) noexcept {
  std::unique_ptr<Command> command;
  {
    const std::lock_guard guard(stream->mutex_);
    command = std::move(stream->queue_.front());
    stream->queue_.pop_front();
  }
  command.reset(); // before its completion shows: what it held is free when the caller goes on
  std::vector<Dependency> waiters;
  std::uint64_t done = 0;
  {
    const std::lock_guard guard(stream->mutex_);
    done = stream->completed_.load(std::memory_order_relaxed) + 1;
    stream->completed_.store(done, std::memory_order_release);
    if (stream->sleepers_ != 0)
      stream->progress_.notify_all();
    waiters.swap(stream->waiters_);
  }
  Poller::instance().poke(); // it may have written what another stream waits for
  for (const Dependency& each : waiters) {
    if (each.sequence <= done)
      make_ready(each.stream);
    else
      block_on(each.stream, {stream, each.sequence});
  }
}

void Executor::finish_detached(const std::shared_ptr<Stream>& stream) noexcept {
  complete_one(stream);
  const std::lock_guard guard(stream->mutex_);
  if (stream->queue_.empty())
    stream->state_ = Stream::State::Idle;
  else
    requeue_locked_stream(stream);
}

void Executor::run_light(const std::shared_ptr<Stream>& stream) noexcept {
  if (claim(*stream))
    drive(stream, kNoLimit, true);
}

// ---- waiting ----------------------------------------------------------------------------------------------

void Executor::wait(const std::shared_ptr<Stream>& stream, std::uint64_t sequence) noexcept {
  while (stream->completed() < sequence && !shutting_down())
    if (!help(stream, sequence) && !spin_until(*stream, sequence))
      stream->doze(sequence);
}

// Does some of the work that `sequence` waits for. False where other threads are at it, or nobody can be.
bool Executor::help(const std::shared_ptr<Stream>& stream, std::uint64_t sequence) noexcept {
  std::shared_ptr<Stream> target = stream;
  for (int depth = 0; depth < kDependencyDepth; ++depth) {
    Dependency blocker;
    {
      const std::lock_guard guard(target->mutex_);
      if (target->state_ != Stream::State::Blocked)
        break;
      for (const Dependency& dependency : target->queue_.front()->waits_for)
        if (dependency.stream->completed() < dependency.sequence)
          blocker = dependency;
    }
    if (!blocker.stream)
      return false;
    target = blocker.stream;
    sequence = blocker.sequence;
  }
  if (gives_way(*target) || !take_slot())
    return false;
  bool helped = false;
  if (claim(*target)) {
    const std::uint64_t before = target->completed();
    drive(target, sequence, false);
    helped = target->completed() != before;
  } else {
    helped = join_a_grid();
  }
  give_slot();
  return helped;
}

// ---- grids ------------------------------------------------------------------------------------------------

exec::Progress Executor::run_grid(exec::Grid& grid, Context& context, std::uint64_t blocks) noexcept {
  exec::Worker* worker = worker_of_this_thread();
  if (worker == nullptr)
    return exec::Progress::Faulted;
  ActiveGrid active;
  active.grid = &grid;
  active.context = &context;
  active.blocks = blocks;
  active.priority = running_priority;
  {
    const std::lock_guard guard(grids_mutex_);
    active.next = grids_;
    grids_ = &active;
  }
  // It may have parked while this thread waited for its turn: somebody has to notice when the turn is over.
  wake_monitor();
  const exec::Progress progress = grid.run(*worker, context.memory(), active.stop);
  {
    // Stays in the list until the last helper has left, so that it can still be told to stop.
    std::unique_lock lock(grids_mutex_);
    active.exhausted = true;
    grid_left_.wait(lock, [&] { return active.helpers == 0; });
    ActiveGrid** link = &grids_;
    while (*link != &active)
      link = &(*link)->next;
    *link = active.next;
    made_room = active.makes_room;
  }
  if (progress == exec::Progress::Faulted || grid.fault().kind != exec::FaultKind::None)
    return exec::Progress::Faulted;
  return grid.complete() ? exec::Progress::Done : exec::Progress::Yielded;
}

bool Executor::join_a_grid() noexcept {
  exec::Worker* worker = worker_of_this_thread();
  if (worker == nullptr)
    return false;
  ActiveGrid* chosen = nullptr;
  {
    const std::lock_guard guard(grids_mutex_);
    for (ActiveGrid* each = grids_; each != nullptr; each = each->next)
      if (!each->exhausted && !each->stop.load(std::memory_order_relaxed) &&
          each->blocks > each->helpers + 1 && (chosen == nullptr || each->priority < chosen->priority))
        chosen = each;
    if (chosen == nullptr)
      return false;
    ++chosen->helpers;
  }
  const exec::Progress progress = chosen->grid->run(*worker, chosen->context->memory(), chosen->stop);
  const std::lock_guard guard(grids_mutex_);
  if (progress != exec::Progress::Yielded)
    chosen->exhausted = true;
  if (--chosen->helpers == 0)
    grid_left_.notify_all();
  return true;
}

void Executor::interrupt_grids() noexcept {
  const std::lock_guard guard(grids_mutex_);
  for (ActiveGrid* each = grids_; each != nullptr; each = each->next)
    each->stop.store(true, std::memory_order_relaxed);
}

// ---- threads ----------------------------------------------------------------------------------------------

void Executor::worker_loop() noexcept {
  name_this_thread("aliquot-worker");
  while (!shutting_down()) {
    if (take_slot()) {
      bool worked = false;
      if (std::shared_ptr<Stream> stream = pop_ready()) {
        bool mine = false;
        {
          const std::lock_guard guard(stream->mutex_);
          stream->queued_ = false;
          mine = stream->state_ == Stream::State::Ready;
          if (mine)
            stream->state_ = Stream::State::Running;
        }
        if (mine)
          drive(stream, kNoLimit, false);
        worked = true;
      } else {
        worked = join_a_grid();
      }
      give_slot();
      if (worked)
        continue;
    }
    std::unique_lock lock(pool_mutex_);
    ++idle_workers_;
    work_.wait(lock, [this] { return wake_ups_ != 0 || shutting_down(); });
    if (wake_ups_ != 0)
      --wake_ups_;
    --idle_workers_;
  }
}

void Executor::wake_monitor() noexcept {
  if (!monitor_parked_.load(std::memory_order_seq_cst))
    return;
  const std::lock_guard guard(monitor_mutex_);
  monitor_parked_ = false;
  monitor_wake_.notify_one();
}

void Executor::monitor_loop() noexcept {
  name_this_thread("aliquot-monitor");
  prctl(PR_SET_TIMERSLACK, 1000UL, 0, 0, 0);
  unsigned idle_rounds = 0;
  std::uint64_t starved_since = 0;
  while (!shutting_down()) {
    const timespec period{0, std::chrono::nanoseconds(kMonitorPeriod).count()};
    nanosleep(&period, nullptr);
    idle_rounds = monitor_round(starved_since) ? 0 : idle_rounds + 1;
    if (idle_rounds < kIdleRounds)
      continue;
    std::unique_lock lock(monitor_mutex_);
    monitor_parked_.store(true, std::memory_order_seq_cst);
    // Work that was pushed, or a grid that began, between the last round and the flag would be seen by
    // nobody.
    if (ready_count_.load(std::memory_order_seq_cst) != 0 || any_grid())
      monitor_parked_ = false;
    monitor_wake_.wait(lock, [this] { return !monitor_parked_.load() || shutting_down(); });
    idle_rounds = 0;
  }
}

bool Executor::any_grid() noexcept {
  const std::lock_guard guard(grids_mutex_);
  return grids_ != nullptr;
}

// True while there is something to watch.
bool Executor::monitor_round(std::uint64_t& starved_since) noexcept {
  std::size_t wanted = ready_count_.load(std::memory_order_acquire);
  const bool starved = wanted != 0 && slots_.load(std::memory_order_relaxed) <= 0;
  if (!starved)
    starved_since = 0;
  else if (starved_since == 0)
    starved_since = now_ns();
  const bool make_room = starved && now_ns() - starved_since >= kStarvedNs;
  if (make_room)
    starved_since = 0;
  int highest_waiting = kLeastPriority;
  while (starved && outranked(highest_waiting) && highest_waiting > kGreatestPriority)
    --highest_waiting;
  bool running = false;
  {
    const std::lock_guard guard(grids_mutex_);
    running = grids_ != nullptr;
    for (ActiveGrid* each = grids_; each != nullptr; each = each->next) {
      // A kernel of a context that has failed may wait for one that will never come.
      // The blocks of a lower priority wait for those of a higher one, here in the midst of a block.
      const bool outranked_now = starved && each->priority > highest_waiting;
      each->makes_room = each->makes_room || make_room;
      if (make_room || outranked_now || each->context->failed() ||
          each->context->device().engine.turn_is_over())
        each->stop.store(true, std::memory_order_relaxed);
      if (!each->exhausted && each->blocks > each->helpers + 1)
        wanted += std::min<std::uint64_t>(each->blocks - each->helpers - 1, thread_count_);
    }
  }
  if (wanted != 0 && slots_.load(std::memory_order_relaxed) > 0) {
    const std::lock_guard guard(pool_mutex_);
    const std::size_t wake =
        std::min<std::size_t>(wanted, idle_workers_ - std::min(idle_workers_, wake_ups_));
    wake_ups_ += static_cast<unsigned>(wake);
    for (std::size_t i = 0; i < wake; ++i)
      work_.notify_one();
  }
  return wanted != 0 || running;
}

void Executor::post_host_task(std::function<void()> task) {
  const std::lock_guard guard(host_mutex_);
  host_tasks_.push_back(std::move(task));
  if (!std::exchange(host_thread_started_, true))
    start_thread("host function", [this] { host_task_loop(); });
  host_wake_.notify_one();
}

void Executor::host_task_loop() noexcept {
  name_this_thread("aliquot-host");
  this_thread().in_host_function = true;
  for (;;) {
    std::function<void()> task;
    {
      std::unique_lock lock(host_mutex_);
      host_wake_.wait(lock, [this] { return !host_tasks_.empty(); });
      task = std::move(host_tasks_.front());
      host_tasks_.pop_front();
    }
    task();
  }
}

void Executor::shut_down() noexcept {
  shutting_down_ = true;
  {
    const std::lock_guard guard(monitor_mutex_);
    for (CardEngine* engine : engines_)
      engine->abandon();
    monitor_wake_.notify_all();
  }
  {
    const std::lock_guard guard(pool_mutex_);
    work_.notify_all();
  }
  for (int i = 0; i < 200; ++i) { // at most 20 ms: what still runs then ends with the process
    {
      const std::lock_guard guard(grids_mutex_);
      for (ActiveGrid* each = grids_; each != nullptr; each = each->next)
        each->stop.store(true, std::memory_order_relaxed);
      if (grids_ == nullptr)
        return;
    }
    const timespec pause{0, 100000};
    nanosleep(&pause, nullptr);
  }
}

} // namespace aliquot::simgpu::driver
