#include "native/simgpu/nvml/session.hpp"

#include <cstdlib>
#include <mutex>
#include <new>
#include <string>
#include <unistd.h>

#include "native/common/log.hpp"
#include "native/simgpu/machine/home.hpp"

namespace aliquot::simgpu::nvml {
namespace {

// Never destroyed: programs ask after static destructors have run.
struct Library {
  std::mutex mutex;
  unsigned int references = 0;
  std::shared_ptr<const Session> session;
};

Library& library() noexcept {
  alignas(Library) static unsigned char storage[sizeof(Library)];
  static Library* const value = new (storage) Library;
  return *value;
}

// As many of each as ids can count: the vendor numbers GPU instances below 16 and compute instances below 8.
constexpr std::uint32_t kGpuInstances = 16, kComputeInstances = 8;

struct Places {
  char card[machine::kMaxCards];
  char gpu_instance[machine::kMaxCards][kGpuInstances];
  char mig_device[machine::kMaxCards][kGpuInstances][kComputeInstances];
  char compute_instance[machine::kMaxCards][kGpuInstances][kComputeInstances];
};
const Places places = {};

template <typename Handle>
Handle handle_at(const char& place) noexcept {
  return reinterpret_cast<Handle>(const_cast<char*>(&place));
}

// The index of a handle in a table, or its size.
template <typename Table>
std::size_t index_in(const Table& table, const void* handle) noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(handle);
  const auto first = reinterpret_cast<std::uintptr_t>(&table);
  return address < first || address - first >= sizeof table ? sizeof table : address - first;
}

bool find_compute_instance(Machine& machine, std::size_t place, std::uint32_t& card,
                           machine::ComputeInstance& instance) {
  card = static_cast<std::uint32_t>(place / (kGpuInstances * kComputeInstances));
  if (card >= machine.cards().size())
    return false;
  const std::size_t gpu_instance = place / kComputeInstances % kGpuInstances;
  for (machine::ComputeInstance& each : machine.mig().compute_instances(card)) {
    if (each.gpu.id != gpu_instance || each.id != place % kComputeInstances)
      continue;
    instance = std::move(each);
    return true;
  }
  return false;
}

nvmlReturn_t refuse(const std::string& message, nvmlReturn_t result) {
  common::log_line(common::LogLevel::Error, "%s", message.c_str());
  return result;
}

nvmlReturn_t open_machine(Library& library) {
  auto session = std::make_shared<Session>();
  machine::Status status;
  std::string message;
  session->machine = Machine::open(false, status, message);
  if (session->machine == nullptr)
    return refuse(message,
                  status == machine::Status::BadSetting ? NVML_ERROR_UNKNOWN : NVML_ERROR_DRIVER_NOT_LOADED);
  session->controls = machine::Controls::open(machine::home_path(), session->machine->setting(), message);
  if (session->controls == nullptr)
    return refuse(message, NVML_ERROR_DRIVER_NOT_LOADED);
  library.session = std::move(session);
  return NVML_SUCCESS;
}

} // namespace

nvmlReturn_t open_session() noexcept {
  try {
    Library& opened = library();
    const std::lock_guard lock(opened.mutex);
    const nvmlReturn_t result = opened.references != 0 ? NVML_SUCCESS : open_machine(opened);
    if (result == NVML_SUCCESS)
      ++opened.references;
    return result;
  } catch (...) {
    return NVML_ERROR_MEMORY;
  }
}

nvmlReturn_t close_session() noexcept {
  Library& closed = library();
  const std::lock_guard lock(closed.mutex);
  if (closed.references == 0)
    return NVML_ERROR_UNINITIALIZED;
  if (--closed.references == 0)
    closed.session.reset();
  return NVML_SUCCESS;
}

std::shared_ptr<const Session> current_session() noexcept {
  Library& current = library();
  const std::lock_guard lock(current.mutex);
  return current.session;
}

bool may_administer() noexcept {
  const char* set = std::getenv("ALIQUOT_SIMGPU_ADMIN");
  if (set != nullptr && (*set == '0' || *set == '1'))
    return *set == '1';
  return ::geteuid() == 0;
}

nvmlDevice_t handle_of(std::uint32_t card) noexcept {
  return handle_at<nvmlDevice_t>(places.card[card]);
}

nvmlDevice_t mig_handle_of(std::uint32_t card, const machine::ComputeInstance& instance) noexcept {
  return handle_at<nvmlDevice_t>(
      places.mig_device[card][instance.gpu.id % kGpuInstances][instance.id % kComputeInstances]);
}

nvmlGpuInstance_t gpu_instance_handle_of(std::uint32_t card, std::uint32_t id) noexcept {
  return handle_at<nvmlGpuInstance_t>(places.gpu_instance[card][id % kGpuInstances]);
}

nvmlComputeInstance_t compute_instance_handle_of(std::uint32_t card, std::uint32_t gpu_instance,
                                                 std::uint32_t id) noexcept {
  return handle_at<nvmlComputeInstance_t>(
      places.compute_instance[card][gpu_instance % kGpuInstances][id % kComputeInstances]);
}

bool card_of(nvmlDevice_t device, const Machine& machine, std::uint32_t& card) noexcept {
  card = static_cast<std::uint32_t>(index_in(places.card, device));
  return card < machine.cards().size();
}

bool instance_of(nvmlDevice_t device, Machine& machine, std::uint32_t& card,
                 machine::ComputeInstance& instance) {
  return find_compute_instance(machine, index_in(places.mig_device, device), card, instance);
}

bool instance_of(nvmlComputeInstance_t handle, Machine& machine, std::uint32_t& card,
                 machine::ComputeInstance& instance) {
  return find_compute_instance(machine, index_in(places.compute_instance, handle), card, instance);
}

bool instance_of(nvmlGpuInstance_t handle, Machine& machine, std::uint32_t& card,
                 machine::GpuInstance& instance) {
  const std::size_t place = index_in(places.gpu_instance, handle);
  card = static_cast<std::uint32_t>(place / kGpuInstances);
  if (card >= machine.cards().size())
    return false;
  for (const machine::GpuInstance& each : machine.mig().gpu_instances(card)) {
    if (each.id != place % kGpuInstances)
      continue;
    instance = each;
    return true;
  }
  return false;
}

} // namespace aliquot::simgpu::nvml
