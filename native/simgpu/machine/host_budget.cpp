#include "native/simgpu/machine/host_budget.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "native/common/log.hpp"

namespace aliquot::simgpu::machine {
namespace {

// What a machine that runs other programs too can spare.
constexpr std::uint64_t kSafePercent = 60;
constexpr std::uint64_t kNone = ~std::uint64_t{0};

bool read_text(const std::string& path, char* text, std::size_t size) noexcept {
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr)
    return false;
  const std::size_t got = std::fread(text, 1, size - 1, file);
  std::fclose(file);
  text[got] = '\0';
  return got != 0;
}

// "max" and the absurd numbers that stand for it in version 1 are no limit.
std::uint64_t read_number(const std::string& path) noexcept {
  char text[64];
  if (!read_text(path, text, sizeof text) || *text < '0' || *text > '9')
    return kNone;
  return std::strtoull(text, nullptr, 10);
}

std::uint64_t field_kib(const char* text, const char* name) noexcept {
  const char* at = std::strstr(text, name);
  return at != nullptr ? std::strtoull(at + std::strlen(name), nullptr, 10) * 1024 : 0;
}

// A line of memory.stat, in bytes.
std::uint64_t stat_field(const std::string& folder, const char* name) noexcept {
  char text[8192];
  if (!read_text(folder + "/memory.stat", text, sizeof text))
    return 0;
  const char* at = std::strstr(text, name);
  return at != nullptr ? std::strtoull(at + std::strlen(name), nullptr, 10) : 0;
}

struct CgroupFiles {
  const char* limit;
  const char* usage;
  const char* cache; // what the kernel gives back on its own
};
constexpr CgroupFiles kVersion1{"/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file "};
constexpr CgroupFiles kVersion2{"/memory.max", "/memory.current", "inactive_file "};

// Applies the limits of a cgroup and of those above it.
void apply_cgroup(HostMemory& memory, const std::string& mount, std::string path, const CgroupFiles& files) {
  for (;;) {
    const std::string folder = mount + (path == "/" ? "" : path);
    const std::uint64_t limit = read_number(folder + files.limit);
    if (limit < memory.total) {
      const std::uint64_t usage = read_number(folder + files.usage);
      const std::uint64_t kept = usage - std::min(usage, stat_field(folder, files.cache));
      memory.total = limit;
      memory.available = std::min(memory.available, limit - std::min(limit, kept));
    }
    const std::size_t slash = path.rfind('/');
    if (path.empty() || path == "/" || slash == std::string::npos)
      return;
    path.resize(slash);
  }
}

// /proc/self/cgroup: "0::/a/b" is version 2, "4:memory:/a/b" version 1. In a container the path may be of the
// outside; the mount then is the container's own group, which the walk up ends with.
void apply_cgroups(HostMemory& memory) {
  char text[4096];
  if (!read_text("/proc/self/cgroup", text, sizeof text))
    return;
  for (char* line = std::strtok(text, "\n"); line != nullptr; line = std::strtok(nullptr, "\n")) {
    const std::string entry = line;
    const std::size_t first = entry.find(':'), second = entry.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos)
      continue;
    const std::string controllers = "," + entry.substr(first + 1, second - first - 1) + ",";
    const std::string path = entry.substr(second + 1);
    if (controllers == ",,")
      apply_cgroup(memory, "/sys/fs/cgroup", path, kVersion2);
    else if (controllers.find(",memory,") != std::string::npos)
      apply_cgroup(memory, "/sys/fs/cgroup/memory", path, kVersion1);
  }
}

// As aliquot.model.quantities reads them: Ki, Mi, ... are powers of 1024, K, M, ... of 1000; a B changes
// nothing.
std::uint64_t unit_bytes(std::string_view unit) noexcept {
  constexpr std::string_view kPrefixes = "kmgtpe";
  if (!unit.empty() && (unit.back() | 0x20) == 'b')
    unit.remove_suffix(1);
  if (unit.empty())
    return 1;
  const std::size_t power = kPrefixes.find(static_cast<char>(unit[0] | 0x20));
  const bool binary = unit.size() == 2 && (unit[1] | 0x20) == 'i';
  if (power == std::string_view::npos || (unit.size() != 1 && !binary))
    return 0;
  std::uint64_t bytes = 1;
  for (std::size_t i = 0; i <= power; ++i)
    bytes *= binary ? 1024 : 1000;
  return bytes;
}

} // namespace

HostMemory read_host_memory() noexcept {
  HostMemory memory;
  char text[4096];
  if (!read_text("/proc/meminfo", text, sizeof text))
    return memory;
  memory.total = field_kib(text, "MemTotal:");
  memory.available = field_kib(text, "MemAvailable:");
  const HostMemory host = memory;
  try {
    apply_cgroups(memory);
  } catch (...) {
    return host; // no memory for a path: the host's figures stand
  }
  return memory;
}

bool parse_bytes(std::string_view text, std::uint64_t& bytes) noexcept {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc())
    return false;
  std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  while (!unit.empty() && unit.front() == ' ')
    unit.remove_prefix(1);
  const std::uint64_t scale = unit_bytes(unit);
  return scale != 0 && !__builtin_mul_overflow(number, scale, &bytes);
}

BudgetLimits budget_limits() noexcept {
  const std::uint64_t safe = read_host_memory().total / 100 * kSafePercent;
  BudgetLimits limits{safe, safe};
  const char* set = std::getenv("ALIQUOT_SIMGPU_HOST_BYTES");
  if (set == nullptr || *set == '\0')
    return limits;
  if (!parse_bytes(set, limits.home)) {
    common::log_line(common::LogLevel::Warning,
                     "ALIQUOT_SIMGPU_HOST_BYTES=%s is not a size such as 8GiB; using %llu MiB", set,
                     static_cast<unsigned long long>(safe >> 20));
    limits.home = safe;
  }
  limits.user = std::max(limits.user, limits.home);
  return limits;
}

} // namespace aliquot::simgpu::machine
