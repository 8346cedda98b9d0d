#include "native/simgpu/driver/core/backing_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

#ifndef MFD_CLOEXEC // newer than the headers of the oldest C library that we build for (linux/memfd.h)
#define MFD_CLOEXEC 0x0001U
#define MFD_ALLOW_SEALING 0x0002U
#endif
#ifndef F_ADD_SEALS // linux/fcntl.h
#define F_ADD_SEALS 1033
#define F_GET_SEALS 1034
#define F_SEAL_SEAL 0x0001
#define F_SEAL_SHRINK 0x0002
#define F_SEAL_GROW 0x0004
#endif
#ifndef FALLOC_FL_KEEP_SIZE // linux/falloc.h
#define FALLOC_FL_KEEP_SIZE 0x01
#define FALLOC_FL_PUNCH_HOLE 0x02
#endif

namespace aliquot::simgpu::driver {
namespace {

constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

// Descriptors below this one are what shells and daemons take to be free or standard.
constexpr int kLowestDescriptor = 64;

// Out of the way of programs that count on small numbers; as it is where there are no larger ones.
int moved_up(int fd) noexcept {
  const int high = fcntl(fd, F_DUPFD_CLOEXEC, kLowestDescriptor);
  if (high < 0)
    return fd;
  close(fd);
  return high;
}

std::uint8_t* show(const FileView& view, std::uint64_t bytes, int protection) noexcept {
  void* const at = mmap(nullptr, bytes, protection, MAP_SHARED | MAP_NORESERVE, view.file->fd(),
                        static_cast<off_t>(view.offset));
  return at == MAP_FAILED ? nullptr : static_cast<std::uint8_t*>(at);
}

std::shared_ptr<BackingFile> owner_of(int fd, std::uint64_t bytes) noexcept try {
  return std::make_shared<BackingFile>(fd, bytes);
} catch (...) { // no memory: the file goes, and the caller is told
  close(fd);
  return nullptr;
}

} // namespace

std::shared_ptr<BackingFile> BackingFile::make(std::uint64_t bytes) noexcept {
  const int saved = errno;
  int fd = static_cast<int>(syscall(SYS_memfd_create, "aliquot-vram", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (fd >= 0)
    fd = moved_up(fd);
  std::shared_ptr<BackingFile> made;
  if (fd >= 0 && ftruncate(fd, static_cast<off_t>(bytes)) == 0 && fcntl(fd, F_ADD_SEALS, kSeals) == 0)
    made = owner_of(fd, bytes);
  else if (fd >= 0)
    close(fd);
  errno = saved;
  return made;
}

std::shared_ptr<BackingFile> BackingFile::adopt(int fd) noexcept {
  const int saved = errno;
  struct stat facts{};
  const int seals = fcntl(fd, F_GET_SEALS);
  std::shared_ptr<BackingFile> adopted;
  if (seals >= 0 && (seals & F_SEAL_SHRINK) != 0 && fstat(fd, &facts) == 0 && facts.st_size > 0)
    if (const int own = fcntl(fd, F_DUPFD_CLOEXEC, kLowestDescriptor); own >= 0)
      adopted = owner_of(own, static_cast<std::uint64_t>(facts.st_size));
  errno = saved;
  return adopted;
}

void copy_touched(std::uint8_t* to, const std::uint8_t* from, std::uint64_t bytes) noexcept {
  constexpr std::size_t page = 4096;
  static constexpr std::array<std::uint8_t, page> zeros{};
  for (std::uint64_t at = 0; at < bytes; at += page)
    if (std::memcmp(from + at, zeros.data(), page) != 0)
      std::memcpy(to + at, from + at, page);
}

bool copy_file(const FileView& from, const FileView& to, std::uint64_t bytes) noexcept {
  std::uint8_t* const source = show(from, bytes, PROT_READ);
  std::uint8_t* const target = show(to, bytes, PROT_READ | PROT_WRITE);
  if (source != nullptr && target != nullptr)
    copy_touched(target, source, bytes);
  if (source != nullptr)
    munmap(source, bytes);
  if (target != nullptr)
    munmap(target, bytes);
  return source != nullptr && target != nullptr;
}

BackingFile::~BackingFile() {
  close(fd_);
}

void BackingFile::discard(std::uint64_t offset, std::uint64_t bytes) noexcept {
  const int saved = errno;
  fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(offset),
            static_cast<off_t>(bytes));
  errno = saved;
}

} // namespace aliquot::simgpu::driver
