// Stream memory operations: a stream writes a word, or waits for one that the host, a kernel or another
// process writes.
#include "native/simgpu/driver/stream_memory.hpp"

#include <atomic>
#include <utility>
#include <vector>

#include "native/simgpu/driver/core/host_memory.hpp"
#include "native/simgpu/driver/core/memory_gate.hpp"
#include "native/simgpu/driver/core/poller.hpp"
#include "native/simgpu/driver/entry.hpp"
#include "native/simgpu/driver/graph/memory_capture.hpp"

using namespace aliquot::simgpu;
using namespace aliquot::simgpu::driver;

namespace {

constexpr unsigned kMostOperations = 255; // cuStreamBatchMemOp: "must be less than 256"
constexpr unsigned kWaitConditions = 3;

struct Operation {
  CUstreamBatchMemOpType type = CU_STREAM_MEM_OP_BARRIER;
  std::uint64_t address = 0, value = 0;
  unsigned bytes = 0;    // of the word; 0: touches none
  unsigned selector = 0; // condition of a wait, CUstreamAtomicReductionOpType of a reduction
};

// Where the word lies in this process; null where it is not, or no longer, memory that the context may touch.
std::uint8_t* word_at(Context& context, std::uint64_t address, unsigned bytes) noexcept {
  const exec::Range range = context.memory().find(address);
  if (address < range.begin || address >= range.end || bytes > range.end - address)
    return nullptr;
  auto* at = reinterpret_cast<std::uint8_t*>(address + static_cast<std::uint64_t>(range.delta));
  // A program may free what it has registered, and forget to say so.
  const bool host = range.delta == 0;
  return host && !host_range_is_mapped(at, bytes) ? nullptr : at;
}

// body(Word*), with the word as an unsigned integer of its size.
template <class Body>
auto with_word(std::uint8_t* at, unsigned bytes, Body body) noexcept {
  return bytes == sizeof(std::uint32_t) ? body(reinterpret_cast<std::uint32_t*>(at))
                                        : body(reinterpret_cast<std::uint64_t*>(at));
}

template <class Word>
bool holds(Word seen, Word value, unsigned condition) noexcept {
  switch (condition) {
  case CU_STREAM_WAIT_VALUE_GEQ: // cyclic: a counter may wrap
    return static_cast<std::make_signed_t<Word>>(static_cast<Word>(seen - value)) >= 0;
  case CU_STREAM_WAIT_VALUE_EQ:
    return seen == value;
  case CU_STREAM_WAIT_VALUE_AND:
    return (seen & value) != 0;
  default:
    return static_cast<Word>(~(seen | value)) != 0;
  }
}

bool wait_is_over(const Operation& operation, std::uint8_t* at) noexcept {
  return with_word(at, operation.bytes, [&]<class Word>(Word* word) {
    return holds(__atomic_load_n(word, __ATOMIC_SEQ_CST), static_cast<Word>(operation.value),
                 operation.selector);
  });
}

void write_word(const Operation& operation, std::uint8_t* at) noexcept {
  with_word(at, operation.bytes, [&]<class Word>(Word* word) {
    __atomic_store_n(word, static_cast<Word>(operation.value), __ATOMIC_SEQ_CST);
  });
}

void reduce_word(const Operation& operation, std::uint8_t* at) noexcept {
  with_word(at, operation.bytes, [&]<class Word>(Word* word) {
    const auto value = static_cast<Word>(operation.value);
    if (operation.selector == CU_STREAM_ATOMIC_REDUCTION_OP_OR)
      __atomic_fetch_or(word, value, __ATOMIC_SEQ_CST);
    else if (operation.selector == CU_STREAM_ATOMIC_REDUCTION_OP_AND)
      __atomic_fetch_and(word, value, __ATOMIC_SEQ_CST);
    else
      __atomic_fetch_add(word, value, __ATOMIC_SEQ_CST);
  });
}

class MemoryOperationsCommand final : public Command {
 public:
  explicit MemoryOperationsCommand(std::vector<Operation> operations) : operations_(std::move(operations)) {}

  Outcome run(Stream& stream) noexcept override try {
    Context& context = stream.context();
    if (advance(context))
      return Outcome::Done;
    Poller::instance().watch(stream.shared(), [this, &context] {
      const InsideGate inside;
      return context.failed() || advance(context);
    });
    return Outcome::Detached;
  } catch (...) {
    return Outcome::Yielded; // no memory now; later
  }

 private:
  // Carries out what can be; false where a wait is not over.
  bool advance(Context& context) noexcept {
    for (; next_ < operations_.size(); ++next_)
      if (!perform(context, operations_[next_]))
        return false;
    return true;
  }

  bool perform(Context& context, const Operation& operation) noexcept {
    if (operation.bytes == 0) {
      std::atomic_thread_fence(std::memory_order_seq_cst);
      return true;
    }
    std::uint8_t* at = word_at(context, operation.address, operation.bytes);
    if (at == nullptr) {
      context.fail(CUDA_ERROR_ILLEGAL_ADDRESS); // freed since
      return true;
    }
    switch (operation.type) {
    case CU_STREAM_MEM_OP_WAIT_VALUE_32:
    case CU_STREAM_MEM_OP_WAIT_VALUE_64:
      return wait_is_over(operation, at);
    case CU_STREAM_MEM_OP_ATOMIC_REDUCTION:
      reduce_word(operation, at);
      break;
    default:
      write_word(operation, at);
      break;
    }
    Poller::instance().poke();
    return true;
  }

  const std::vector<Operation> operations_;
  std::size_t next_ = 0; // of whoever runs the command: a stream's thread, then the poller's
};

bool parse_wait(const CUstreamBatchMemOpParams& from, unsigned bytes, Operation& to) noexcept {
  constexpr unsigned known = kWaitConditions | CU_STREAM_WAIT_VALUE_FLUSH;
  const auto& wait = from.waitValue;
  to.address = wait.address;
  to.bytes = bytes;
  to.value = bytes == sizeof(std::uint32_t) ? wait.value : wait.value64;
  to.selector = wait.flags & kWaitConditions; // remote writes are visible at once: a flush changes nothing
  return (wait.flags & ~known) == 0;
}

bool parse_write(const CUstreamBatchMemOpParams& from, unsigned bytes, Operation& to) noexcept {
  const auto& write = from.writeValue;
  to.address = write.address;
  to.bytes = bytes;
  to.value = bytes == sizeof(std::uint32_t) ? write.value : write.value64;
  return (write.flags & ~unsigned{CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER}) == 0;
}

bool parse_reduction(const CUstreamBatchMemOpParams& from, Operation& to) noexcept {
  const auto& reduction = from.atomicReduction;
  to.address = reduction.address;
  to.value = reduction.value;
  to.selector = reduction.reductionOp;
  to.bytes = reduction.dataType == CU_STREAM_ATOMIC_REDUCTION_UNSIGNED_32 ? 4 : 8;
  const bool type_known = reduction.dataType == CU_STREAM_ATOMIC_REDUCTION_UNSIGNED_32 ||
                          reduction.dataType == CU_STREAM_ATOMIC_REDUCTION_UNSIGNED_64;
  const bool operation_known = reduction.reductionOp == CU_STREAM_ATOMIC_REDUCTION_OP_OR ||
                               reduction.reductionOp == CU_STREAM_ATOMIC_REDUCTION_OP_AND ||
                               reduction.reductionOp == CU_STREAM_ATOMIC_REDUCTION_OP_ADD;
  return type_known && operation_known && reduction.flags == 0;
}

bool parse(const CUstreamBatchMemOpParams& from, Operation& to) noexcept {
  to.type = from.operation;
  switch (from.operation) {
  case CU_STREAM_MEM_OP_WAIT_VALUE_32:
    return parse_wait(from, 4, to);
  case CU_STREAM_MEM_OP_WAIT_VALUE_64:
    return parse_wait(from, 8, to);
  case CU_STREAM_MEM_OP_WRITE_VALUE_32:
    return parse_write(from, 4, to);
  case CU_STREAM_MEM_OP_WRITE_VALUE_64:
    return parse_write(from, 8, to);
  case CU_STREAM_MEM_OP_FLUSH_REMOTE_WRITES:
    return from.flushRemoteWrites.flags == 0;
  case CU_STREAM_MEM_OP_BARRIER:
    return from.memoryBarrier.flags <= CU_STREAM_MEMORY_BARRIER_TYPE_GPU;
  case CU_STREAM_MEM_OP_ATOMIC_REDUCTION:
    return parse_reduction(from, to);
  default:
    return false;
  }
}

bool address_is_good(Context& context, const Operation& operation) {
  if (operation.bytes == 0)
    return true;
  if (operation.address % operation.bytes != 0)
    return false;
  const auto known = Driver::instance().allocations.find(operation.address);
  if (known && known->kind == MemoryKind::Managed)
    return false;
  return word_at(context, operation.address, operation.bytes) != nullptr;
}

enum class Version : std::uint8_t { One, Two };

// Barriers and reductions came with the second version.
bool version_has(Version version, CUstreamBatchMemOpType operation) noexcept {
  return version == Version::Two ||
         (operation != CU_STREAM_MEM_OP_BARRIER && operation != CU_STREAM_MEM_OP_ATOMIC_REDUCTION);
}

CUresult submit(CUstream handle, unsigned count, const CUstreamBatchMemOpParams* operations, unsigned flags,
                Version version) {
  return with_capturable_stream(handle, [&](Driver&, const StreamPtr& stream) {
    if (flags != 0 || count > kMostOperations || (operations == nullptr && count != 0))
      return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < count; ++i)
      if (!version_has(version, operations[i].operation))
        return CUDA_ERROR_INVALID_VALUE;
    std::unique_ptr<Command> command;
    const CUresult made = make_memory_operations(stream->context(), operations, count, command);
    if (made != CUDA_SUCCESS)
      return made;
    if (stream->capturing)
      return capture_memory_operations(*stream, operations, count);
    Executor::instance().submit(stream, std::move(command));
    Executor::instance().run_light(stream);
    return CUDA_SUCCESS;
  });
}

CUresult submit_wait(CUstream stream, CUstreamBatchMemOpType type, CUdeviceptr address, std::uint64_t value,
                     unsigned flags) {
  CUstreamBatchMemOpParams operation{};
  operation.waitValue.operation = type;
  operation.waitValue.address = address;
  operation.waitValue.value64 = value; // the low half is the 32-bit value
  operation.waitValue.flags = flags;
  return submit(stream, 1, &operation, 0, Version::Two);
}

CUresult submit_write(CUstream stream, CUstreamBatchMemOpType type, CUdeviceptr address, std::uint64_t value,
                      unsigned flags) {
  CUstreamBatchMemOpParams operation{};
  operation.writeValue.operation = type;
  operation.writeValue.address = address;
  operation.writeValue.value64 = value;
  operation.writeValue.flags = flags;
  return submit(stream, 1, &operation, 0, Version::Two);
}

} // namespace

namespace aliquot::simgpu::driver {

CUresult make_memory_operations(Context& context, const CUstreamBatchMemOpParams* operations, unsigned count,
                                std::unique_ptr<Command>& command) {
  std::vector<Operation> parsed(count);
  for (unsigned i = 0; i < count; ++i)
    if (!parse(operations[i], parsed[i]) || !address_is_good(context, parsed[i]))
      return CUDA_ERROR_INVALID_VALUE;
  command = std::make_unique<MemoryOperationsCommand>(std::move(parsed));
  return CUDA_SUCCESS;
}

} // namespace aliquot::simgpu::driver

extern "C" {

ALIQUOT_EXPORT CUresult cuStreamWaitValue32_v2(CUstream stream, CUdeviceptr address, cuuint32_t value,
                                               unsigned int flags) {
  return submit_wait(stream, CU_STREAM_MEM_OP_WAIT_VALUE_32, address, value, flags);
}
ALIQUOT_EXPORT CUresult cuStreamWaitValue32(CUstream stream, CUdeviceptr address, cuuint32_t value,
                                            unsigned int flags) {
  return submit_wait(stream, CU_STREAM_MEM_OP_WAIT_VALUE_32, address, value, flags);
}
ALIQUOT_EXPORT CUresult cuStreamWaitValue64_v2(CUstream stream, CUdeviceptr address, cuuint64_t value,
                                               unsigned int flags) {
  return submit_wait(stream, CU_STREAM_MEM_OP_WAIT_VALUE_64, address, value, flags);
}
ALIQUOT_EXPORT CUresult cuStreamWaitValue64(CUstream stream, CUdeviceptr address, cuuint64_t value,
                                            unsigned int flags) {
  return submit_wait(stream, CU_STREAM_MEM_OP_WAIT_VALUE_64, address, value, flags);
}

ALIQUOT_EXPORT CUresult cuStreamWriteValue32_v2(CUstream stream, CUdeviceptr address, cuuint32_t value,
                                                unsigned int flags) {
  return submit_write(stream, CU_STREAM_MEM_OP_WRITE_VALUE_32, address, value, flags);
}
ALIQUOT_EXPORT CUresult cuStreamWriteValue32(CUstream stream, CUdeviceptr address, cuuint32_t value,
                                             unsigned int flags) {
  return submit_write(stream, CU_STREAM_MEM_OP_WRITE_VALUE_32, address, value, flags);
}
ALIQUOT_EXPORT CUresult cuStreamWriteValue64_v2(CUstream stream, CUdeviceptr address, cuuint64_t value,
                                                unsigned int flags) {
  return submit_write(stream, CU_STREAM_MEM_OP_WRITE_VALUE_64, address, value, flags);
}
ALIQUOT_EXPORT CUresult cuStreamWriteValue64(CUstream stream, CUdeviceptr address, cuuint64_t value,
                                             unsigned int flags) {
  return submit_write(stream, CU_STREAM_MEM_OP_WRITE_VALUE_64, address, value, flags);
}

ALIQUOT_EXPORT CUresult cuStreamBatchMemOp_v2(CUstream stream, unsigned int count,
                                              CUstreamBatchMemOpParams* operations, unsigned int flags) {
  return submit(stream, count, operations, flags, Version::Two);
}
ALIQUOT_EXPORT CUresult cuStreamBatchMemOp(CUstream stream, unsigned int count,
                                           CUstreamBatchMemOpParams* operations, unsigned int flags) {
  return submit(stream, count, operations, flags, Version::One);
}

} // extern "C"
