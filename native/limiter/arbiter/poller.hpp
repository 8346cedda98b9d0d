// Descriptors that are waited for, and who answers when they are ready.
#pragma once

#include <cstdint>

namespace aliquot::limiter::arbiter {

class Descriptor {
 public:
  explicit Descriptor(int number = -1) noexcept : number_(number) {}
  ~Descriptor() { reset(); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  int number() const noexcept { return number_; }
  bool valid() const noexcept { return number_ >= 0; }
  void reset(int number = -1) noexcept;

 private:
  int number_;
};

// Something with a descriptor that can be read or has been hung up on.
class Source {
 public:
  Source() = default;
  virtual ~Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  virtual void ready(std::uint32_t events) = 0;
};

class Poller {
 public:
  Poller();
  bool valid() const noexcept { return epoll_.valid(); }
  bool add(int descriptor, Source& source) noexcept;
  // What is muted is reported only when it is hung up on.
  void mute(int descriptor, Source& source) noexcept { change(descriptor, source, false); }
  void unmute(int descriptor, Source& source) noexcept { change(descriptor, source, true); }
  void remove(int descriptor) noexcept;
  // Waits until something is there and lets it answer, each source at most once. A source may be removed and
  // destroyed by another one's answer only through `retire` of its owner, after this returns.
  void wait();

 private:
  void change(int descriptor, Source& source, bool heard) noexcept;
  Descriptor epoll_;
};

} // namespace aliquot::limiter::arbiter
