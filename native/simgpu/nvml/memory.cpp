// Device memory, and the window on it.
#include <algorithm>
#include <bit>

#include "native/simgpu/nvml/session.hpp"

using namespace aliquot::simgpu::nvml;
using aliquot::simgpu::machine::VramInfo;

namespace {

constexpr unsigned long long kMib = 1 << 20;

// Of a MIG device: of its GPU instance. The memory of a divided card is that of its instances together.
VramInfo vram_of(const View& view) {
  auto& mig = view.machine.mig();
  VramInfo all = view.machine.vram(view.index); // counts out the dead, in the instances too
  if (view.instance != nullptr)
    return mig.vram(view.index, view.instance->gpu);
  for (const auto& gpu : mig.gpu_instances(view.index))
    all.used += mig.vram(view.index, gpu).used;
  all.used = std::min(all.used, all.total);
  return all;
}

template <typename Memory>
nvmlReturn_t give_memory(const View& view, Memory& memory) {
  const VramInfo vram = vram_of(view);
  memory.total = vram.total;
  memory.used = vram.used;
  memory.free = vram.total - vram.used;
  return NVML_SUCCESS;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t* memory) {
  return on_device(device, {memory}, [&](const View& view) { return give_memory(view, *memory); });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t* memory) {
  return on_device(device, {memory}, [&](const View& view) {
    if (memory->version != struct_version(sizeof(nvmlMemory_v2_t), 2))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    memory->reserved = 0; // the simulated driver keeps nothing for itself
    return give_memory(view, *memory);
  });
}

// The window covers all of the memory, as it does on cards with a resizable one.
ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t* memory) {
  return on_device(device, {memory}, [&](const View& view) {
    memory->bar1Total = std::bit_ceil(vram_of(view).total);
    memory->bar1Used = kMib;
    memory->bar1Free = memory->bar1Total - memory->bar1Used;
    return NVML_SUCCESS;
  });
}

} // extern "C"
