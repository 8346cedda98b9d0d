#include "native/simgpu/exec/handlers.hpp"

#include <cstdlib>
#include <unordered_map>

#include "native/simgpu/exec/exec.hpp"

namespace aliquot::simgpu::exec {

namespace isa_baseline {
extern const IsaTable kTable;
}
#if defined(__x86_64__)
namespace isa_avx2 {
extern const IsaTable kTable;
}
namespace isa_avx512 {
extern const IsaTable kTable;
}
#endif

namespace {

#if defined(__x86_64__)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
         __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("lzcnt");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#endif

const IsaTable& choose() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const char* asked = std::getenv("ALIQUOT_SIMGPU_ISA");
  std::string_view wish = asked ? asked : "avx512";
  if (wish != "baseline") {
    if (wish != "avx2" && has_avx512())
      return isa_avx512::kTable;
    if (has_avx2())
      return isa_avx2::kTable;
  }
#endif
  return isa_baseline::kTable;
}

std::unordered_map<std::string_view, const Entry*> index(const IsaTable& table) {
  std::unordered_map<std::string_view, const Entry*> map;
  for (const EntryLists* file : table.files)
    for (std::size_t list = 0; list < file->count; ++list)
      for (std::size_t i = 0; i < file->lists[list].count; ++i)
        map.emplace(file->lists[list].entries[i].name, &file->lists[list].entries[i]);
  return map;
}

}  // namespace

const IsaTable& isa_table() noexcept {
  static const IsaTable& table = choose();
  return table;
}

std::string_view isa() noexcept { return isa_table().name; }

const Entry* find_entry(std::string_view name) {
  static const std::unordered_map<std::string_view, const Entry*> map = index(isa_table());
  auto found = map.find(name);
  return found == map.end() ? nullptr : found->second;
}

}  // namespace aliquot::simgpu::exec
