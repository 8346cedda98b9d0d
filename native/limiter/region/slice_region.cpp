#include "native/limiter/region/slice_region.hpp"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <new>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace aliquot::limiter {
namespace {

constexpr char kMountedFolder[] = "/run/aliquot/slice";

// Maps the first `size` bytes of a regular file that has at least as many. A link is not followed.
void* map_file(int folder, const char* name, std::size_t size, bool writable, const char*& problem) noexcept {
  constexpr int kReading = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  constexpr int kWriting = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  const int descriptor = ::openat(folder, name, writable ? kWriting : kReading);
  if (descriptor < 0) {
    problem = errno == EACCES || errno == EPERM ? "this user may not use it" : "it is not there";
    return nullptr;
  }
  struct stat status{};
  void* mapping = MAP_FAILED;
  if (::fstat(descriptor, &status) != 0 || !S_ISREG(status.st_mode) ||
      status.st_size < static_cast<off_t>(size)) {
    problem = "it is damaged";
  } else {
    mapping = ::mmap(nullptr, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, descriptor, 0);
    if (mapping == MAP_FAILED)
      problem = "it cannot be mapped";
  }
  ::close(descriptor);
  return mapping == MAP_FAILED ? nullptr : mapping;
}

// A slice that somebody else could swap or change is not obeyed: its memory would be theirs to cut short.
// What an administrator mounts is as he wants it, whoever owns it in this user namespace.
bool may_be_obeyed(int folder, const char* path) noexcept {
  struct stat status{};
  if (std::strcmp(path, kMountedFolder) == 0)
    return true;
  const bool known = ::fstat(folder, &status) == 0 && (status.st_uid == 0 || status.st_uid == ::geteuid());
  return known && (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

template <typename File>
bool has_head(const File& file, const char* magic) noexcept {
  return std::memcmp(file.magic, magic, sizeof file.magic) == 0 && file.version == layout::kVersion &&
         file.size == sizeof(File);
}

void copy_path(char (&to)[layout::kPathBytes], const std::uint8_t (&from)[layout::kPathBytes]) noexcept {
  std::memcpy(to, from, sizeof to);
  to[sizeof to - 1] = '\0';
}

// A slice without a usable `grant` is held to its limits by each process for itself.
const layout::Grant* map_grant(int folder) noexcept {
  const char* unused = nullptr;
  void* mapping = map_file(folder, "grant", sizeof(layout::Grant), false, unused);
  auto* grant = static_cast<const layout::Grant*>(mapping);
  if (grant == nullptr || has_head(*grant, layout::kGrantMagic))
    return grant;
  ::munmap(mapping, sizeof(layout::Grant));
  return nullptr;
}

void unmap(void* limits, void* account) noexcept {
  if (limits != nullptr)
    ::munmap(limits, sizeof(layout::Limits));
  if (account != nullptr)
    ::munmap(account, sizeof(layout::Account));
}

void unmap_grant(const layout::Grant* grant) noexcept {
  if (grant != nullptr)
    ::munmap(const_cast<layout::Grant*>(grant), sizeof(layout::Grant));
}

} // namespace

SliceRegion* SliceRegion::open(const char* folder, Access access, const char*& problem) noexcept {
  const int descriptor = ::open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) {
    problem = "it is not there";
    return nullptr;
  }
  if (!may_be_obeyed(descriptor, folder)) {
    ::close(descriptor);
    problem = "it belongs to another user, or others may write to its folder";
    return nullptr;
  }
  const bool writes = access == Access::Account;
  void* limits = map_file(descriptor, "limits", sizeof(layout::Limits), false, problem);
  void* account =
      limits == nullptr ? nullptr : map_file(descriptor, "account", sizeof(layout::Account), writes, problem);
  const layout::Grant* grant = account == nullptr ? nullptr : map_grant(descriptor);
  ::close(descriptor);
  auto* region = new (std::nothrow) SliceRegion;
  if (region == nullptr) {
    unmap(limits, account);
    unmap_grant(grant);
    return nullptr;
  }
  region->grant_ = grant;
  std::snprintf(region->folder_, sizeof region->folder_, "%s", folder);
  region->limits_ = static_cast<const layout::Limits*>(limits);
  region->account_ = static_cast<layout::Account*>(account);
  if (limits == nullptr || account == nullptr) {
    close(region);
    return nullptr;
  }
  if (!has_head(*region->limits_, layout::kLimitsMagic) ||
      !has_head(*region->account_, layout::kAccountMagic)) {
    close(region);
    problem = "it was made by another version, or is damaged";
    return nullptr;
  }
  copy_path(region->driver_path_, region->limits_->driver_path);
  copy_path(region->nvml_path_, region->limits_->nvml_path);
  return region;
}

void SliceRegion::close(const SliceRegion* region) noexcept {
  if (region == nullptr)
    return;
  unmap(const_cast<layout::Limits*>(region->limits_), region->account_);
  unmap_grant(region->grant_);
  delete region;
}

bool SliceRegion::allows_unlisted() const noexcept {
  return (limits_->flags.load(std::memory_order_relaxed) & layout::kFlagAllowUnlisted) != 0;
}

const char* slice_folder() noexcept {
  if (::access(kMountedFolder, F_OK) == 0)
    return kMountedFolder;
  const char* named = std::getenv("ALIQUOT_SLICE");
  return named != nullptr && named[0] != '\0' ? named : nullptr;
}

} // namespace aliquot::limiter
