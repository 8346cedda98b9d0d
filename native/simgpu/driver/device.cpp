// Devices: which there are, what they are called, how they reach one another.
#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "native/simgpu/driver/device_attributes.hpp"
#include "native/simgpu/driver/entry.hpp"

using namespace aliquot::simgpu;
using namespace aliquot::simgpu::driver;

namespace {

CUresult copy_text(const std::string& text, char* out, int bytes) {
  if (out == nullptr || bytes <= 0)
    return CUDA_ERROR_INVALID_VALUE;
  const std::size_t length = std::min<std::size_t>(text.size(), static_cast<std::size_t>(bytes) - 1);
  std::memcpy(out, text.data(), length);
  out[length] = '\0';
  return CUDA_SUCCESS;
}

std::string pci_text(const machine::Card& card) {
  char text[32];
  std::snprintf(text, sizeof text, "%04x:%02x:%02x.0", card.pci_domain, card.pci_bus, card.pci_device);
  return text;
}

// "[domain:]bus:device[.function]", all hexadecimal.
bool parse_pci(const char* text, unsigned& domain, unsigned& bus, unsigned& device) {
  unsigned long parts[3] = {};
  unsigned count = 0;
  char* end = nullptr;
  for (; count < 3; text = end + 1) {
    if (std::isxdigit(static_cast<unsigned char>(*text)) == 0)
      return false;
    parts[count++] = std::strtoul(text, &end, 16);
    if (*end != ':')
      break;
  }
  if (count < 2 || (*end != '\0' && *end != '.'))
    return false;
  domain = count == 3 ? static_cast<unsigned>(parts[0]) : 0;
  bus = static_cast<unsigned>(parts[count - 2]);
  device = static_cast<unsigned>(parts[count - 1]);
  return true;
}

CUresult uuid_of(CUuuid* uuid, CUdevice ordinal) {
  return with_device(ordinal, [&](Device& device) {
    if (uuid == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    std::memcpy(uuid->bytes, device.facts.uuid, sizeof uuid->bytes);
    return CUDA_SUCCESS;
  });
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuDeviceGetCount(int* count) {
  return with_driver([&](Driver& driver) {
    if (count == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *count = static_cast<int>(driver.devices.size());
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  return with_device(ordinal, [&](Device& found) {
    if (device == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *device = found.ordinal;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuDeviceGetName(char* name, int len, CUdevice dev) {
  return with_device(dev, [&](Device& device) { return copy_text(device.facts.name, name, len); });
}

ALIQUOT_EXPORT CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice dev) {
  return uuid_of(uuid, dev);
}
ALIQUOT_EXPORT CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice dev) {
  return uuid_of(uuid, dev);
}

// LUIDs exist on Windows alone; the vendor's Linux driver refuses too.
ALIQUOT_EXPORT CUresult cuDeviceGetLuid(char*, unsigned int*, CUdevice dev) {
  return with_device(dev, [](Device&) { return CUDA_ERROR_NOT_SUPPORTED; });
}

ALIQUOT_EXPORT CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice dev) {
  return with_device(dev, [&](Device& device) {
    if (bytes == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *bytes = device.model.vram_bytes;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuDeviceTotalMem(unsigned int* bytes, CUdevice dev) {
  return with_device(dev, [&](Device& device) {
    if (bytes == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *bytes = static_cast<unsigned>(std::min<std::uint64_t>(device.model.vram_bytes, 0xffffffffu));
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice dev) {
  return with_device(dev, [&](Device& device) {
    if (value == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    return device_attribute(device, attribute, *value) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

ALIQUOT_EXPORT CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice dev) {
  return with_device(dev, [&](Device& device) {
    if (major == nullptr || minor == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *major = static_cast<int>(device.model.compute_major);
    *minor = static_cast<int>(device.model.compute_minor);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuDeviceGetProperties(CUdevprop* properties, CUdevice dev) {
  return with_device(dev, [&](Device& device) {
    if (properties == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const auto value = [&](CUdevice_attribute attribute) {
      int number = 0;
      device_attribute(device, attribute, number);
      return number;
    };
    *properties = {};
    properties->maxThreadsPerBlock = value(CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
    for (int i = 0; i < 3; ++i) {
      properties->maxThreadsDim[i] =
          value(static_cast<CUdevice_attribute>(CU_DEVICE_ATTRIBUTE_MAX_BLOCK_DIM_X + i));
      properties->maxGridSize[i] =
          value(static_cast<CUdevice_attribute>(CU_DEVICE_ATTRIBUTE_MAX_GRID_DIM_X + i));
    }
    properties->sharedMemPerBlock = value(CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK);
    properties->totalConstantMemory = value(CU_DEVICE_ATTRIBUTE_TOTAL_CONSTANT_MEMORY);
    properties->SIMDWidth = value(CU_DEVICE_ATTRIBUTE_WARP_SIZE);
    properties->memPitch = value(CU_DEVICE_ATTRIBUTE_MAX_PITCH);
    properties->regsPerBlock = value(CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK);
    properties->clockRate = value(CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
    properties->textureAlign = value(CU_DEVICE_ATTRIBUTE_TEXTURE_ALIGNMENT);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuDeviceGetPCIBusId(char* text, int len, CUdevice dev) {
  return with_device(dev, [&](Device& device) { return copy_text(pci_text(device.facts), text, len); });
}

ALIQUOT_EXPORT CUresult cuDeviceGetByPCIBusId(CUdevice* dev, const char* text) {
  return with_driver([&](Driver& driver) {
    unsigned domain = 0, bus = 0, number = 0;
    if (dev == nullptr || text == nullptr || !parse_pci(text, domain, bus, number))
      return CUDA_ERROR_INVALID_VALUE;
    for (const auto& device : driver.devices) {
      const machine::Card& card = device->facts;
      if (card.pci_domain != domain || card.pci_bus != bus || card.pci_device != number)
        continue;
      *dev = device->ordinal;
      return CUDA_SUCCESS;
    }
    return CUDA_ERROR_INVALID_DEVICE;
  });
}

ALIQUOT_EXPORT CUresult cuDeviceGetExecAffinitySupport(int* supported, CUexecAffinityType type,
                                                       CUdevice dev) {
  return with_device(dev, [&](Device&) {
    if (supported == nullptr || type >= CU_EXEC_AFFINITY_TYPE_MAX)
      return CUDA_ERROR_INVALID_VALUE;
    *supported = 0; // MPS alone has it
    return CUDA_SUCCESS;
  });
}

} // extern "C"
