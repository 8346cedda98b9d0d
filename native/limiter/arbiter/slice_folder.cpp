#include "native/limiter/arbiter/slice_folder.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "native/limiter/compute/message.hpp"

namespace aliquot::limiter::arbiter {
namespace {

constexpr int kBacklog = 128;
constexpr mode_t kOthersWrite = S_IWGRP | S_IWOTH;

bool is_ours(const struct stat& status) noexcept {
  return status.st_uid == ::geteuid() && (status.st_mode & kOthersWrite) == 0;
}

// The owner keeps `grant` without write permission, against accidents; it is taken for the opening only.
int open_writable(int folder, const char* name) noexcept {
  constexpr int kWriting = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  const int direct = ::openat(folder, name, kWriting);
  if (direct >= 0 || errno != EACCES)
    return direct;
  const int reading = ::openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  struct stat status{};
  int writing = -1;
  if (reading >= 0 && ::fstat(reading, &status) == 0 && S_ISREG(status.st_mode) && is_ours(status) &&
      ::fchmod(reading, 0644) == 0) {
    writing = ::openat(folder, name, kWriting);
    ::fchmod(reading, status.st_mode & 07777);
  }
  if (reading >= 0)
    ::close(reading);
  return writing;
}

template <typename File>
File* map_file(int folder, const char* name, const char* magic, bool writable,
               const char*& problem) noexcept {
  const int descriptor = writable ? open_writable(folder, name)
                                  : ::openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (descriptor < 0) {
    problem = errno == ENOENT ? "it lacks a file" : "a file of it cannot be opened";
    return nullptr;
  }
  struct stat status{};
  const bool good = ::fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && is_ours(status) &&
                    status.st_nlink <= 1 && status.st_size == static_cast<off_t>(sizeof(File));
  void* mapping = MAP_FAILED;
  if (good)
    mapping = ::mmap(nullptr, sizeof(File), writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
                     descriptor, 0);
  ::close(descriptor);
  if (mapping == MAP_FAILED) {
    problem = good ? "a file of it cannot be mapped" : "a file of it is not this user's own, or damaged";
    return nullptr;
  }
  auto* file = static_cast<File*>(mapping);
  if (std::memcmp(file->magic, magic, sizeof file->magic) == 0 && file->version == layout::kVersion &&
      file->size == sizeof(File))
    return file;
  ::munmap(mapping, sizeof(File));
  problem = "it was made by another version, or is damaged";
  return nullptr;
}

// A socket's address is short, so the folder is named by its descriptor.
bool address_in(int folder, sockaddr_un& address) noexcept {
  address = {};
  address.sun_family = AF_UNIX;
  const int length = std::snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", folder,
                                   compute::kSocketName);
  return length > 0 && length < static_cast<int>(sizeof address.sun_path);
}

} // namespace

std::unique_ptr<SliceFolder> SliceFolder::open(int home, const std::string& name, const char*& problem) {
  std::unique_ptr<SliceFolder> slice(new SliceFolder);
  slice->name_ = name;
  slice->folder_ = ::openat(home, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  struct stat status{};
  if (slice->folder_ < 0 || ::fstat(slice->folder_, &status) != 0) {
    problem = "it cannot be opened";
    return nullptr;
  }
  slice->identity_ = {status.st_dev, status.st_ino};
  if (!is_ours(status)) {
    problem = "others may write to its folder";
    return nullptr;
  }
  return slice->map(problem) ? std::move(slice) : nullptr;
}

bool SliceFolder::map(const char*& problem) noexcept {
  struct stat status{};
  if (::fstatat(folder_, "account", &status, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(status.st_mode)) {
    problem = "it lacks an account";
    return false;
  }
  tenant_ = status.st_uid;
  limits_ = map_file<const layout::Limits>(folder_, "limits", layout::kLimitsMagic, false, problem);
  if (limits_ == nullptr)
    return false;
  device_count_ = std::min(limits_->device_count, layout::kMaxDevices);
  grant_ = map_file<layout::Grant>(folder_, "grant", layout::kGrantMagic, true, problem);
  return grant_ != nullptr;
}

SliceFolder::~SliceFolder() {
  if (limits_ != nullptr)
    ::munmap(const_cast<layout::Limits*>(limits_), sizeof *limits_);
  if (grant_ != nullptr)
    ::munmap(grant_, sizeof *grant_);
  if (folder_ >= 0)
    ::close(folder_);
}

bool SliceFolder::removed() const noexcept {
  struct stat status{};
  return ::fstat(folder_, &status) != 0 || status.st_nlink == 0;
}

std::string SliceFolder::card(unsigned device) const {
  const layout::DeviceLimit& limit = limits_->devices[device];
  if (limit.known_by != layout::kKnownByUuid)
    return std::to_string(limit.physical_index);
  std::string text = "GPU-";
  for (unsigned i = 0; i < sizeof limit.uuid; ++i) {
    char digits[4];
    std::snprintf(digits, sizeof digits, "%02x", limit.uuid[i]);
    text += i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "";
    text += digits;
  }
  return text;
}

Terms SliceFolder::terms(unsigned device) const noexcept {
  const layout::DeviceLimit& limit = limits_->devices[device];
  const layout::QosLevel& level = limits_->qos;
  Terms terms;
  terms.request_ppm = std::min(limit.compute_request_ppm.load(), kWholeCard);
  terms.ceiling_ppm = std::min(limit.compute_limit_ppm.load(), kWholeCard);
  terms.rank = level.rank.load();
  terms.preempts = level.preempts.load() == 1;
  terms.neighbour_in_flight_ns = level.neighbour_in_flight_ns.load();
  terms.idle_window_ns = level.idle_window_ns.load();
  return terms;
}

bool SliceFolder::may_connect(uid_t user) const noexcept {
  return user == tenant_ || user == ::geteuid() || user == 0;
}

int SliceFolder::listen() noexcept {
  sockaddr_un address{};
  remove_socket(); // of an arbiter that died
  const int listener = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listener < 0 || !address_in(folder_, address))
    return listener;
  const mode_t before = ::umask(0177);
  const bool bound = ::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::umask(before);
  const bool given =
      tenant_ == ::geteuid() || (bound && ::fchownat(folder_, compute::kSocketName, tenant_,
                                                     static_cast<gid_t>(-1), AT_SYMLINK_NOFOLLOW) == 0);
  if (bound && given && ::listen(listener, kBacklog) == 0)
    return listener;
  ::close(listener);
  return -1;
}

void SliceFolder::remove_socket() noexcept {
  ::unlinkat(folder_, compute::kSocketName, 0);
}

} // namespace aliquot::limiter::arbiter
