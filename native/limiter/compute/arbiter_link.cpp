#include "native/limiter/compute/arbiter_link.hpp"

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "aliquot/slice_layout.hpp"

namespace aliquot::limiter::compute {
namespace {

constexpr std::uint64_t kBetweenAttempts = 50'000'000; // ns
constexpr int kLowestDescriptor = 500; // out of the way of programs that count on small numbers

// A path in a socket's address is short; the folder's may be long.
bool connect_in(const char* folder, int socket) noexcept {
  const int held = ::open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (held < 0)
    return false;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", held, kSocketName);
  const bool done = ::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::close(held);
  return done;
}

int open_socket() noexcept {
  const int low = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (low < 0)
    return -1;
  const int high = ::fcntl(low, F_DUPFD_CLOEXEC, kLowestDescriptor);
  if (high < 0)
    return low;
  ::close(low);
  return high;
}

} // namespace

void ArbiterLink::connect(std::uint64_t now) noexcept {
  const std::lock_guard lock(mutex_);
  if (connected() || now - tried_at_ < kBetweenAttempts)
    return;
  tried_at_ = now;
  const int fresh = open_socket();
  struct stat status{};
  if (fresh < 0)
    return;
  if (!connect_in(folder_, fresh) || ::fstat(fresh, &status) != 0) {
    ::close(fresh);
    return;
  }
  socket_ = fresh;
  device_ = status.st_dev;
  inode_ = status.st_ino;
  if (!send_locked({MessageKind::Hello, 0, 0, layout::kVersion, 0}))
    return drop();
  generation_.fetch_add(1, std::memory_order_release);
  connected_.store(true, std::memory_order_release);
}

bool ArbiterLink::check() noexcept {
  const std::lock_guard lock(mutex_);
  if (!connected())
    return false;
  char byte = 0;
  const ssize_t got = is_ours() ? ::recv(socket_, &byte, 1, MSG_DONTWAIT | MSG_PEEK) : 0;
  if (got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR)))
    return true;
  drop();
  return false;
}

bool ArbiterLink::send(MessageKind kind, unsigned device, std::uint64_t turn, std::uint64_t value,
                       std::uint64_t worked) noexcept {
  const std::lock_guard lock(mutex_);
  return connected() && send_locked({kind, device, turn, value, worked});
}

bool ArbiterLink::send_locked(const Message& message) noexcept {
  if (!is_ours()) {
    drop();
    return false;
  }
  const ssize_t sent = ::send(socket_, &message, sizeof message, MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent == static_cast<ssize_t>(sizeof message))
    return true;
  if (errno != EAGAIN && errno != EINTR)
    drop();
  return false;
}

bool ArbiterLink::is_ours() const noexcept {
  struct stat status{};
  return socket_ >= 0 && ::fstat(socket_, &status) == 0 && status.st_dev == device_ &&
         status.st_ino == inode_;
}

void ArbiterLink::drop() noexcept {
  if (is_ours())
    ::close(socket_);
  socket_ = -1;
  connected_.store(false, std::memory_order_release);
}

void ArbiterLink::close_in_child() noexcept {
  drop(); // no other thread is there
}

} // namespace aliquot::limiter::compute
