// One launch: blocks handed to host threads, run warp by warp, parked when told to stop.
#include <time.h>

#include <algorithm>
#include <deque>
#include <map>
#include <mutex>
#include <new>

#include "native/simgpu/exec/block_state.hpp"
#include "native/simgpu/exec/handlers.hpp"

namespace aliquot::simgpu::exec {
namespace {

constexpr std::uint64_t kBudget = 20000;             // PTX instructions of a warp between looks at `stop`
constexpr std::uint64_t kSpinningBudget = 500;       // when lanes or blocks wait for one another
constexpr std::uint64_t kLongestNap = 200000;        // ns between looks at `stop`
constexpr std::uint64_t kShortWait = 5000;           // ns that are not worth leaving a block for
constexpr std::uint64_t kDeadlockedNap = 10000000;   // ns: nothing will ever wake the block
constexpr std::uint64_t kSleepingBytes = 128u << 20; // of blocks that sleep while others run

class WorkerState final : public Worker {
 public:
  std::vector<Site> sites;
};

enum class BlockEnd : std::uint8_t { Done, Parked, Rotated, Asleep, Faulted };

void nap(std::uint64_t nanoseconds) {
  timespec time{static_cast<time_t>(nanoseconds / 1000000000), static_cast<long>(nanoseconds % 1000000000)};
  nanosleep(&time, nullptr);
}

// Runs one block on one host thread.
class Runner {
 public:
  Runner(WorkerState& worker, const Memory& memory, const std::atomic<bool>& stop, const Launch& launch,
         const CompiledProgram& program)
      : worker_(worker), stop_(stop), cooperative_(launch.cooperative) {
    worker_.sites.assign(program.sites, Site{});
    context_.memory = &memory;
    context_.sites = worker_.sites.data();
    context_.parameters = reinterpret_cast<const char*>(launch.parameters.data());
    context_.parameter_bytes = launch.parameters.size();
  }

  BlockEnd run(BlockState& block) {
    enter(block);
    for (;;) {
      bool any_ready = false, any_left = false;
      std::uint32_t count = static_cast<std::uint32_t>(block.warps.size());
      for (std::uint32_t i = 0; i < count; ++i) {
        Warp& warp = block.warps[block.cursor];
        if (warp.group_count) {
          any_left = true;
          if (has_ready(warp, monotonic_ns())) {
            any_ready = true;
            BlockEnd end = run_warp(block, warp);
            if (end != BlockEnd::Done)
              return end;
          }
        }
        block.cursor = block.cursor + 1 == count ? 0 : block.cursor + 1;
      }
      if (!any_left)
        return BlockEnd::Done;
      if (!any_ready && !wait(block))
        return BlockEnd::Asleep;
    }
  }

  std::uint64_t lane_instructions() const { return context_.steps * 32 - context_.idle_lanes; }

 private:
  void enter(BlockState& block) {
    if (context_.block != &block)
      std::fill(worker_.sites.begin(), worker_.sites.end(), Site{}); // they may hold the last block's windows
    context_.block = &block;
    context_.shared = block.shared.get();
    context_.shared_bytes = block.shared_bytes;
    context_.local = block.local.get();
    context_.local_bytes = std::uint64_t{block.local_stride} * block.warps.size() * 32;
  }

  // Done: the warp waits or has finished, go on with the next.
  BlockEnd run_warp(BlockState& block, Warp& warp) {
    for (;;) {
      context_.warp = &warp;
      context_.leave = Leave::None;
      context_.spins = false;
      bool brief = warp.spinning || (cooperative_ && spun_);
      context_.step_limit = context_.steps + (brief ? kSpinningBudget : kBudget);
      warp.turn_start = context_.steps;
      pick_group(&context_, warp);
      if (context_.op)
        isa_table().enter(&context_);
      warp.ran += context_.steps - warp.turn_start;
      warp.turn_start = context_.steps;
      switch (context_.leave) {
      case Leave::Fault:
        return BlockEnd::Faulted;
      case Leave::Budget:
        break;
      default:
        return stop_.load(std::memory_order_relaxed) ? park(block, BlockEnd::Parked) : BlockEnd::Done;
      }
      warp.spinning = context_.spins && warp.group_count > 1;
      warp.fair = warp.spinning && !warp.fair;
      spun_ = context_.spins;
      if (stop_.load(std::memory_order_relaxed))
        return park(block, BlockEnd::Parked);
      if (cooperative_ && spun_)
        return park(block, BlockEnd::Rotated);
      if (block.warps.size() > 1)
        return BlockEnd::Done; // others of the block may be what it waits for
    }
  }

  BlockEnd park(BlockState& block, BlockEnd how) {
    block.cursor = block.cursor + 1 == block.warps.size() ? 0 : block.cursor + 1;
    return how;
  }

  // No warp of the block can run now. False: not soon either, others may use the thread.
  bool wait(BlockState& block) {
    std::uint64_t now = monotonic_ns(), wake = first_wake(block);
    if (wake <= now + kShortWait)
      return true;
    block.wake_ns = wake == ~std::uint64_t{0} ? now + kDeadlockedNap : wake;
    return false;
  }

  WorkerState& worker_;
  const std::atomic<bool>& stop_;
  bool cooperative_, spun_ = false;
  Context context_{};
};

class GridState final : public Grid {
 public:
  explicit GridState(Launch launch)
      : launch_(std::move(launch)), program_(static_cast<const CompiledProgram*>(launch_.program.get())),
        total_(std::uint64_t{launch_.grid.x} * launch_.grid.y * launch_.grid.z) {}

  Progress run(Worker& worker, const Memory& memory, const std::atomic<bool>& stop) noexcept override {
    try {
      Runner runner(static_cast<WorkerState&>(worker), memory, stop, launch_, *program_);
      Progress progress = run_blocks(runner, stop);
      lane_instructions_.fetch_add(runner.lane_instructions(), std::memory_order_relaxed);
      return progress;
    } catch (const std::bad_alloc&) {
      return host_memory();
    }
  }

  bool complete() const noexcept override { return completed_.load(std::memory_order_acquire) == total_; }
  Fault fault() const override {
    std::lock_guard lock(mutex_);
    return fault_;
  }
  std::uint64_t lane_instructions() const noexcept override {
    return lane_instructions_.load(std::memory_order_relaxed);
  }

  std::uint64_t wake_ns() const noexcept override {
    std::lock_guard lock(mutex_);
    return sleeping_.empty() ? 0 : sleeping_.begin()->first;
  }

  // The first block's state, so that a launch that cannot be set up fails before it starts.
  bool prepare() {
    std::unique_ptr<BlockState> state = fresh_state();
    if (!state)
      return false;
    most_sleeping_ = resident_limit(*state);
    idle_.push_back(std::move(state));
    return true;
  }

 private:
  Progress run_blocks(Runner& runner, const std::atomic<bool>& stop) {
    for (;;) {
      if (faulted_.load(std::memory_order_acquire))
        return Progress::Faulted;
      if (stop.load(std::memory_order_relaxed))
        return Progress::Yielded;
      Next what = Next::Block;
      std::unique_ptr<BlockState> block = next_block(what);
      if (what == Next::Asleep) {
        if (launch_.report_waits && wait_left() > kLongestNap / 4)
          return Progress::Waiting;
        nap(std::min(wait_left(), kLongestNap));
        continue;
      }
      if (!block)
        return what == Next::Exhausted ? Progress::Done : host_memory();
      switch (runner.run(*block)) {
      case BlockEnd::Done: {
        std::lock_guard lock(mutex_);
        idle_.push_back(std::move(block));
        completed_.fetch_add(1, std::memory_order_release);
        break;
      }
      case BlockEnd::Parked:
        park(std::move(block), true);
        return Progress::Yielded;
      case BlockEnd::Rotated:
        park(std::move(block), false);
        break;
      case BlockEnd::Asleep:
        put_to_sleep(std::move(block));
        break;
      case BlockEnd::Faulted:
        return record(block->fault);
      }
    }
  }

  enum class Next : std::uint8_t { Block, Asleep, Exhausted };

  // As many blocks as a card has room for, as far as the host has memory for them.
  std::size_t resident_limit(const BlockState& state) const {
    std::uint64_t a_multiprocessor = std::min<std::uint64_t>(2048 / std::max(state.threads, 64u), 32);
    if (state.shared_bytes)
      a_multiprocessor = std::clamp<std::uint64_t>((228u << 10) / state.shared_bytes, 1, a_multiprocessor);
    std::uint64_t card =
        launch_.resident_blocks ? launch_.resident_blocks : a_multiprocessor * std::max(launch_.sm_count, 1u);
    std::uint64_t bytes = state.frame_stride * state.warps.size() + state.shared_bytes +
                          std::uint64_t{state.local_stride} * state.warps.size() * 32 + 4096;
    return static_cast<std::size_t>(
        launch_.cooperative ? total_ : std::min(card, std::max<std::uint64_t>(kSleepingBytes / bytes, 2)));
  }

  std::uint64_t wait_left() const {
    std::uint64_t wake = wake_ns(), now = monotonic_ns();
    return wake > now ? wake - now : 0;
  }

  void put_to_sleep(std::unique_ptr<BlockState> block) {
    std::lock_guard lock(mutex_);
    sleeping_.emplace(block->wake_ns, std::move(block));
    sleeping_blocks_.store(static_cast<std::uint32_t>(sleeping_.size()), std::memory_order_relaxed);
  }

  // Under the lock: the first sleeper, if its time has come.
  std::unique_ptr<BlockState> awake() {
    if (sleeping_.empty() || sleeping_.begin()->first > monotonic_ns())
      return nullptr;
    std::unique_ptr<BlockState> block = std::move(sleeping_.begin()->second);
    sleeping_.erase(sleeping_.begin());
    sleeping_blocks_.store(static_cast<std::uint32_t>(sleeping_.size()), std::memory_order_relaxed);
    return block;
  }

  // Blocks that have begun first, except that a cooperative launch starts all its blocks before it goes on
  // with any.
  std::unique_ptr<BlockState> next_block(Next& what) {
    std::unique_lock lock(mutex_);
    bool fresh = next_ < total_ && sleeping_.size() < most_sleeping_;
    if (std::unique_ptr<BlockState> block = awake())
      return block;
    if (!parked_.empty() && !(launch_.cooperative && fresh)) {
      std::unique_ptr<BlockState> block = std::move(parked_.front());
      parked_.pop_front();
      return block;
    }
    if (!fresh) {
      what = sleeping_.empty() ? Next::Exhausted : Next::Asleep;
      return nullptr;
    }
    std::unique_ptr<BlockState> block;
    if (!idle_.empty()) {
      block = std::move(idle_.back());
      idle_.pop_back();
    }
    std::uint64_t number = next_;
    if (!block) {
      lock.unlock();
      block = fresh_state();
      if (!block)
        return nullptr;
      lock.lock();
      number = next_;
      if (number >= total_) {
        what = sleeping_.empty() ? Next::Exhausted : Next::Asleep;
        return nullptr;
      }
    }
    ++next_;
    lock.unlock();
    block->start(number, static_cast<std::uint32_t>(number % std::max(launch_.sm_count, 1u)));
    return block;
  }

  void park(std::unique_ptr<BlockState> block, bool first) {
    std::lock_guard lock(mutex_);
    if (first)
      parked_.push_front(std::move(block));
    else
      parked_.push_back(std::move(block));
  }

  Progress record(const Fault& fault) {
    std::lock_guard lock(mutex_);
    if (!faulted_.exchange(true, std::memory_order_acq_rel))
      fault_ = fault;
    return Progress::Faulted;
  }

  Progress host_memory() noexcept {
    try {
      Fault fault;
      fault.kind = FaultKind::HostMemory;
      fault.message = "the host has no memory for the blocks of this launch";
      return record(fault);
    } catch (...) {
      faulted_.store(true);
      return Progress::Faulted;
    }
  }

  std::unique_ptr<BlockState> fresh_state() {
    auto state = std::make_unique<BlockState>();
    state->sleeping_blocks = &sleeping_blocks_;
    return state->set_up(launch_, *program_) ? std::move(state) : nullptr;
  }

  Launch launch_;
  const CompiledProgram* program_;
  std::uint64_t total_;
  mutable std::mutex mutex_;
  std::uint64_t next_ = 0;
  std::deque<std::unique_ptr<BlockState>> parked_;
  std::multimap<std::uint64_t, std::unique_ptr<BlockState>> sleeping_; // by the time when they wake
  std::size_t most_sleeping_ = 0;
  std::atomic<std::uint32_t> sleeping_blocks_{0};
  std::vector<std::unique_ptr<BlockState>> idle_;
  std::atomic<std::uint64_t> completed_{0}, lane_instructions_{0};
  std::atomic<bool> faulted_{false};
  Fault fault_;
};

Fault refused(FaultKind kind, std::string message) {
  Fault fault;
  fault.kind = kind;
  fault.message = std::move(message);
  return fault;
}

} // namespace

std::unique_ptr<Worker> make_worker() {
  return std::make_unique<WorkerState>();
}

std::unique_ptr<Grid> make_grid(Launch launch, Fault& fault) {
  std::uint64_t threads = std::uint64_t{launch.block.x} * launch.block.y * launch.block.z;
  if (!launch.program || launch.kernel >= launch.program->kernels().size() || threads == 0 ||
      threads > 1024 || !launch.grid.x || !launch.grid.y || !launch.grid.z) {
    fault = refused(FaultKind::HostMemory, "a launch without threads, or of more than 1024 a block");
    return nullptr;
  }
  const Kernel& kernel = static_cast<const CompiledProgram&>(*launch.program).kernels_[launch.kernel];
  if (!kernel.refusal.empty()) {
    fault = refused(FaultKind::IllegalInstruction, kernel.refusal);
    return nullptr;
  }
  try {
    launch.parameters.resize(launch.program->kernels()[launch.kernel].parameter_bytes);
    auto grid = std::make_unique<GridState>(std::move(launch));
    if (grid->prepare())
      return grid;
  } catch (const std::bad_alloc&) {
  }
  fault = refused(FaultKind::HostMemory, "the host has no memory for a block of this launch");
  return nullptr;
}

} // namespace aliquot::simgpu::exec
