// Watches what nobody announces: words that the host, a kernel or another process writes.
//
// A command that waits for such a word returns Detached and leaves the rest to the poller, so that it holds
// neither a worker nor its caller. One thread looks at all of them: every 50 us at first, ever more seldom
// (down to a millisecond) as a wait grows old, and not at all while there is none. Writers inside of this
// process poke it. Knows nothing of what the conditions mean.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

namespace aliquot::simgpu::driver {

class Stream;

class Poller {
 public:
  static Poller& instance() noexcept;

  // Calls `over` until it returns true, then ends the command of `stream` that returned Detached. May throw
  // std::bad_alloc; then nothing is watched.
  void watch(std::shared_ptr<Stream> stream, std::function<bool()> over);
  // Something was written: look now. Costs a load where nothing is watched.
  void poke() noexcept;

 private:
  struct Watched {
    std::shared_ptr<Stream> stream;
    std::function<bool()> over;
    std::uint64_t since_ns = 0;
  };
  void loop() noexcept;
  void look() noexcept;
  std::uint64_t pause_ns() const noexcept;

  std::atomic<std::size_t> count_{0};
  std::vector<Watched> watched_; // the thread's own

  std::mutex mutex_; // guards what follows
  std::condition_variable wake_;
  std::vector<Watched> arrived_;
  bool poked_ = false, started_ = false;
};

} // namespace aliquot::simgpu::driver
