#include "native/simgpu/driver/core/poller.hpp"

#include <sys/prctl.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <new>

#include "native/simgpu/driver/core/event.hpp"
#include "native/simgpu/driver/core/executor.hpp"
#include "native/simgpu/driver/core/threads.hpp"

namespace aliquot::simgpu::driver {
namespace {

constexpr std::uint64_t kShortestPauseNs = 50'000, kLongestPauseNs = 1'000'000;
// A wait is looked at about this often in the time that it has lasted.
constexpr std::uint64_t kLooks = 16;

} // namespace

Poller& Poller::instance() noexcept {
  alignas(Poller) static std::byte storage[sizeof(Poller)];
  static auto* poller = new (storage) Poller; // never destroyed: its thread may be inside at exit
  return *poller;
}

void Poller::watch(std::shared_ptr<Stream> stream, std::function<bool()> over) {
  const std::lock_guard guard(mutex_);
  if (!started_) {
    if (!start_thread("polling", [this] { loop(); }))
      throw std::bad_alloc();
    started_ = true;
  }
  arrived_.push_back({std::move(stream), std::move(over), now_ns()});
  count_.fetch_add(1, std::memory_order_seq_cst);
  wake_.notify_one();
}

void Poller::poke() noexcept {
  if (count_.load(std::memory_order_seq_cst) == 0)
    return;
  const std::lock_guard guard(mutex_);
  poked_ = true;
  wake_.notify_one();
}

void Poller::loop() noexcept {
  name_this_thread("aliquot-poller");
  prctl(PR_SET_TIMERSLACK, 1000UL, 0, 0, 0);
  while (!Executor::instance().shutting_down()) {
    {
      std::unique_lock lock(mutex_);
      const auto woken = [this] { return poked_ || !arrived_.empty(); };
      if (watched_.empty())
        wake_.wait(lock, woken);
      else
        wake_.wait_for(lock, std::chrono::nanoseconds(pause_ns()), woken);
      poked_ = false;
      try {
        watched_.reserve(watched_.size() + arrived_.size());
        std::move(arrived_.begin(), arrived_.end(), std::back_inserter(watched_));
        arrived_.clear();
      } catch (...) { // no memory now: they wait for the next round
      }
    }
    look();
  }
}

void Poller::look() noexcept {
  for (std::size_t i = 0; i < watched_.size();) {
    if (!watched_[i].over()) {
      ++i;
      continue;
    }
    const std::shared_ptr<Stream> stream = std::move(watched_[i].stream);
    watched_[i] = std::move(watched_.back());
    watched_.pop_back();
    count_.fetch_sub(1, std::memory_order_relaxed);
    Executor::instance().finish_detached(stream);
  }
}

std::uint64_t Poller::pause_ns() const noexcept {
  std::uint64_t youngest = 0;
  for (const Watched& each : watched_)
    youngest = std::max(youngest, each.since_ns);
  return std::clamp((now_ns() - youngest) / kLooks, kShortestPauseNs, kLongestPauseNs);
}

} // namespace aliquot::simgpu::driver
