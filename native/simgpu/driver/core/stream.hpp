// A stream: commands in order, each done before the next begins. And the command that all work becomes.
//
// A stream does not run anything: the executor claims it, one thread at a time, and runs what is at its head.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

namespace aliquot::simgpu::driver {

class Context;
class Stream;
struct StreamCapture;

// "The work that `stream` had been given up to `sequence` is done."
struct Dependency {
  std::shared_ptr<Stream> stream;
  std::uint64_t sequence = 0;
};

enum class Outcome : std::uint8_t {
  Done,
  Detached, // another thread goes on with it and calls Executor::finish_detached
  Yielded,  // to be run again later
};

class Command {
 public:
  virtual ~Command() = default;
  virtual Outcome run(Stream& stream) noexcept = 0;
  // What happens in place of `run` once the context has failed: nothing may be left half recorded.
  virtual void skip() noexcept {}
  // Short enough to run on the thread that submits it.
  virtual bool light() const noexcept { return true; }

  std::vector<Dependency> waits_for;
};

class Stream : public std::enable_shared_from_this<Stream> {
 public:
  enum class Kind : std::uint8_t { Legacy, PerThread, Created };

  Stream(const std::shared_ptr<Context>& context, Kind kind, unsigned flags, int priority);

  Context& context() const noexcept { return context_; }
  std::shared_ptr<Context> shared_context() const noexcept;
  // This stream, kept alive with its context.
  std::shared_ptr<Stream> shared() noexcept;
  Kind kind() const noexcept { return kind_; }
  unsigned flags() const noexcept { return flags_; }
  int priority() const noexcept { return priority_; }
  std::uint64_t id() const noexcept { return id_; }
  // Takes part in the implicit order with the legacy default stream.
  bool blocking() const noexcept;

  std::uint64_t submitted() const noexcept { return submitted_.load(std::memory_order_acquire); }
  std::uint64_t completed() const noexcept { return completed_.load(std::memory_order_acquire); }
  bool idle() const noexcept { return completed() == submitted(); }

  void* handle = nullptr;
  std::atomic<bool> destroyed{false};
  // True while the stream takes part in a capture: then nothing is put on it. What is known of the capture is
  // graph/capture's, and guarded there.
  std::atomic<bool> capturing{false};
  std::shared_ptr<StreamCapture> capture;

 private:
  friend class Executor;
  enum class State : std::uint8_t { Idle, Ready, Running, Blocked };

  // Sleeps until `sequence` is done or a little time has passed.
  void doze(std::uint64_t sequence) noexcept;

  Context& context_;
  const std::shared_ptr<Context> kept_; // the context; null for its legacy stream, which is a part of it
  const Kind kind_;
  const unsigned flags_;
  const int priority_;
  const std::uint64_t id_;

  std::mutex mutex_; // guards what follows
  std::condition_variable progress_;
  std::deque<std::unique_ptr<Command>> queue_;
  std::vector<Dependency> waiters_;       // streams whose head waits for this one, and for how much of it
  std::atomic<State> state_{State::Idle}; // changed under the lock; the executor reads it without
  bool queued_ = false;                   // stands in the executor's ready queue
  std::atomic<bool> rotated_{false};      // made room for others: stands behind them, whatever its priority
  std::shared_ptr<Stream> next_ready_;    // guarded by the executor
  unsigned sleepers_ = 0;
  std::atomic<std::uint64_t> submitted_{0}, completed_{0};
};

} // namespace aliquot::simgpu::driver
