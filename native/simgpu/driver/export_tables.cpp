// cuGetExportTable: the tables of functions that libcudart asks for beside the API.
//
// They are not documented by the vendor. What each slot is was observed with unmodified libcudart 12 and 13
// and is described by public projects that stand in for the driver; a slot that none of them calls is a
// function that returns CUDA_ERROR_NOT_SUPPORTED, so that a call of it is an error and not a crash. Tables
// begin with their size in bytes, but for context-local storage.
#include <cstring>

#include "native/simgpu/driver/core/code.hpp"
#include "native/simgpu/driver/entry.hpp"
#include "native/simgpu/driver/integrity.hpp"
#include "native/simgpu/driver/primary_context.hpp"

using namespace aliquot::simgpu;
using namespace aliquot::simgpu::driver;

namespace {

using Slot = const void*;

template <class Result, class... Arguments>
Slot slot(Result (*function)(Arguments...)) noexcept {
  return reinterpret_cast<Slot>(function);
}

CUresult not_implemented() {
  return CUDA_ERROR_NOT_SUPPORTED;
}

// ---- CUDART_INTERFACE: modules from fat binaries, and primary contexts that are not made current
// ------------

CUresult module_from_cubin(CUmodule* module, const void* wrapper) {
  return cuModuleLoadData(module, wrapper);
}

CUresult module_from_cubin_ext(CUmodule* module, const void* wrapper, void* first, void* second,
                               unsigned third) {
  if (first != nullptr || second != nullptr || third != 0)
    return CUDA_ERROR_NOT_SUPPORTED;
  return cuModuleLoadData(module, wrapper);
}

CUresult module_from_container(const void* container, CUmodule* module, void* first, void* second,
                               unsigned third) {
  return module_from_cubin_ext(module, container, first, second, third);
}

// The handle alone: retaining it is up to whoever asks.
CUresult primary_context(CUcontext* out, CUdevice dev) {
  return with_device(dev, [&](Device& device) {
    if (out == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *out = static_cast<CUcontext>(device.primary.handle);
    return CUDA_SUCCESS;
  });
}

void nothing(std::size_t) {}

CUresult load_compilers() {
  return CUDA_SUCCESS;
} // none are needed

// ---- TOOLS_RUNTIME_CALLBACK_HOOKS: buffers that say which callbacks a profiler wants: none
// ------------------

std::uint32_t callbacks_by_api[1024];
std::uint32_t callbacks_by_domain[14];

void callback_flags(void** buffer, std::size_t* count) {
  if (buffer != nullptr)
    *buffer = callbacks_by_api;
  if (count != nullptr)
    *count = std::size(callbacks_by_api);
}

void domain_flags(void** buffer, std::size_t* count) {
  if (buffer != nullptr)
    *buffer = callbacks_by_domain;
  if (count != nullptr)
    *count = std::size(callbacks_by_domain);
}

// ---- CONTEXT_LOCAL_STORAGE
// ----------------------------------------------------------------------------------

CUresult storage_context(CUcontext handle, ContextPtr& context) {
  if (handle == nullptr)
    return current_context_even_if_failed(context);
  context = Driver::instance().contexts.find(handle);
  return context ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult storage_put(CUcontext handle, void* key, void* value, Context::StorageDestructor destructor) {
  return with_driver([&](Driver&) {
    ContextPtr context;
    if (const CUresult found = storage_context(handle, context); found != CUDA_SUCCESS)
      return found;
    context->storage_put(key, value, destructor);
    return CUDA_SUCCESS;
  });
}

CUresult storage_delete(CUcontext handle, void* key) {
  return with_driver([&](Driver&) {
    ContextPtr context;
    if (const CUresult found = storage_context(handle, context); found != CUDA_SUCCESS)
      return found;
    return context->storage_erase(key) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

CUresult storage_get(void** value, CUcontext handle, void* key) {
  return with_driver([&](Driver&) {
    ContextPtr context;
    if (value == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    if (const CUresult found = storage_context(handle, context); found != CUDA_SUCCESS)
      return found;
    return context->storage_get(key, value) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

// ---- CONTEXT_CHECKS: conditions that never hold
// -------------------------------------------------------------

CUresult context_check(CUcontext, std::uint32_t* condition, const void** detail) {
  if (condition != nullptr)
    *condition = 0;
  if (detail != nullptr)
    *detail = nullptr;
  return CUDA_SUCCESS;
}

std::uint32_t check_flag() {
  return 0;
}

CUresult integrity_answer(std::uint32_t version, std::uint64_t unix_seconds, std::uint64_t* out);

// ---- the tables
// ---------------------------------------------------------------------------------------------

template <std::size_t Count>
struct Table {
  Slot slots[Count];
};

template <std::size_t Count>
constexpr Slot size_of_table() noexcept {
  return reinterpret_cast<Slot>(Count * sizeof(Slot));
}

template <std::size_t Count>
Table<Count> sized_table() noexcept {
  Table<Count> table;
  table.slots[0] = size_of_table<Count>();
  for (std::size_t i = 1; i < Count; ++i)
    table.slots[i] = slot(not_implemented);
  return table;
}

const Table<13>& cudart_interface() {
  static const Table<13> table = [] {
    auto made = sized_table<13>();
    made.slots[1] = slot(module_from_cubin);
    made.slots[2] = slot(primary_context);
    made.slots[6] = slot(module_from_cubin_ext);
    made.slots[7] = slot(nothing);
    made.slots[8] = slot(module_from_container);
    made.slots[12] = slot(load_compilers);
    return made;
  }();
  return table;
}

const Table<7>& callback_hooks() {
  static const Table<7> table = [] {
    auto made = sized_table<7>();
    made.slots[2] = slot(callback_flags);
    made.slots[6] = slot(domain_flags);
    return made;
  }();
  return table;
}

// Of the profiling tools. libcudart 13.5 asks for it and calls none of it; its size is not known, so it is
// made larger than the others.
const Table<64>& tools_context() {
  static const Table<64> table = sized_table<64>();
  return table;
}

const Table<4>& tools_tls() {
  static const Table<4> table = sized_table<4>();
  return table;
}

const Table<4>& context_local_storage() {
  static const Table<4> table{{slot(storage_put), slot(storage_delete), slot(storage_get), nullptr}};
  return table;
}

const Table<4>& context_checks() {
  static const Table<4> table = [] {
    auto made = sized_table<4>();
    made.slots[2] = slot(context_check);
    made.slots[3] = slot(check_flag);
    return made;
  }();
  return table;
}

const Table<3>& integrity_check() {
  static const Table<3> table = [] {
    auto made = sized_table<3>();
    made.slots[1] = slot(integrity_answer);
    return made;
  }();
  return table;
}

CUresult integrity_answer(std::uint32_t version, std::uint64_t unix_seconds, std::uint64_t* out) {
  return with_driver([&](Driver& driver) {
    if (out == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const integrity::Question question{CUDA_VERSION,       version,
                                       unix_seconds,       &cudart_interface(),
                                       &integrity_check(), integrity_check().slots[1]};
    const integrity::Answer answer = integrity::answer(question, driver.devices);
    out[0] = answer.words[0];
    out[1] = answer.words[1];
    return CUDA_SUCCESS;
  });
}

struct Known {
  unsigned char id[16];
  const void* (*table)();
};

constexpr Known kTables[] = {
    {{0x21, 0x31, 0x8c, 0x60, 0x97, 0x14, 0x32, 0x48, 0x8c, 0xa6, 0x41, 0xff, 0x73, 0x24, 0xc8, 0xf2},
     [] { return static_cast<const void*>(&tools_context()); }},
    {{0x6b, 0xd5, 0xfb, 0x6c, 0x5b, 0xf4, 0xe7, 0x4a, 0x89, 0x87, 0xd9, 0x39, 0x12, 0xfd, 0x9d, 0xf9},
     [] { return static_cast<const void*>(&cudart_interface()); }},
    {{0xa0, 0x94, 0x79, 0x8c, 0x2e, 0x74, 0x2e, 0x74, 0x93, 0xf2, 0x08, 0x00, 0x20, 0x0c, 0x0a, 0x66},
     [] { return static_cast<const void*>(&callback_hooks()); }},
    {{0x42, 0xd8, 0x5a, 0x81, 0x23, 0xf6, 0xcb, 0x47, 0x82, 0x98, 0xf6, 0xe7, 0x8a, 0x3a, 0xec, 0xdc},
     [] { return static_cast<const void*>(&tools_tls()); }},
    {{0xc6, 0x93, 0x33, 0x6e, 0x11, 0x21, 0xdf, 0x11, 0xa8, 0xc3, 0x68, 0xf3, 0x55, 0xd8, 0x95, 0x93},
     [] { return static_cast<const void*>(&context_local_storage()); }},
    {{0x26, 0x3e, 0x88, 0x60, 0x7c, 0xd2, 0x61, 0x43, 0x92, 0xf6, 0xbb, 0xd5, 0x00, 0x6d, 0xfa, 0x7e},
     [] { return static_cast<const void*>(&context_checks()); }},
    {{0xd4, 0x08, 0x20, 0x55, 0xbd, 0xe6, 0x70, 0x4b, 0x8d, 0x34, 0xba, 0x12, 0x3c, 0x66, 0xe1, 0xf2},
     [] { return static_cast<const void*>(&integrity_check()); }},
};

} // namespace

// Needs no cuInit: libcudart asks first. A table that we lack is refused, and the pointer says so too.
extern "C" ALIQUOT_EXPORT CUresult cuGetExportTable(const void** table, const CUuuid* id) {
  return guarded([&] {
    if (table == nullptr || id == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    for (const Known& known : kTables) {
      if (std::memcmp(known.id, id->bytes, sizeof known.id) != 0)
        continue;
      *table = known.table();
      return CUDA_SUCCESS;
    }
    *table = nullptr;
    return CUDA_ERROR_INVALID_VALUE;
  });
}
