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

bool is_uid(const std::string& name) noexcept {
  return name.size() <= 10 && name.find_first_not_of("0123456789") == std::string::npos;
}

bool only_we_write(int folder) noexcept {
  struct stat status{};
  return ::fstat(folder, &status) == 0 && status.st_uid == ::geteuid() &&
         (status.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

// The folders in a folder, links left out.
std::vector<Home::Entry> folders_in(int folder) {
  std::vector<Home::Entry> found;
  const int again = ::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* stream = again < 0 ? nullptr : ::fdopendir(again);
  if (stream == nullptr) {
    if (again >= 0)
      ::close(again);
    return found;
  }
  while (const dirent* entry = ::readdir(stream)) {
    struct stat status{};
    if (is_name(entry->d_name) && ::fstatat(folder, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISDIR(status.st_mode))
      found.push_back({entry->d_name, {status.st_dev, status.st_ino}});
  }
  ::closedir(stream);
  return found;
}

} // namespace

const char* Home::open(const std::string& path, Kind kind) {
  kind_ = kind;
  folder_.reset(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder_.valid())
    return "there is no such folder, or it is a link";
  return only_we_write(folder()) ? nullptr : "it is not a folder that only this user can write to";
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
  watcher_ = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  watch_folder(folder());
  return watcher_;
}

// By its descriptor: the path may lead elsewhere by now. One that is not watched is looked at now and then.
void Home::watch_folder(int folder) noexcept {
  constexpr std::uint32_t kChanges = IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_MOVED_FROM | IN_ONLYDIR;
  char path[32];
  std::snprintf(path, sizeof path, "/proc/self/fd/%d", folder);
  if (watcher_ >= 0)
    ::inotify_add_watch(watcher_, path, kChanges); // again for one that is watched: nothing changes
}

std::vector<Home::Entry> Home::slices() {
  return kind_ == Kind::People ? slices_of_people() : folders_in(folder());
}

std::vector<Home::Entry> Home::slices_of_people() {
  std::vector<Entry> found;
  for (const Entry& person : folders_in(folder())) {
    const Descriptor theirs(
        ::openat(folder(), person.name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
    if (!is_uid(person.name) || !theirs.valid() || !only_we_write(theirs.number()))
      continue;
    watch_folder(theirs.number()); // before the look, so that nothing is missed between
    for (Entry& slice : folders_in(theirs.number())) {
      slice.name.insert(0, person.name + "/");
      found.push_back(std::move(slice));
    }
  }
  return found;
}

} // namespace aliquot::limiter::arbiter
