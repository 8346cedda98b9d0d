// The socket to the arbiter: connecting, sending, noticing that it is gone.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <sys/types.h>

#include "native/limiter/compute/message.hpp"

namespace aliquot::limiter::compute {

class ArbiterLink {
 public:
  explicit ArbiterLink(const char* folder) noexcept : folder_(folder) {}

  // Connects where there is a socket and it was not tried within the last moments.
  void connect(std::uint64_t now) noexcept;
  // False where nobody listens any more; a later connect() tries again.
  bool check() noexcept;
  bool connected() const noexcept { return connected_.load(std::memory_order_acquire); }
  // Grows with each connection: what was said on an older one is to be said again.
  std::uint32_t generation() const noexcept { return generation_.load(std::memory_order_acquire); }

  // True where it was sent.
  bool send(MessageKind kind, unsigned device, std::uint64_t turn, std::uint64_t value,
            std::uint64_t worked = 0) noexcept;

  // In a forked child: its copy of the socket would keep its parent's connection alive.
  void close_in_child() noexcept;

 private:
  bool is_ours() const noexcept;
  void drop() noexcept;
  bool send_locked(const Message& message) noexcept;

  const char* folder_;
  std::mutex mutex_;
  std::atomic<bool> connected_{false};
  std::atomic<std::uint32_t> generation_{0};
  std::uint64_t tried_at_ = 0;
  int socket_ = -1;
  // A program may close descriptors that are not its own, and be given their numbers for others.
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

} // namespace aliquot::limiter::compute
