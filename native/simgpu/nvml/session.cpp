#include "native/simgpu/nvml/session.hpp"

#include <mutex>
#include <new>
#include <string>

#include "native/common/log.hpp"

namespace aliquot::simgpu::nvml {
namespace {

// Never destroyed: programs ask after static destructors have run.
struct Session {
  std::mutex mutex;
  unsigned int references = 0;
  std::shared_ptr<Machine> machine;
};

Session& session() noexcept {
  alignas(Session) static unsigned char storage[sizeof(Session)];
  static Session* const value = new (storage) Session;
  return *value;
}

constexpr std::uint32_t kHandles = 64;
const char handle_table[kHandles] = {};

nvmlReturn_t open_machine(Session& session) {
  machine::Status status;
  std::string message;
  session.machine = Machine::open(false, status, message);
  if (session.machine != nullptr)
    return NVML_SUCCESS;
  common::log_line(common::LogLevel::Error, "%s", message.c_str());
  return status == machine::Status::BadSetting ? NVML_ERROR_UNKNOWN : NVML_ERROR_DRIVER_NOT_LOADED;
}

} // namespace

nvmlReturn_t open_session() noexcept {
  try {
    Session& opened = session();
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
  Session& closed = session();
  const std::lock_guard lock(closed.mutex);
  if (closed.references == 0)
    return NVML_ERROR_UNINITIALIZED;
  if (--closed.references == 0)
    closed.machine.reset();
  return NVML_SUCCESS;
}

std::shared_ptr<Machine> session_machine() noexcept {
  Session& current = session();
  const std::lock_guard lock(current.mutex);
  return current.machine;
}

nvmlDevice_t handle_of(std::uint32_t card) noexcept {
  return reinterpret_cast<nvmlDevice_t>(const_cast<char*>(&handle_table[card]));
}

bool card_of(nvmlDevice_t device, const Machine& machine, std::uint32_t& card) noexcept {
  const auto address = reinterpret_cast<std::uintptr_t>(device);
  const auto first = reinterpret_cast<std::uintptr_t>(handle_table);
  if (address < first || address - first >= machine.cards().size())
    return false;
  card = static_cast<std::uint32_t>(address - first);
  return true;
}

} // namespace aliquot::simgpu::nvml
