#include "native/simgpu/driver/core/shared_handle.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

#include "native/simgpu/driver/core/threads.hpp"

namespace aliquot::simgpu::driver {
namespace {

constexpr std::uint64_t kMagic = 0x3152414853514c41; // "ALQSHAR1"

struct Message {
  std::uint64_t magic = kMagic;
  SharedHeader header;
};

// errno belongs to the program that called us.
class KeepErrno {
 public:
  KeepErrno() noexcept : saved_(errno) {}
  ~KeepErrno() { errno = saved_; }
  KeepErrno(const KeepErrno&) = delete;
  KeepErrno& operator=(const KeepErrno&) = delete;

 private:
  const int saved_;
};

// Ancillary data with room for one descriptor (unix(7)).
union DescriptorBuffer {
  cmsghdr header;
  char bytes[CMSG_SPACE(sizeof(int))];
};

bool send_file(int socket, const Message& message, int file) noexcept {
  iovec part{const_cast<Message*>(&message), sizeof message};
  DescriptorBuffer ancillary{};
  msghdr head{};
  head.msg_iov = &part;
  head.msg_iovlen = 1;
  head.msg_control = &ancillary;
  head.msg_controllen = sizeof ancillary;
  cmsghdr* const control = CMSG_FIRSTHDR(&head);
  control->cmsg_level = SOL_SOCKET;
  control->cmsg_type = SCM_RIGHTS;
  control->cmsg_len = CMSG_LEN(sizeof file);
  std::memcpy(CMSG_DATA(control), &file, sizeof file);
  return sendmsg(socket, &head, MSG_NOSIGNAL) == sizeof message;
}

// The descriptor in the message at the head of the queue, which stays there; -1 where there is none.
int peek_file(int socket, Message& message) noexcept {
  iovec part{&message, sizeof message};
  DescriptorBuffer ancillary{};
  msghdr head{};
  head.msg_iov = &part;
  head.msg_iovlen = 1;
  head.msg_control = &ancillary;
  head.msg_controllen = sizeof ancillary;
  const ssize_t got = recvmsg(socket, &head, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  int file = -1;
  if (const cmsghdr* control = got < 0 ? nullptr : CMSG_FIRSTHDR(&head);
      control != nullptr && control->cmsg_level == SOL_SOCKET && control->cmsg_type == SCM_RIGHTS &&
      control->cmsg_len == CMSG_LEN(sizeof file))
    std::memcpy(&file, CMSG_DATA(control), sizeof file);
  if (got == sizeof message && message.magic == kMagic)
    return file;
  if (file >= 0)
    close(file);
  return -1;
}

// Waits for the ends of what was exported to be closed everywhere.
class ExportWatch {
 public:
  static ExportWatch& instance() noexcept {
    alignas(ExportWatch) static std::byte storage[sizeof(ExportWatch)];
    static auto* watch = new (storage) ExportWatch; // never destroyed: its thread runs until the process ends
    return *watch;
  }

  // Takes the descriptor.
  bool add(int socket, std::shared_ptr<void> keep) {
    const std::lock_guard guard(mutex_);
    if (wake_ < 0)
      wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_ < 0 || (!started_ && !start_thread("exports", [this] { loop(); })))
      return false;
    started_ = true;
    exports_.push_back({socket, std::move(keep)});
    eventfd_write(wake_, 1);
    return true;
  }

 private:
  struct Export {
    int socket;
    std::shared_ptr<void> keep;
  };

  void loop() noexcept {
    name_this_thread("aliquot-exports");
    std::vector<pollfd> polled;
    for (;;) {
      try {
        polled = watched();
      } catch (...) { // no memory: the list of the last time is good enough
      }
      poll(polled.data(), polled.size(), -1);
      eventfd_t count = 0;
      eventfd_read(wake_, &count);
      end_closed(polled);
    }
  }

  std::vector<pollfd> watched() {
    const std::lock_guard guard(mutex_);
    std::vector<pollfd> polled;
    polled.reserve(exports_.size() + 1);
    polled.push_back({wake_, POLLIN, 0});
    for (const Export& each : exports_)
      polled.push_back({each.socket, 0, 0});
    return polled;
  }

  void end_closed(const std::vector<pollfd>& polled) noexcept {
    for (std::size_t i = 1; i < polled.size(); ++i)
      if ((polled[i].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0)
        end(polled[i].fd);
  }

  void end(int socket) noexcept {
    std::shared_ptr<void> keep; // given up without the lock
    const std::lock_guard guard(mutex_);
    for (auto at = exports_.begin(); at != exports_.end(); ++at)
      if (at->socket == socket) {
        keep = std::move(at->keep);
        exports_.erase(at);
        break;
      }
    close(socket);
  }

  std::mutex mutex_; // guards the rest
  std::vector<Export> exports_;
  int wake_ = -1;
  bool started_ = false;
};

} // namespace

int export_shared(const SharedHeader& header, const BackingFile& file, std::shared_ptr<void> keep) {
  const KeepErrno errno_is_kept;
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return -1;
  Message message;
  message.header = header;
  bool watched = false;
  try {
    watched = send_file(ends[0], message, file.fd()) && ExportWatch::instance().add(ends[0], std::move(keep));
  } catch (const std::bad_alloc&) { // reported as the rest is
  }
  if (watched)
    return ends[1];
  close(ends[0]);
  close(ends[1]);
  return -1;
}

SharedImport import_shared(int fd, SharedKind kind) {
  const KeepErrno errno_is_kept;
  Message message;
  SharedImport found;
  const int file = peek_file(fd, message);
  if (file < 0)
    return found;
  if (message.header.kind == kind)
    found.file = BackingFile::adopt(file);
  close(file);
  if (!found.file || message.header.bytes == 0 || message.header.bytes > found.file->bytes())
    return {};
  const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (own < 0)
    return {};
  found.hold = std::shared_ptr<void>(nullptr, [own](void*) { close(own); });
  found.header = message.header;
  return found;
}

} // namespace aliquot::simgpu::driver
