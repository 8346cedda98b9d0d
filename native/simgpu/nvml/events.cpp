// Events: what the device reports (Xid, ECC, its division) comes from its queue; changes of clocks and
// performance state are noticed by comparing.
#include <algorithm>

#include <cstring>
#include <ctime>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "native/simgpu/machine/card_text.hpp"
#include "native/simgpu/machine/clock.hpp"
#include "native/simgpu/machine/faults.hpp"
#include "native/simgpu/nvml/clocks.hpp"
#include "native/simgpu/nvml/physics.hpp"
#include "native/simgpu/nvml/session.hpp"
#include "native/simgpu/nvml/traits.hpp"

using namespace aliquot::simgpu::nvml;
using aliquot::simgpu::machine::DeviceEvent;
using aliquot::simgpu::machine::EventKind;
using aliquot::simgpu::machine::Faults;
using aliquot::simgpu::machine::monotonic_ns;

namespace {

constexpr std::uint64_t kNsPerMs = 1'000'000;
constexpr std::uint64_t kLookEveryNs = 50 * kNsPerMs; // at what no one reports
constexpr unsigned long long kCompared = nvmlEventTypeClock | nvmlEventTypePState;

// What clocks are now. A difference is an event.
struct ClockState {
  std::uint32_t sm_mhz = 0, memory_mhz = 0;
  std::uint64_t reasons = 0;
  bool operator==(const ClockState&) const = default;
};

ClockState clocks_of(const View& view) noexcept {
  return {sm_clock_mhz(view), memory_clock_mhz(view), clock_reasons(view)};
}

// One card in a set.
struct Watch {
  unsigned long long types = 0;
  std::uint64_t since = 0; // sequence of the last event before it was registered
  ClockState clocks;
};

struct Event {
  std::uint32_t card = 0;
  unsigned long long type = 0, data = 0;
  unsigned int gpu_instance = 0xffffffff, compute_instance = 0xffffffff;
  std::uint64_t realtime_ns = 0;
};

} // namespace

// The vendor's type is opaque: this is ours.
struct nvmlEventSet_st {
  std::mutex mutex;
  std::weak_ptr<const Session> session; // it was made in
  std::map<std::uint32_t, Watch> watches;
  std::uint64_t position = 0; // in the device's queue
  bool delivered = false;     // nvmlEventSetWait_v3 has returned an event
};

namespace {

// Which sets there are: any other pointer is told apart without a look at it, and one that is freed while
// somebody waits stays until he is done.
class Sets {
 public:
  nvmlEventSet_t add(const std::shared_ptr<const Session>& session) {
    auto made = std::make_shared<nvmlEventSet_st>();
    made->session = session;
    made->position = session->machine->faults().last_event();
    const std::lock_guard lock(mutex_);
    return live_.emplace(made.get(), made).first->first;
  }
  std::shared_ptr<nvmlEventSet_st> find(nvmlEventSet_t set, const Session& session) {
    const std::lock_guard lock(mutex_);
    const auto found = live_.find(set);
    if (found == live_.end() || found->second->session.lock().get() != &session)
      return nullptr;
    return found->second;
  }
  bool remove(nvmlEventSet_t set) {
    const std::lock_guard lock(mutex_);
    return live_.erase(set) != 0;
  }

 private:
  std::mutex mutex_;
  std::map<nvmlEventSet_t, std::shared_ptr<nvmlEventSet_st>> live_;
};

// Never destroyed: programs free their sets after static destructors have run.
Sets& sets() {
  static Sets* const all = new Sets;
  return *all;
}

template <typename Answer>
nvmlReturn_t on_set(nvmlEventSet_t set, Outputs outputs, Answer&& answer) {
  return on_session(outputs, [&](const Session& session) {
    const std::shared_ptr<nvmlEventSet_st> found = sets().find(set, session);
    return found != nullptr ? answer(session, *found) : NVML_ERROR_INVALID_ARGUMENT;
  });
}

unsigned long long supported_types(const View& view) {
  unsigned long long types =
      nvmlEventTypeXidCriticalError | nvmlEventTypeClock | nvmlEventTypeGpuUnavailableError;
  if (has_ecc(view))
    types |=
        nvmlEventTypeSingleBitEccError | nvmlEventTypeDoubleBitEccError | nvmlEventTypeDramRetirementEvent;
  if (view.model.mig_capable)
    types |= nvmlEventMigConfigChange;
  if (has_low_state(view))
    types |= nvmlEventTypePState;
  return types;
}

// 0: NVML has no event for it.
unsigned long long type_of(EventKind kind) noexcept {
  switch (kind) {
  case EventKind::Xid:
    return nvmlEventTypeXidCriticalError;
  case EventKind::SingleBitEcc:
    return nvmlEventTypeSingleBitEccError;
  case EventKind::DoubleBitEcc:
    return nvmlEventTypeDoubleBitEccError;
  case EventKind::RowRemap:
  case EventKind::PageRetired:
    return nvmlEventTypeDramRetirementEvent;
  case EventKind::MigConfig:
    return nvmlEventMigConfigChange;
  case EventKind::Lost:
    return nvmlEventTypeGpuUnavailableError;
  case EventKind::Throttle:
  case EventKind::Clock:
  case EventKind::Cleared:
    break; // compared, or seen by nobody
  }
  return 0;
}

bool is_wanted(const nvmlEventSet_st& set, const DeviceEvent& event) {
  const auto watch = set.watches.find(event.card);
  return watch != set.watches.end() && (watch->second.types & type_of(event.kind)) != 0 &&
         event.sequence > watch->second.since;
}

bool next_reported(const Faults& faults, nvmlEventSet_st& set, Event& event) {
  while (const std::optional<DeviceEvent> next = faults.next_event(set.position)) {
    if (!is_wanted(set, *next))
      continue;
    const bool is_xid = next->kind == EventKind::Xid; // nvml.h: data is 0 for any other event
    event = {next->card,         type_of(next->kind),    is_xid ? next->data : 0,
             next->gpu_instance, next->compute_instance, next->realtime_ns};
    return true;
  }
  return false;
}

// A change of the performance state is told before one of the clocks; the latter then comes next.
bool next_compared(const Session& session, nvmlEventSet_st& set, Event& event) {
  for (auto& [card, watch] : set.watches) {
    if ((watch.types & kCompared) == 0 || is_lost(*session.machine, card))
      continue;
    const ClockState now = clocks_of(view_of(session, card));
    if (now == watch.clocks)
      continue;
    const bool other_state =
        now.memory_mhz != watch.clocks.memory_mhz && (watch.types & nvmlEventTypePState) != 0;
    if (other_state)
      watch.clocks.memory_mhz = now.memory_mhz;
    else
      watch.clocks = now;
    if (!other_state && (watch.types & nvmlEventTypeClock) == 0)
      continue;
    event = {};
    event.card = card;
    event.type = other_state ? nvmlEventTypePState : nvmlEventTypeClock;
    return true;
  }
  return false;
}

bool watches_clocks(const nvmlEventSet_st& set) {
  return std::any_of(set.watches.begin(), set.watches.end(),
                     [](const auto& watch) { return (watch.second.types & kCompared) != 0; });
}

bool has_lost_card(const Session& session, const nvmlEventSet_st& set) {
  return std::any_of(set.watches.begin(), set.watches.end(),
                     [&](const auto& watch) { return is_lost(*session.machine, watch.first); });
}

// What is there now: SUCCESS with an event, TIMEOUT if there is none.
nvmlReturn_t poll(const Session& session, nvmlEventSet_st& set, Event& event, std::uint64_t& position,
                  bool& comparing) {
  const std::lock_guard lock(set.mutex);
  if (next_reported(session.machine->faults(), set, event) || next_compared(session, set, event))
    return NVML_SUCCESS;
  position = set.position;
  comparing = watches_clocks(set);
  return has_lost_card(session, set) ? NVML_ERROR_GPU_IS_LOST : NVML_ERROR_TIMEOUT;
}

nvmlReturn_t wait(const Session& session, nvmlEventSet_st& set, unsigned int timeout_ms, Event& event) {
  const std::uint64_t end = monotonic_ns() + timeout_ms * kNsPerMs;
  for (;;) {
    std::uint64_t position = 0;
    bool comparing = false;
    const nvmlReturn_t result = poll(session, set, event, position, comparing);
    const std::uint64_t now = monotonic_ns();
    if (result != NVML_ERROR_TIMEOUT || now >= end)
      return result;
    session.machine->faults().wait_event(position, comparing ? std::min(end - now, kLookEveryNs) : end - now);
  }
}

void write_event(const Event& event, nvmlEventData_t& data) noexcept {
  data = {handle_of(event.card), event.type, event.data, event.gpu_instance, event.compute_instance};
}

void write_event(const Session& session, const Event& event, nvmlEventSetWait_v3_t& data) {
  const unsigned int timeout = data.timeoutMs;
  data = {};
  data.timeoutMs = timeout;
  data.dataType = NVML_EVENT_DATA_TYPE_NVML_EVENT;
  const std::string uuid = aliquot::simgpu::machine::uuid_text(session.machine->cards()[event.card]);
  std::memcpy(data.uuid, uuid.c_str(), std::min(uuid.size(), sizeof data.uuid - 1));
  data.eventType = event.type;
  data.eventData = event.data;
  data.timestampUsec = event.realtime_ns / 1000;
  data.gpuInstanceId = event.gpu_instance;
  data.computeInstanceId = event.compute_instance;
}

nvmlReturn_t check_types(const View& view, unsigned long long types) {
  if ((types & ~static_cast<unsigned long long>(nvmlEventTypeAll)) != 0)
    return NVML_ERROR_INVALID_ARGUMENT;
  return (types & ~supported_types(view)) != 0 ? NVML_ERROR_NOT_SUPPORTED : NVML_SUCCESS;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT nvmlReturn_t nvmlEventSetCreate(nvmlEventSet_t* set) {
  return on_session({set}, [&](const Session&) {
    const std::shared_ptr<const Session> session = current_session();
    if (session == nullptr)
      return NVML_ERROR_UNINITIALIZED;
    *set = sets().add(session);
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlEventSetFree(nvmlEventSet_t set) {
  return on_session({}, [&](const Session&) {
    return sets().remove(set) ? NVML_SUCCESS : NVML_ERROR_UNKNOWN; // the one failure that nvml.h knows here
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceGetSupportedEventTypes(nvmlDevice_t device, unsigned long long* types) {
  return read_value(device, types, supported_types);
}

ALIQUOT_EXPORT nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types,
                                                     nvmlEventSet_t set) {
  return on_card(device, {}, [&](const View& view) {
    const std::shared_ptr<nvmlEventSet_st> found = sets().find(set, view.session);
    if (found == nullptr)
      return NVML_ERROR_INVALID_ARGUMENT;
    if (const nvmlReturn_t valid = check_types(view, types); valid != NVML_SUCCESS)
      return valid;
    const std::lock_guard lock(found->mutex);
    const auto [watch, fresh] = found->watches.try_emplace(view.index);
    if (fresh)
      watch->second.since = view.machine.faults().last_event();
    if (fresh || (watch->second.types & kCompared) == 0)
      watch->second.clocks = clocks_of(view);
    watch->second.types |= types;
    return NVML_SUCCESS;
  });
}

ALIQUOT_EXPORT nvmlReturn_t nvmlEventSetWait_v2(nvmlEventSet_t set, nvmlEventData_t* data,
                                                unsigned int timeout_ms) {
  return on_set(set, {data}, [&](const Session& session, nvmlEventSet_st& found) {
    Event event;
    const nvmlReturn_t result = wait(session, found, timeout_ms, event);
    if (result == NVML_SUCCESS)
      write_event(event, *data);
    return result;
  });
}

// The first form of the struct ends before gpuInstanceId: no byte may be written behind it.
ALIQUOT_EXPORT nvmlReturn_t nvmlEventSetWait(nvmlEventSet_t set, nvmlEventData_t* data,
                                             unsigned int timeout_ms) {
  nvmlEventData_t whole;
  const nvmlReturn_t result = nvmlEventSetWait_v2(set, data != nullptr ? &whole : nullptr, timeout_ms);
  if (result == NVML_SUCCESS)
    std::memcpy(data, &whole, offsetof(nvmlEventData_t, gpuInstanceId));
  return result;
}

ALIQUOT_EXPORT nvmlReturn_t nvmlEventSetWait_v3(nvmlEventSet_t set, nvmlEventSetWait_v3_t* params) {
  return on_set(set, {params}, [&](const Session& session, nvmlEventSet_st& found) {
    Event event;
    const nvmlReturn_t result = wait(session, found, params->timeoutMs, event);
    if (result != NVML_SUCCESS)
      return result;
    write_event(session, event, *params);
    const std::lock_guard lock(found.mutex);
    found.delivered = true;
    return NVML_SUCCESS;
  });
}

// Events of this kind come without context records.
ALIQUOT_EXPORT nvmlReturn_t nvmlEventSetGetContextCount_v1(nvmlEventSet_t set,
                                                           nvmlEventSetGetContextCount_v1_t* params) {
  return on_set(set, {params}, [&](const Session&, nvmlEventSet_st& found) {
    const std::lock_guard lock(found.mutex);
    if (!found.delivered)
      return NVML_ERROR_NOT_FOUND;
    params->count = 0;
    return NVML_SUCCESS;
  });
}

} // extern "C"
