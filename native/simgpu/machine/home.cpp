#include "native/simgpu/machine/home.hpp"

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <sys/stat.h>
#include <unistd.h>

namespace aliquot::simgpu::machine {
namespace {

bool refuse(std::string& message, const std::string& home, const char* why) {
  message = "the simulated GPU's folder " + home + " cannot be used: " + why +
            " (ALIQUOT_SIMGPU_HOME names another one)";
  return false;
}

// mkdir -p; every folder that is made is this user's alone.
bool make_folders(const std::string& path) {
  for (std::size_t at = 1; at != std::string::npos;) {
    at = path.find('/', at + 1);
    if (::mkdir(path.substr(0, at).c_str(), 0700) != 0 && errno != EEXIST)
      return false;
  }
  return true;
}

// Where the group of a folder has all that its owner has, and others nothing.
bool is_shared(const struct stat& folder) noexcept {
  return S_ISDIR(folder.st_mode) && (folder.st_mode & 07777) == (S_ISGID | 0770);
}

bool is_in_group(gid_t group) noexcept {
  return ::geteuid() == 0 || ::getegid() == group || ::group_member(group) != 0;
}

// Why the folder cannot be trusted; null where it can.
const char* problem_of(const struct stat& folder) noexcept {
  if (!S_ISDIR(folder.st_mode))
    return "it is not a folder";
  const bool ours = folder.st_uid == ::geteuid();
  if (is_shared(folder) && (ours || folder.st_uid == 0))
    return is_in_group(folder.st_gid) ? nullptr : "it is shared by a group that this user is not in";
  if (!ours)
    return "it belongs to another user";
  return (folder.st_mode & (S_IWGRP | S_IWOTH)) != 0 ? "others can write to it" : nullptr;
}

} // namespace

std::string home_path() {
  const char* set = std::getenv("ALIQUOT_SIMGPU_HOME");
  if (set != nullptr && *set != '\0')
    return set;
  return "/dev/shm/aliquot-simgpu-" + std::to_string(::geteuid());
}

bool prepare_home(const std::string& home, std::string& message) {
  if (home.size() + 64 > PATH_MAX)
    return refuse(message, home, "its path is too long");
  struct stat info;
  if (::lstat(home.c_str(), &info) != 0) {
    if (errno != ENOENT)
      return refuse(message, home, std::strerror(errno));
    if (!make_folders(home))
      return refuse(message, home, std::strerror(errno));
    if (::lstat(home.c_str(), &info) != 0)
      return refuse(message, home, std::strerror(errno));
  }
  if (S_ISLNK(info.st_mode)) {
    if (info.st_uid != ::geteuid())
      return refuse(message, home, "it is another user's link");
    if (::stat(home.c_str(), &info) != 0)
      return refuse(message, home, std::strerror(errno));
  }
  const char* problem = problem_of(info);
  return problem == nullptr || refuse(message, home, problem);
}

bool is_trusted(const std::string& home, const struct stat& file) noexcept {
  if (file.st_uid == ::geteuid())
    return true;
  struct stat folder;
  return ::stat(home.c_str(), &folder) == 0 && is_shared(folder) && file.st_gid == folder.st_gid &&
         (file.st_mode & S_IWOTH) == 0;
}

bool share_file(const std::string& home, int fd) noexcept {
  struct stat folder;
  if (::stat(home.c_str(), &folder) != 0 || !is_shared(folder))
    return true;
  return ::fchmod(fd, 0660) == 0; // the group is the folder's, by its set-group-id bit
}

std::string real_path(const std::string& path) {
  char* resolved = ::realpath(path.c_str(), nullptr);
  const std::string result = resolved != nullptr ? resolved : path;
  std::free(resolved);
  return result;
}

unsigned long long stable_hash(const std::string& text, unsigned long long seed) noexcept {
  unsigned long long hash = 14695981039346656037ULL ^ seed * 0x9e3779b97f4a7c15ULL; // FNV-1a
  for (const unsigned char c : text)
    hash = (hash ^ c) * 1099511628211ULL;
  hash = (hash ^ (hash >> 32)) * 0xd6e8feb86659fd93ULL; // spread the last characters over all bits
  return hash ^ (hash >> 32);
}

} // namespace aliquot::simgpu::machine
