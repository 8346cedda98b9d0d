// What decoded code and a running warp look like: plain data shared by the instruction handlers, which are
// compiled once per vector instruction set, and the rest of the interpreter, which is compiled once.
//
// Only plain structs and declarations may live here. An inline function with external linkage, or a template
// of the standard library, would be compiled with AVX-512 in one of the handler files, and the linker may
// keep that copy for everybody: a crash on machines without it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace aliquot::simgpu::exec {

class Memory;
struct Op;
struct Context;
struct Warp;
struct BlockState;

// Handlers end in a tail call to the next one where the compiler can promise it; elsewhere they store where
// to go on and a loop calls the next one (`ALIQUOT_TAIL_CALLS` 0).
#define ALIQUOT_TAIL_CALLS 0
#define ALIQUOT_HANDLER_ABI
#if defined(__clang__)
#if __has_cpp_attribute(clang::musttail) && !__has_feature(address_sanitizer)
#undef ALIQUOT_TAIL_CALLS
#define ALIQUOT_TAIL_CALLS 1
#if __has_attribute(preserve_none) && (defined(__x86_64__) || defined(__aarch64__))
#undef ALIQUOT_HANDLER_ABI
#define ALIQUOT_HANDLER_ABI __attribute__((preserve_none))
#endif
#endif
#endif

// `rows` is the frame of the running function: every register is a row of 32 lanes at a byte offset from it.
typedef ALIQUOT_HANDLER_ABI void (*Handler)(const Op* op, char* rows, Context* context, std::uint32_t mask);

inline constexpr std::uint32_t kFullMask = 0xFFFFFFFFu;
inline constexpr unsigned kOperands = 8;

// One decoded operation, one cache line. `r` holds byte offsets of rows: results first, then sources.
struct alignas(64) Op {
  Handler run[2]; // [0] all 32 lanes active, [1] some
  union {
    std::uint64_t imm;
    std::int64_t offset; // displacement of a memory access
    const Op* target;    // of a branch
    const void* pointer; // CallSite of a call
  };
  std::uint32_t r[kOperands];
  std::uint32_t extra; // memory: site; control: PTX instructions since the last control operation
  std::uint32_t line;  // of the PTX text
};
static_assert(sizeof(Op) == 64);

// A handler as the lowering sees it. `shape`: results '=' sources, one letter an operand:
// p predicate, h 16-bit, w 32-bit, x 64-bit, q 128-bit, W words of a parameter (see lower_calls.cpp).
struct Entry {
  const char* name;
  const char* shape;
  Handler run[2];
};

struct EntryList {
  const Entry* entries;
  std::size_t count;
};

struct EntryLists {
  const EntryList* lists;
  std::size_t count;
};

// What the handler files offer, compiled for one instruction set.
inline constexpr std::size_t kHandlerFiles = 5;
struct IsaTable {
  const char* name;
  const EntryLists* files[kHandlerFiles];
  void (*enter)(Context* context); // runs handlers from context->op until one leaves
};

// The last range that a load or store site met.
struct Site {
  std::uint64_t begin, bytes; // device addresses; bytes 0: nothing cached
  std::int64_t delta;         // host = device + delta
};

enum class Leave : std::uint8_t {
  None,
  Finished, // every lane of the warp has exited
  Blocked,  // no group of the warp can run before a barrier opens or a sleep ends
  Budget,   // the step budget is used up; the current group is saved in the warp
  Fault,
};

// State of the host thread's running warp. Handlers read and write it; it lives as long as a Grid::run call.
struct Context {
  // Where to go on after a control transfer that a runtime function decided. op == nullptr: leave the
  // handlers.
  const Op* op;
  char* rows;
  std::uint32_t mask;
  Leave leave;

  std::uintptr_t reconverge; // address of the op at which the next waiting group waits in this frame, or max
  std::uint64_t steps;       // PTX instructions of warps
  std::uint64_t step_limit;  // at which backward branches call budget()
  std::uint64_t idle_lanes;  // lanes that were masked out of them
  Site* sites;

  char* shared;
  std::uint64_t shared_bytes;
  char* local;
  std::uint64_t local_bytes;
  const char* parameters;
  std::uint64_t parameter_bytes;

  bool forced_sync; // the next warp-wide operation runs with the lanes that are there
  bool spins;       // an atomic or volatile access since the last budget: may be a spin loop
  const Memory* memory;
  Warp* warp;
  BlockState* block;
};

// Functions of the interpreter that handlers call off their fast paths.
namespace runtime {

// Host pointers of each active lane's access of `bytes` at `addresses[lane]` (device or generic). Refills the
// site's cache. False after raising a fault.
bool resolve(Context* context, const Op* op, const std::uint64_t* addresses, std::uint32_t mask,
             std::uint32_t bytes, bool write, char** pointers);
// Makes `site` cover `address` where one range does. False where nothing (readable or writable) lies there
// linearly; resolve() then decides lane by lane.
bool refill(Context* context, Site* site, std::uint64_t address, bool write);

enum class Why : std::uint8_t { Illegal, Misaligned, Trap, InvalidPc, StackOverflow, Space, Assert };
// Stops the launch. `lanes`: who did it; the first one is reported.
void raise(Context* context, const Op* op, Why why, std::uint32_t lanes, std::uint64_t address);

// Control transfers: they leave the next state in context->{op, rows, mask}.
void diverge(Context* context, const Op* taken, const Op* fallen, char* rows, std::uint32_t mask,
             std::uint32_t taken_mask);
void transfer(Context* context, const Op* to, char* rows, std::uint32_t mask);
void budget(Context* context, const Op* to, char* rows, std::uint32_t mask);
void call(Context* context, const Op* op, char* rows, std::uint32_t mask);
void call_indirect(Context* context, const Op* op, char* rows, std::uint32_t mask);
void ret(Context* context, char* rows, std::uint32_t mask);
void exit_lanes(Context* context, char* rows, std::uint32_t mask);
// Waits until the lanes of `members` that still live have come here too.
bool warp_sync(Context* context, const Op* op, char* rows, std::uint32_t mask, std::uint32_t members);
// Block barrier. kind: 0 sync, 1 arrive, 2 red.popc, 3 red.and, 4 red.or
void barrier(Context* context, const Op* op, char* rows, std::uint32_t mask, std::uint32_t id,
             std::uint32_t threads, unsigned kind, std::uint32_t predicate);
std::uint32_t barrier_result(Context* context, std::uint32_t id);
void sleep(Context* context, const Op* to, char* rows, std::uint32_t mask, std::uint64_t nanoseconds);
// Before a timer is read: lanes that do nothing else but read it sleep a little first.
void rest(Context* context, const Op* to, char* rows, std::uint32_t mask);
// Lets other lanes, warps and blocks go on before `to`: what was waited for has not come yet.
void yield(Context* context, const Op* to, char* rows, std::uint32_t mask);
// The bytes from `address` on that lie in one piece, at most `most`, and where; null where none is mapped.
char* stretch(Context* context, std::uint64_t address, bool write, std::uint64_t most, std::uint64_t* bytes);

// Values of a special register for the 32 lanes of the running warp (64-bit each).
void special(Context* context, char* rows, std::uint32_t which, std::uint64_t* values);
// Device runtime functions that compilers call: vprintf, __assertfail.
void system_call(Context* context, const Op* op, char* rows, std::uint32_t mask);

} // namespace runtime
} // namespace aliquot::simgpu::exec
