#include "native/simgpu/machine/process_identity.hpp"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace aliquot::simgpu::machine {
namespace {

// Reads a small /proc file whole. Negative: -errno.
ssize_t read_small(const char* path, char* buffer, std::size_t size) noexcept {
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return -errno;
  ssize_t got = ::read(fd, buffer, size - 1);
  if (got < 0)
    got = -errno;
  ::close(fd);
  if (got >= 0)
    buffer[got] = '\0';
  return got;
}

std::uint64_t mix(std::uint64_t value) noexcept {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ULL;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebULL;
  return value ^ (value >> 31);
}

std::uint64_t read_namespace() noexcept {
  struct stat info;
  return ::stat("/proc/self/ns/pid", &info) == 0 ? mix(info.st_ino) & 0xff : 0;
}

std::uint64_t own_namespace() noexcept {
  static const std::uint64_t value = read_namespace();
  return value;
}

// Fields after the name, which is in parentheses and may hold anything: state is field 3.
void parse_stat(const char* text, ProcessFacts& facts) noexcept {
  const char* at = std::strrchr(text, ')');
  if (at == nullptr || at[1] != ' ')
    return;
  at += 2;
  facts.state = *at;
  for (int field = 3; *at != '\0'; ++field) {
    if (field == 22)
      facts.start_ticks = std::strtoull(at, nullptr, 10);
    if (field == 28)
      facts.image = std::strtoull(at, nullptr, 10);
    at = std::strchr(at, ' ');
    if (at == nullptr)
      return;
    ++at;
  }
}

} // namespace

bool read_process(pid_t pid, ProcessFacts& facts) noexcept {
  char path[32], text[1024];
  std::snprintf(path, sizeof path, "/proc/%d/stat", pid);
  facts = {};
  facts.pid = pid;
  const ssize_t got = read_small(path, text, sizeof text);
  if (got == -ENOENT || got == -ESRCH)
    return ::access("/proc/self/stat", R_OK) == 0 || ::kill(pid, 0) != 0; // no /proc: ask the kernel
  if (got < 0)
    return false;
  parse_stat(text, facts);
  return true;
}

std::uint64_t identity_of(const ProcessFacts& facts) noexcept {
  const auto pid = static_cast<std::uint64_t>(facts.pid) & 0x3fffff;
  const std::uint64_t image = mix(facts.image) & 0x3ff;
  return pid << 42 | own_namespace() << 34 | image << 24 | (facts.start_ticks & 0xffffff);
}

pid_t identity_pid(std::uint64_t identity) noexcept {
  return static_cast<pid_t>(identity >> 42);
}

Life life_of(std::uint64_t identity) noexcept {
  if ((identity >> 34 & 0xff) != own_namespace())
    return Life::Alive;
  ProcessFacts facts;
  if (!read_process(identity_pid(identity), facts))
    return Life::Alive;
  if (facts.state == 0 || facts.state == 'Z' || facts.state == 'X')
    return Life::Dead;
  const bool image_known = facts.image != 0;
  const std::uint64_t mask = image_known ? ~std::uint64_t{0} : ~(std::uint64_t{0x3ff} << 24);
  if ((identity_of(facts) & mask) != (identity & mask))
    return Life::Dead;
  return facts.state == 'T' || facts.state == 't' ? Life::Stopped : Life::Alive;
}

void read_command(pid_t pid, char (&command)[32]) noexcept {
  char path[32], text[64];
  std::snprintf(path, sizeof path, "/proc/%d/comm", pid);
  command[0] = '\0';
  const ssize_t got = read_small(path, text, sizeof text);
  if (got <= 0)
    return;
  const std::size_t length = std::min<std::size_t>(std::strcspn(text, "\n"), sizeof command - 1);
  std::memcpy(command, text, length);
  command[length] = '\0';
}

} // namespace aliquot::simgpu::machine
