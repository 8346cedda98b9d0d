#include "native/simgpu/driver/device_runtime.hpp"

#include <string_view>

namespace aliquot::simgpu::driver {
namespace {

constexpr std::string_view kArchive = "!<arch>\n";                  // ar(5)
constexpr std::string_view kOfRuntime = "_cuda_device_runtime_cu_"; // in the name of its fat binary's wrapper

// The grid-wide barrier of cooperative groups, by the functions of libcudadevrt. A handle is the address of
// the grid's workspace, which %envreg1 and %envreg2 hold and which is 0 unless the launch is cooperative; its
// second word counts arrivals. Block 0 adds what turns the top bit over once all others have added 1. Weak,
// so that it may be linked twice, as an archive may.
constexpr const char* kGridBarrier = R"(.version 7.0
.target sm_60
.address_size 64

.weak .func (.param .b64 handle) cudaCGGetIntrinsicHandle(.param .b32 scope)
{
  .reg .b32 %r<3>;
  .reg .b64 %d<2>;
  mov.u32 %r1, %envreg1;
  mov.u32 %r2, %envreg2;
  mov.b64 %d1, {%r2, %r1};
  st.param.b64 [handle], %d1;
  ret;
}

.weak .func (.param .b32 error) cudaCGSynchronize(.param .b64 handle, .param .b32 flags)
{
  .reg .pred %p<4>;
  .reg .b32 %r<20>;
  .reg .b64 %d<2>;
  ld.param.u64 %d1, [handle];
  mov.u32 %r1, 1;
  setp.eq.u64 %p1, %d1, 0;
  @%p1 bra DONE;
  barrier.sync 0;
  mov.u32 %r2, %tid.x;
  mov.u32 %r3, %tid.y;
  mov.u32 %r4, %tid.z;
  or.b32 %r5, %r2, %r3;
  or.b32 %r5, %r5, %r4;
  setp.ne.u32 %p2, %r5, 0;
  @%p2 bra MEET;
  mov.u32 %r6, %ctaid.x;
  mov.u32 %r7, %ctaid.y;
  mov.u32 %r8, %ctaid.z;
  or.b32 %r9, %r6, %r7;
  or.b32 %r9, %r9, %r8;
  mov.u32 %r10, %nctaid.x;
  mov.u32 %r11, %nctaid.y;
  mov.u32 %r12, %nctaid.z;
  mul.lo.u32 %r13, %r10, %r11;
  mul.lo.u32 %r13, %r13, %r12;
  mov.u32 %r14, 0x80000001;
  sub.u32 %r14, %r14, %r13;
  setp.eq.u32 %p3, %r9, 0;
  selp.u32 %r15, %r14, 1, %p3;
  membar.gl;
  atom.add.u32 %r16, [%d1+4], %r15;
WAIT:
  ld.volatile.u32 %r17, [%d1+4];
  xor.b32 %r18, %r17, %r16;
  setp.ge.s32 %p3, %r18, 0;
  @%p3 bra WAIT;
  membar.gl;
MEET:
  barrier.sync 0;
  mov.u32 %r1, 0;
DONE:
  st.param.b32 [error], %r1;
  ret;
}
)";

} // namespace

bool is_device_runtime(const void* image, std::size_t bytes) noexcept {
  const std::string_view text(static_cast<const char*>(image), bytes);
  return text.starts_with(kArchive) && text.find(kOfRuntime) != std::string_view::npos;
}

std::string device_runtime_ptx() {
  return kGridBarrier;
}

} // namespace aliquot::simgpu::driver
