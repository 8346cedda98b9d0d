// Fuzzes the lowering: what the parser accepts is compiled or refused, and never run.
//
// Holds for every input: compiling gives a program or a reason; a module that compiles whole has no refusals
// in the functions that its kernels reach; listing the refusals of any module ends.
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "native/common/fuzz/fuzz.hpp"
#include "native/simgpu/exec/exec.hpp"
#include "native/simgpu/ptx/ast.hpp"

namespace {

namespace ptx = aliquot::simgpu::ptx;
namespace exec = aliquot::simgpu::exec;
using aliquot::fuzz::require;

ptx::ParseLimits limits() {
  ptx::ParseLimits result;
  result.initialiser_bytes = 1 << 20;
  return result;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ptx::Module module;
  ptx::ParseError error;
  if (!ptx::parse({reinterpret_cast<const char*>(data), size}, module, error, limits()))
    return 0;
  std::vector<std::uint64_t> addresses;
  for (std::size_t i = exec::globals_of(module).size(); i > 0; --i)
    addresses.push_back(0x700000000000 + i * 0x10000000);
  const exec::CompileResult result = exec::compile(module, addresses);
  require(result.program != nullptr || !result.message.empty(), "a module that is refused is told why");
  for (const std::string& refusal : exec::refusals(module))
    require(!refusal.empty(), "a refusal says what it is about");
  return 0;
}

std::vector<std::string_view> aliquot::fuzz::words() {
  return {"mma.sync.aligned.m16n8k16.row.col",
          ".f32",
          ".f16",
          ".s8",
          ".f64",
          ".b128",
          ".v4",
          "wmma.load.a.sync.aligned.row",
          "ldmatrix",
          "mbarrier.",
          "cp.async",
          ".bulk",
          ".shared",
          ".global",
          "vadd2.u32.u32.u32",
          ".h10",
          ".b7142",
          "{%r1}",
          "{",
          "}",
          "|%p1",
          "cvt.rn.satfinite.",
          "x2",
          ".relu",
          "atom",
          ".cas",
          "alloca",
          "[%x0]",
          "setp.lt.and.f16x2",
          "0x7FFF",
          ", ",
          ";\n",
          "@%p0 ",
          "-%r1",
          "!%p1"};
}

std::vector<std::string_view> aliquot::fuzz::seeds() {
  return {
      ".version 8.7\n.target sm_100a\n.address_size 64\n.visible .entry k(.param .u64 p)\n{\n"
      ".shared .align 16 .b8 data[64]; .reg .b32 %r<9>; .reg .b64 %x<9>; .reg .f32 %f<9>; .reg .pred %p<4>;\n"
      "ld.param.u64 %x0, [p]; mov.u32 %r0, data; mbarrier.init.shared.b64 [%r0], 32;\n"
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f0, %f1, %f2, %f3}, {%r1, %r2}, {%r3}, "
      "{%f4, %f5, %f6, %f7};\n"
      "@%p0 atom.global.add.noftz.f16x2 %r4, [%x0], %r5; vadd4.u32.s32.u32.sat %r6, %r7, %r8.b7142, %r1;\n"
      "ret;\n}\n"};
}
