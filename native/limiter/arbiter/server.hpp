// The arbiter of one home: finds its slices, serves them, and ends when there has been none for a while.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <string>
#include <utility>

#include "native/limiter/arbiter/home.hpp"
#include "native/limiter/arbiter/served_slice.hpp"

namespace aliquot::limiter::arbiter {

class Server {
 public:
  Server(Home& home, std::uint64_t linger_ns, std::uint64_t descriptors);
  bool start(); // false with a line on stderr
  void run();   // until a signal comes, or nobody has needed it for `linger`

 private:
  // Calls a function when its descriptor can be read.
  class Listener final : public Source {
   public:
    Listener(int descriptor, std::function<void()> answer)
        : descriptor_(descriptor), answer_(std::move(answer)) {}
    void ready(std::uint32_t) override { answer_(); }
    Descriptor& descriptor() noexcept { return descriptor_; }

   private:
    Descriptor descriptor_;
    std::function<void()> answer_;
  };

  bool listen_to(int descriptor, std::function<void()> answer, const char* what);
  void drain_timer();
  void drain_watch();
  void answer_status();
  void arm();
  void tick(std::uint64_t now);
  void scan(std::uint64_t now);
  void adopt(const Home::Entry& entry, std::uint64_t now);
  void let_go(const std::vector<Home::Entry>& there);
  bool has(FileIdentity identity) const noexcept;
  bool nobody_needs_it(std::uint64_t now);
  void say_good_bye();

  Home& home_;
  std::uint64_t linger_ns_;
  Poller poller_;
  Cards cards_;
  Crowd crowd_;
  std::list<ServedSlice> slices_;
  std::list<Listener> listeners_;
  std::vector<std::pair<FileIdentity, std::string>> refused_; // and why: said once
  int timer_ = -1;
  int watch_ = -1;
  int signals_ = -1;
  int status_ = -1;
  bool ended_ = false;
  bool changed_ = true; // slices may have come or gone
  std::uint64_t began_ = 0;
  std::uint64_t armed_ = 0;
  std::uint64_t next_tick_ = 0;
  std::uint64_t next_scan_ = 0;
  std::uint64_t needed_at_ = 0; // when there was last a slice
};

} // namespace aliquot::limiter::arbiter
