#include "native/common/process_status.hpp"

#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace aliquot::common {
namespace {

// Reads a small file whole. Negative: -errno.
ssize_t read_small(const char* path, char* buffer, std::size_t size) noexcept {
  const int descriptor = ::open(path, O_RDONLY | O_CLOEXEC);
  if (descriptor < 0)
    return -errno;
  ssize_t got = ::read(descriptor, buffer, size - 1);
  if (got < 0)
    got = -errno;
  ::close(descriptor);
  if (got >= 0)
    buffer[got] = '\0';
  return got;
}

// Begins behind the name, which is in parentheses and may hold anything. False where a field is missing.
bool parse_status(const char* text, ProcessStatus& status) noexcept {
  const char* at = std::strrchr(text, ')');
  if (at == nullptr || at[1] != ' ')
    return false;
  at += 2;
  status.state = *at;
  for (int field = 3; field < 28; ++field) {
    at = std::strchr(at, ' ');
    if (at == nullptr)
      return false;
    ++at;
    if (field + 1 == 20)
      status.threads = std::strtoull(at, nullptr, 10);
    if (field + 1 == 22)
      status.start_ticks = std::strtoull(at, nullptr, 10);
    if (field + 1 == 28)
      status.stack_start = std::strtoull(at, nullptr, 10);
  }
  return true;
}

// No entry in /proc: surely gone only where a signal would not reach it either. On a /proc that hides other
// users' processes, or where there is none, the kernel is asked.
bool is_gone(pid_t pid) noexcept {
  return ::kill(pid, 0) != 0 && errno == ESRCH;
}

} // namespace

bool read_process_status(pid_t pid, ProcessStatus& status) noexcept {
  char path[32], text[1024];
  std::snprintf(path, sizeof path, "/proc/%d/stat", pid);
  status = {.pid = pid};
  const ssize_t got = read_small(path, text, sizeof text);
  if (got > 0 && parse_status(text, status))
    return true;
  status = {.pid = pid};
  return (got == -ENOENT || got == -ESRCH) && is_gone(pid);
}

std::uint64_t pid_namespace_inode() noexcept {
  struct stat info;
  return ::stat("/proc/self/ns/pid", &info) == 0 ? info.st_ino : 0;
}

void read_command_name(pid_t pid, char (&name)[32]) noexcept {
  char path[32];
  std::snprintf(path, sizeof path, "/proc/%d/comm", pid);
  if (read_small(path, name, sizeof name) < 0)
    name[0] = '\0';
  name[std::strcspn(name, "\n")] = '\0';
}

} // namespace aliquot::common
