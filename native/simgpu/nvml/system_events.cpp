// Events of the system: cards bound to the driver and taken from it. Simulated cards stay, so none ever
// comes.
#include <ctime>
#include <mutex>
#include <set>

#include "native/simgpu/nvml/session.hpp"

using namespace aliquot::simgpu::nvml;

// The vendor's type is opaque: a set of ours has nothing in it.
struct nvmlSystemEventSet_st {};

namespace {

// Which sets there are: any other pointer is told apart without a look at it.
struct Sets {
  std::mutex mutex;
  std::set<nvmlSystemEventSet_t> live;
};

// Never destroyed: programs free their sets after static destructors have run.
Sets& sets() {
  static Sets* const all = new Sets;
  return *all;
}

bool is_live(nvmlSystemEventSet_t set) {
  const std::lock_guard lock(sets().mutex);
  return sets().live.contains(set);
}

template <typename Request, typename Answer>
nvmlReturn_t on_request(Request* request, Answer&& answer) {
  return on_session({request}, [&](const Session&) {
    if (request->version != struct_version(sizeof(Request), 1))
      return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return answer();
  });
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlSystemEventSetCreate(nvmlSystemEventSetCreateRequest_t* request) {
  return on_request(request, [&] {
    auto* made = new nvmlSystemEventSet_st;
    const std::lock_guard lock(sets().mutex);
    sets().live.insert(made);
    request->set = made;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlSystemEventSetFree(nvmlSystemEventSetFreeRequest_t* request) {
  return on_request(request, [&] {
    const std::lock_guard lock(sets().mutex);
    if (sets().live.erase(request->set) == 0)
      return NVML_ERROR_INVALID_ARGUMENT;
    delete request->set;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlSystemRegisterEvents(nvmlSystemRegisterEventRequest_t* request) {
  return on_request(request, [&] {
    constexpr unsigned long long kKnown =
        nvmlSystemEventTypeGpuDriverUnbind | nvmlSystemEventTypeGpuDriverBind;
    if (!is_live(request->set) || (request->eventTypes & ~kKnown) != 0)
      return NVML_ERROR_INVALID_ARGUMENT;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlSystemEventSetWait(nvmlSystemEventSetWaitRequest_t* request) {
  return on_request(request, [&] {
    if (!is_live(request->set) || request->data == nullptr || request->dataSize == 0)
      return NVML_ERROR_INVALID_ARGUMENT;
    const timespec timeout{request->timeoutms / 1000,
                           static_cast<long>(request->timeoutms % 1000) * 1'000'000};
    ::nanosleep(&timeout, nullptr); // an interrupt may end it early (nvml.h)
    request->numEvent = 0;
    return NVML_ERROR_TIMEOUT;
  });
}

} // extern "C"
