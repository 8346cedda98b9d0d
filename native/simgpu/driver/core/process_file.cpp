#include "native/simgpu/driver/core/process_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace aliquot::simgpu::driver {
namespace {

bool is_file(const struct stat& facts, const ProcessFile& name) noexcept {
  return S_ISREG(facts.st_mode) && facts.st_ino == name.inode;
}

} // namespace

ProcessFile name_of(const BackingFile& file) noexcept {
  struct stat facts{};
  if (fstat(file.fd(), &facts) != 0)
    return {};
  return {static_cast<std::uint32_t>(getpid()), static_cast<std::uint32_t>(file.fd()), facts.st_ino};
}

std::shared_ptr<BackingFile> open_file(const ProcessFile& name) noexcept {
  const int saved = errno;
  char path[48];
  std::snprintf(path, sizeof path, "/proc/%u/fd/%u", name.pid, name.fd);
  std::shared_ptr<BackingFile> file;
  struct stat facts{};
  // Looked at before it is opened: to open a pipe or a device can have effects.
  if (stat(path, &facts) == 0 && is_file(facts, name))
    if (const int fd = open(path, O_RDWR | O_CLOEXEC); fd >= 0) {
      if (fstat(fd, &facts) == 0 && is_file(facts, name))
        file = BackingFile::adopt(fd);
      close(fd);
    }
  errno = saved;
  return file;
}

} // namespace aliquot::simgpu::driver
