#include "native/simgpu/exec/handlers.hpp"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <cstdlib>
#include <unordered_map>

#include "native/simgpu/exec/exec.hpp"

namespace aliquot::simgpu::exec {

namespace isa_common {
extern const EntryLists kAsyncEntries, kMatrixEntries, kSmallEntries, kVideoEntries;
}
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
// What processor and operating system both support. Asked of the processor itself: the compiler's run-time
// answers (__builtin_cpu_supports) are all "no" with some of the compilers that build this.
struct Processor {
  bool avx2 = false, avx512 = false;

  Processor() {
    unsigned a = 0, b = 0, c1 = 0, b7 = 0, c81 = 0, d = 0, unused = 0;
    if (!__get_cpuid(1, &a, &b, &c1, &d) || !__get_cpuid_count(7, 0, &a, &b7, &unused, &d) ||
        !__get_cpuid(0x80000001u, &a, &b, &c81, &d))
      return;
    constexpr unsigned os_saves = 1u << 27, avx = 1u << 28, fma = 1u << 12, f16c = 1u << 29;
    constexpr unsigned bmi1 = 1u << 3, avx2_bit = 1u << 5, bmi2 = 1u << 8, lzcnt = 1u << 5;
    constexpr unsigned f = 1u << 16, dq = 1u << 17, cd = 1u << 28, bw = 1u << 30, vl = 1u << 31;
    auto has = [](unsigned word, unsigned bits) { return (word & bits) == bits; };
    if (!has(c1, os_saves | avx | fma | f16c))
      return;
    unsigned low = 0, high = 0;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    avx2 = has(low, 0x6) && has(b7, bmi1 | avx2_bit | bmi2) && has(c81, lzcnt);
    avx512 = avx2 && has(low, 0xE6) && has(b7, f | dq | cd | bw | vl);
  }
};
#endif

const IsaTable& choose() {
#if defined(__x86_64__)
  const Processor processor;
  const char* asked = std::getenv("ALIQUOT_SIMGPU_ISA");
  std::string_view wish = asked ? asked : "avx512";
  if (wish != "baseline") {
    if (wish != "avx2" && processor.avx512)
      return isa_avx512::kTable;
    if (processor.avx2)
      return isa_avx2::kTable;
  }
#endif
  return isa_baseline::kTable;
}

std::unordered_map<std::string_view, const Entry*> index(const IsaTable& table) {
  std::unordered_map<std::string_view, const Entry*> map;
  auto add = [&](const EntryLists& file) {
    for (std::size_t list = 0; list < file.count; ++list)
      for (std::size_t i = 0; i < file.lists[list].count; ++i)
        map.emplace(file.lists[list].entries[i].name, &file.lists[list].entries[i]);
  };
  for (const EntryLists* file : table.files)
    add(*file);
  for (const EntryLists* file : {&isa_common::kAsyncEntries, &isa_common::kMatrixEntries,
                                 &isa_common::kSmallEntries, &isa_common::kVideoEntries})
    add(*file);
  return map;
}

} // namespace

const IsaTable& isa_table() noexcept {
  static const IsaTable& table = choose();
  return table;
}

std::string_view isa() noexcept {
  return isa_table().name;
}

const Entry* find_entry(std::string_view name) {
  static const std::unordered_map<std::string_view, const Entry*> map = index(isa_table());
  auto found = map.find(name);
  return found == map.end() ? nullptr : found->second;
}

} // namespace aliquot::simgpu::exec
