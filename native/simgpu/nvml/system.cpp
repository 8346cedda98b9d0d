// Initialisation, versions, names of processes.
#include <algorithm>
#include <cstdio>
#include <string>

#include "aliquot/cuda_abi.h"
#include "native/simgpu/nvml/session.hpp"

using namespace aliquot::simgpu::nvml;

namespace {

// The driver branch whose NVML came with the headers that the list of entry points was made from. Clients
// compare the number; that the driver is simulated, the cards' names say.
constexpr const char* kDriverVersion = "615.71";
constexpr const char* kNvmlVersion = "13.615.71";
constexpr const char* kDriverBranch = "r615_00";

nvmlReturn_t program_of(unsigned int pid, std::string& name) {
  char path[32], text[256];
  std::snprintf(path, sizeof path, "/proc/%u/cmdline", pid);
  std::FILE* file = std::fopen(path, "re");
  if (file == nullptr)
    return NVML_ERROR_NOT_FOUND;
  const std::size_t got = std::fread(text, 1, sizeof text - 1, file);
  std::fclose(file);
  text[got] = '\0';
  name = text; // up to the first NUL: the program without its arguments
  return NVML_SUCCESS;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlInit_v2(void) {
  return open_session();
}
ALIQUOT_EXPORT nvmlReturn_t nvmlInit(void) {
  return open_session();
}
ALIQUOT_EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned int) {
  return open_session();
}
ALIQUOT_EXPORT nvmlReturn_t nvmlShutdown(void) {
  return close_session();
}

ALIQUOT_EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char* version, unsigned int length) {
  return on_machine({version}, [&](Machine&) { return give_text(kDriverVersion, version, length); });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlSystemGetNVMLVersion(char* version, unsigned int length) {
  if (version == nullptr)
    return NVML_ERROR_INVALID_ARGUMENT;
  return give_text(kNvmlVersion, version, length);
}

// Both answer without nvmlInit, as the vendor's do.
ALIQUOT_EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion(int* version) {
  if (version == nullptr)
    return NVML_ERROR_INVALID_ARGUMENT;
  *version = CUDA_VERSION;
  return NVML_SUCCESS;
}

ALIQUOT_EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int* version) {
  return nvmlSystemGetCudaDriverVersion(version);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlSystemGetDriverBranch(nvmlSystemDriverBranchInfo_t* info,
                                                      unsigned int length) {
  return on_machine({info}, [&](Machine&) {
    if (info->version != struct_version(sizeof(nvmlSystemDriverBranchInfo_v1_t), 1))
      return NVML_ERROR_INVALID_ARGUMENT;
    return give_text(kDriverBranch, info->branch, std::min<unsigned int>(length, sizeof info->branch));
  });
}

// No card is kept from the driver, no S-class unit and no host interface card is there. The first two answer
// without nvmlInit.
ALIQUOT_EXPORT nvmlReturn_t nvmlGetExcludedDeviceCount(unsigned int* count) {
  if (count == nullptr)
    return NVML_ERROR_INVALID_ARGUMENT;
  *count = 0;
  return NVML_SUCCESS;
}

ALIQUOT_EXPORT nvmlReturn_t nvmlGetExcludedDeviceInfoByIndex(unsigned int, nvmlExcludedDeviceInfo_t*) {
  return NVML_ERROR_INVALID_ARGUMENT;
}

ALIQUOT_EXPORT nvmlReturn_t nvmlUnitGetCount(unsigned int* count) {
  return on_machine({count}, [&](Machine&) {
    *count = 0;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlUnitGetHandleByIndex(unsigned int, nvmlUnit_t* unit) {
  return on_machine({unit}, [](Machine&) { return NVML_ERROR_INVALID_ARGUMENT; });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlSystemGetHicVersion(unsigned int* count, nvmlHwbcEntry_t*) {
  return on_machine({count}, [&](Machine&) {
    *count = 0;
    return NVML_SUCCESS;
  });
}

// Confidential computing: this machine's processor and cards do none.
ALIQUOT_EXPORT nvmlReturn_t nvmlSystemGetConfComputeState(nvmlConfComputeSystemState_t* state) {
  return on_machine({state}, [&](Machine&) {
    *state = {NVML_CC_SYSTEM_ENVIRONMENT_UNAVAILABLE, NVML_CC_SYSTEM_FEATURE_DISABLED,
              NVML_CC_SYSTEM_DEVTOOLS_MODE_OFF};
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlSystemGetConfComputeCapabilities(nvmlConfComputeSystemCaps_t* capabilities) {
  return on_machine({capabilities}, [&](Machine&) {
    *capabilities = {NVML_CC_SYSTEM_CPU_CAPS_NONE, NVML_CC_SYSTEM_GPUS_CC_NOT_CAPABLE};
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char* name, unsigned int length) {
  return on_machine({name}, [&](Machine&) {
    std::string program;
    const nvmlReturn_t result = length == 0 ? NVML_ERROR_INVALID_ARGUMENT : program_of(pid, program);
    // A longer name is cut, as the vendor's is.
    return result == NVML_SUCCESS ? give_text(std::string_view(program).substr(0, length - 1), name, length)
                                  : result;
  });
}

} // extern "C"
