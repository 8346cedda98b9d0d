#include "native/limiter/arbiter/home.hpp"

#include <cstdio>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

namespace aliquot::limiter::arbiter {
namespace {

sockaddr_un status_address(int folder) noexcept {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", folder, Home::kStatus);
  return address;
}

int status_socket(int flags) noexcept {
  return ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
}

// As the slices' names are checked when they are made.
bool is_name(const char* name) noexcept {
  constexpr char kLetters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  const std::size_t length = std::strlen(name);
  return name[0] != '.' && length < layout::kNameBytes && std::strspn(name, kLetters) == length;
}

} // namespace

const char* Home::open(const std::string& path) {
  path_ = path;
  folder_.reset(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat status{};
  if (!folder_.valid() || ::fstat(folder(), &status) != 0)
    return "there is no such folder, or it is a link";
  if (status.st_uid != ::geteuid() || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return "it is not a folder that only this user can write to";
  return nullptr;
}

bool Home::lock() noexcept {
  if (!lock_.valid())
    lock_.reset(::openat(folder(), kLock, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  return lock_.valid() && ::flock(lock_.number(), LOCK_EX | LOCK_NB) == 0;
}

int Home::listen() noexcept {
  remove_status();
  const int listener = status_socket(SOCK_NONBLOCK);
  const sockaddr_un address = status_address(folder());
  const mode_t before = ::umask(0177);
  const bool bound = ::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
  ::umask(before);
  if (bound && ::listen(listener, 8) == 0)
    return listener;
  ::close(listener);
  return -1;
}

int Home::connect() const noexcept {
  const int connection = status_socket(0);
  const sockaddr_un address = status_address(folder());
  if (::connect(connection, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return connection;
  ::close(connection);
  return -1;
}

void Home::remove_status() noexcept {
  ::unlinkat(folder(), kStatus, 0);
}

int Home::watch() noexcept {
  const int watcher = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  constexpr std::uint32_t kChanges = IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_MOVED_FROM | IN_ONLYDIR;
  if (watcher < 0 || ::inotify_add_watch(watcher, path_.c_str(), kChanges) >= 0)
    return watcher;
  ::close(watcher);
  return -1;
}

std::vector<Home::Entry> Home::slices() const {
  std::vector<Entry> found;
  const int again = ::openat(folder(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* folder_stream = again < 0 ? nullptr : ::fdopendir(again);
  if (folder_stream == nullptr) {
    if (again >= 0)
      ::close(again);
    return found;
  }
  while (const dirent* entry = ::readdir(folder_stream)) {
    struct stat status{};
    if (is_name(entry->d_name) && ::fstatat(folder(), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISDIR(status.st_mode))
      found.push_back({entry->d_name, {status.st_dev, status.st_ino}});
  }
  ::closedir(folder_stream);
  return found;
}

} // namespace aliquot::limiter::arbiter
