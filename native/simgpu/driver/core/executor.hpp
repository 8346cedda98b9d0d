// Runs what streams hold: the thread pool, the monitor, and the waiting callers that lend a hand.
//
// A launch must cost little and still begin when nobody waits for it. So there are three kinds of threads:
//   - a caller that waits for a stream runs the stream's commands itself where no other thread does: a launch
//     and its synchronisation need no thread switch;
//   - workers run what nobody waits for, and join in on large grids;
//   - one monitor wakes every ~50 us while there is work, hands ready streams to workers and asks kernels to
//     yield when the card's turn goes to another process. It sleeps for good when there is nothing to do, so
//     an idle process burns nothing.
// All start with the first submission, none before.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "native/simgpu/driver/core/engine.hpp"
#include "native/simgpu/driver/core/stream.hpp"
#include "native/simgpu/exec/exec.hpp"

namespace aliquot::simgpu::driver {

inline constexpr int kGreatestPriority = -5, kLeastPriority = 0;

class Executor {
 public:
  static Executor& instance() noexcept;

  // Puts a command at the end of a stream, behind what the stream's implicit order asks for. Returns its
  // sequence number there.
  std::uint64_t submit(const std::shared_ptr<Stream>& stream, std::unique_ptr<Command> command);
  // Returns when `sequence` is done (or the process ends).
  void wait(const std::shared_ptr<Stream>& stream, std::uint64_t sequence) noexcept;
  void wait_idle(const std::shared_ptr<Stream>& stream) noexcept { wait(stream, stream->submitted()); }
  // Runs light commands at the head of the stream on this thread, as far as that needs no waiting.
  void run_light(const std::shared_ptr<Stream>& stream) noexcept;

  // For commands: runs a grid on this thread, with workers joining in. The engine is held by the caller.
  exec::Progress run_grid(exec::Grid& grid, Context& context, std::uint64_t blocks) noexcept;
  // Asks the kernels that run now to yield; they are resumed.
  void interrupt_grids() noexcept;
  // For commands: the command that returned Detached is done.
  void finish_detached(const std::shared_ptr<Stream>& stream) noexcept;
  // Runs `task` on the thread for host functions; tasks run one after another.
  void post_host_task(std::function<void()> task);

  // Asks everything to stop and waits briefly. Called when the process ends.
  void shut_down() noexcept;
  bool shutting_down() const noexcept { return shutting_down_.load(std::memory_order_relaxed); }
  void watch(CardEngine* engine);

 private:
  struct ActiveGrid {
    exec::Grid* grid = nullptr;
    Context* context = nullptr;
    std::uint64_t blocks = 0;
    int priority = kLeastPriority; // of its stream
    bool makes_room = false;       // was told to stop for others that have waited long enough
    std::atomic<bool> stop{false};
    unsigned helpers = 0;
    bool exhausted = false; // has no block left to begin
    ActiveGrid* next = nullptr;
  };

  struct ReadyList {
    std::shared_ptr<Stream> first;
    Stream* last = nullptr;
  };

  Executor();
  void start_threads();
  void drive(const std::shared_ptr<Stream>& stream, std::uint64_t until, bool light_only) noexcept;
  bool step(const std::shared_ptr<Stream>& stream, std::uint64_t until, bool light_only) noexcept;
  void complete_one(const std::shared_ptr<Stream>& stream) noexcept;
  bool help(const std::shared_ptr<Stream>& stream, std::uint64_t sequence) noexcept;
  bool claim(Stream& stream) noexcept;
  void block_on(const std::shared_ptr<Stream>& stream, const Dependency& dependency) noexcept;
  void make_ready(const std::shared_ptr<Stream>& stream) noexcept;
  bool gives_way(Stream& stream) noexcept;
  bool outranked(int priority) noexcept;
  void requeue_locked_stream(const std::shared_ptr<Stream>& stream) noexcept;
  void push_ready(const std::shared_ptr<Stream>& stream) noexcept;
  std::shared_ptr<Stream> pop_ready() noexcept;
  bool join_a_grid() noexcept;
  bool take_slot() noexcept;
  void give_slot() noexcept { slots_.fetch_add(1, std::memory_order_release); }
  void wake_monitor() noexcept;

  void worker_loop() noexcept;
  void monitor_loop() noexcept;
  bool any_grid() noexcept;
  bool monitor_round(std::uint64_t& starved_since) noexcept;
  void host_task_loop() noexcept;

  unsigned thread_count_ = 1;
  std::atomic<int> slots_{1}; // how many threads may run kernels at once
  std::atomic<bool> started_{false}, shutting_down_{false};
  std::mutex start_mutex_;

  std::mutex ready_mutex_; // guards ready_
  // One list for each priority, and last those that made room: a kernel may wait for what one of a lower
  // priority does, so priority alone must not decide for ever.
  static constexpr std::size_t kRotatedList = kLeastPriority - kGreatestPriority + 1;
  std::array<ReadyList, kRotatedList + 1> ready_;
  std::atomic<unsigned> ready_lists_{0}; // bit i: list i is not empty
  std::atomic<std::size_t> ready_count_{0};

  std::mutex pool_mutex_; // workers sleep here
  std::condition_variable work_;
  unsigned idle_workers_ = 0;
  unsigned wake_ups_ = 0;

  std::mutex grids_mutex_; // guards grids_ and the fields of ActiveGrid
  std::condition_variable grid_left_;
  ActiveGrid* grids_ = nullptr;

  std::mutex monitor_mutex_;
  std::condition_variable monitor_wake_;
  std::atomic<bool> monitor_parked_{false};
  std::vector<CardEngine*> engines_;

  std::mutex host_mutex_;
  std::condition_variable host_wake_;
  std::deque<std::function<void()>> host_tasks_;
  bool host_thread_started_ = false;
};

} // namespace aliquot::simgpu::driver
