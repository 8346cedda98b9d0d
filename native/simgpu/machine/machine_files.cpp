#include "native/simgpu/machine/machine_files.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <string_view>
#include <unistd.h>

#include "native/simgpu/machine/home.hpp"
#include "native/simgpu/machine/region.hpp"
#include "native/simgpu/machine/slots.hpp"

namespace aliquot::simgpu::machine {
namespace {

constexpr std::string_view kPrefix = "machine-";
constexpr std::size_t kNameLength = kPrefix.size() + 16;

std::vector<std::string> names_with_prefix(const std::string& home) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(home.c_str()), &::closedir);
  while (folder != nullptr) {
    const dirent* entry = ::readdir(folder.get());
    if (entry == nullptr)
      break;
    if (std::string_view(entry->d_name).starts_with(kPrefix))
      names.emplace_back(entry->d_name);
  }
  return names;
}

// The setting that a region says it was made for. Empty if it cannot be read.
std::string stored_setting(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (fd < 0)
    return {};
  Header header;
  const bool whole = ::pread(fd, &header, sizeof header, 0) == static_cast<ssize_t>(sizeof header);
  ::close(fd);
  if (!whole)
    return {};
  header.setting[sizeof header.setting - 1] = '\0';
  return header.setting;
}

} // namespace

std::string machine_path(const std::string& home, const std::string& setting) {
  char name[32];
  std::snprintf(name, sizeof name, "/machine-%016llx", stable_hash(setting));
  return home + name;
}

std::vector<std::string> machine_files(const std::string& home) {
  std::vector<std::string> paths;
  for (const std::string& name : names_with_prefix(home))
    if (name.size() == kNameLength)
      paths.push_back(home + "/" + name);
  return paths;
}

unsigned live_processes(const std::string& path) {
  std::string message;
  const Mapping mapping =
      open_region(path, {kMachineMagic, sizeof(MachineRegion)}, stored_setting(path), false, message);
  if (!mapping)
    return 0;
  const SlotTable& slots = mapping.as<MachineRegion>()->slots;
  unsigned count = 0;
  for (std::uint32_t slot = 0; slot < slot_count(slots); ++slot) {
    const std::uint64_t identity = slots.identity[slot].load();
    if (identity != 0 && life_of(identity) != Life::Dead)
      ++count;
  }
  return count;
}

bool remove_machine_files(const std::string& home, std::string& message) {
  for (const std::string& name : names_with_prefix(home)) {
    const std::string path = home + "/" + name;
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
      message = "cannot remove " + path + ": " + std::strerror(errno);
      return false;
    }
  }
  return true;
}

} // namespace aliquot::simgpu::machine
