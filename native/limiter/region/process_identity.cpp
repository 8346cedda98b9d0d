#include "native/limiter/region/process_identity.hpp"

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "aliquot/slice_layout.hpp"

namespace aliquot::limiter {
namespace {

constexpr std::uint64_t ones(unsigned bits) noexcept {
  return (std::uint64_t{1} << bits) - 1;
}
constexpr unsigned kNamespaceShift = layout::kOwnerPidBits;
constexpr unsigned kStartShift = kNamespaceShift + layout::kOwnerNamespaceBits;
constexpr unsigned kClaimingShift = kStartShift + layout::kOwnerStartBits;
static_assert(kClaimingShift == 63);

struct ProcessStat {
  char state = '?';
  std::uint64_t threads = 0;
  std::uint64_t start_ticks = 0;
};

// The `number`-th blank-separated field, the first being 0; null where there are fewer.
const char* field(const char* text, int number) noexcept {
  for (; number > 0; --number) {
    text = std::strchr(text, ' ');
    if (text == nullptr)
      return nullptr;
    ++text;
  }
  return text;
}

bool parse_stat(const char* text, ProcessStat& stat) noexcept {
  const char* behind_command = std::strrchr(text, ')'); // the command may hold brackets and blanks itself
  if (behind_command == nullptr || behind_command[1] != ' ')
    return false;
  const char* state = behind_command + 2;
  const char* threads = field(state, 17);
  const char* start = field(state, 19);
  if (start == nullptr)
    return false;
  stat.state = *state;
  stat.threads = std::strtoull(threads, nullptr, 10);
  stat.start_ticks = std::strtoull(start, nullptr, 10);
  return true;
}

// 1 read, 0 there is no such process, -1 cannot tell.
int read_stat(const char* path, ProcessStat& stat) noexcept {
  const int descriptor = ::open(path, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0)
    return errno == ENOENT || errno == ESRCH ? 0 : -1;
  char text[2048];
  const ssize_t length = ::read(descriptor, text, sizeof text - 1);
  const int error = errno;
  ::close(descriptor);
  if (length <= 0)
    return length < 0 && error == ESRCH ? 0 : -1;
  text[length] = '\0';
  return parse_stat(text, stat) ? 1 : -1;
}

} // namespace

ProcessIdentity identify_self() noexcept {
  ProcessIdentity self;
  self.pid = static_cast<std::uint32_t>(::getpid());
  ProcessStat stat;
  if (read_stat("/proc/self/stat", stat) == 1)
    self.start_ticks = stat.start_ticks;
  struct stat status{};
  if (::stat("/proc/self/ns/pid", &status) == 0)
    self.namespace_inode = status.st_ino;
  return self;
}

bool is_dead(std::uint32_t pid, std::uint64_t start_ticks) noexcept {
  if (::kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH)
    return true;
  char path[32];
  std::snprintf(path, sizeof path, "/proc/%u/stat", pid);
  ProcessStat stat;
  const int found = read_stat(path, stat);
  // No entry although the signal would have reached it: another user's process on a /proc that hides them.
  if (found <= 0)
    return false;
  const bool reused = start_ticks != 0 && (stat.start_ticks & ones(layout::kOwnerStartBits)) != start_ticks;
  // A leader that ended while its other threads go on looks like a zombie, too.
  const bool ended = (stat.state == 'Z' || stat.state == 'X') && stat.threads <= 1;
  return reused || ended;
}

std::uint64_t OwnerWord::pack() const noexcept {
  return (pid & ones(layout::kOwnerPidBits)) |
         (pid_namespace & ones(layout::kOwnerNamespaceBits)) << kNamespaceShift |
         (start_ticks & ones(layout::kOwnerStartBits)) << kStartShift |
         static_cast<std::uint64_t>(claiming) << kClaimingShift;
}

OwnerWord OwnerWord::unpack(std::uint64_t word) noexcept {
  OwnerWord owner;
  owner.pid = static_cast<std::uint32_t>(word & ones(layout::kOwnerPidBits));
  owner.pid_namespace =
      static_cast<std::uint32_t>(word >> kNamespaceShift & ones(layout::kOwnerNamespaceBits));
  owner.start_ticks = word >> kStartShift & ones(layout::kOwnerStartBits);
  owner.claiming = (word >> kClaimingShift) != 0;
  return owner;
}

} // namespace aliquot::limiter
