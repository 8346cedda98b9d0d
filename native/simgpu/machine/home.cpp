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
  if (!S_ISDIR(info.st_mode))
    return refuse(message, home, "it is not a folder");
  if (info.st_uid != ::geteuid())
    return refuse(message, home, "it belongs to another user");
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return refuse(message, home, "others can write to it");
  return true;
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
