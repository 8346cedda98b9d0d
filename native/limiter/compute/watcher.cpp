#include "native/limiter/compute/watcher.hpp"

#include <algorithm>
#include <csignal>
#include <pthread.h>
#include <sys/prctl.h>

#include "native/limiter/compute/futex.hpp"
#include "native/limiter/compute/gate.hpp"

namespace aliquot::limiter::compute {

class Watcher {
 public:
  explicit Watcher(Gate& gate) noexcept : gate_(gate) {}

  void run() noexcept {
    std::uint64_t tick = now_ns();
    while (!gate_.stopped()) {
      const std::uint64_t now = now_ns();
      if (now >= tick) {
        gate_.look_around(now);
        gate_.fold();
        tick = now + kTick;
      }
      std::uint64_t next = tick;
      const unsigned words = look(now, next);
      if (const std::uint64_t later = now_ns(); next > later)
        wait_while_all(watched_, words, next - later);
    }
  }

 private:
  static constexpr std::uint64_t kTick = 90'000'000; // ns: figures and changed limits show within 100 ms

  // The words are read before the look, so that a change during it ends the sleep at once. Where nothing is
  // owed to the arbiter a turn matters to nobody here, and the bell tells of the first work.
  unsigned look(std::uint64_t now, std::uint64_t& next) noexcept {
    unsigned words = 0;
    watched_[words++] = {&gate_.bell(), gate_.bell().load(std::memory_order_acquire)};
    for (unsigned index = 0; index < gate_.limiter().region().device_count(); ++index) {
      DeviceGate& device = gate_.device(index);
      if (!device.used())
        continue;
      const Watched turn{&device.grant().turn, device.grant().turn.load(std::memory_order_acquire)};
      next = std::min(next, device.watch(now));
      if (device.owes())
        watched_[words++] = turn;
    }
    return words;
  }

  Gate& gate_;
  Watched watched_[layout::kMaxDevices + 1] = {};
};

namespace {

constexpr std::size_t kStack = std::size_t{256} << 10u; // a driver is called on it

void* watch(void* gate) noexcept {
  ::prctl(PR_SET_NAME, "aliquot-watch", 0, 0, 0);
  ::prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  Watcher(*static_cast<Gate*>(gate)).run();
  return nullptr;
}

} // namespace

// Signals are the program's own threads' to handle.
void start_watcher(Gate& gate) noexcept {
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kStack);
  pthread_t thread{};
  pthread_create(&thread, &attributes, watch, &gate);
  pthread_attr_destroy(&attributes);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

} // namespace aliquot::limiter::compute
