// What stands between nvmlInit and nvmlShutdown: the machine, and who may ask about which card.
//
// Every entry point goes through `on_card` or `on_machine`: they check that NVML is initialised, that the
// handle is one of ours and that no output is missing, and let no exception out.
#pragma once

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <string_view>

#include "aliquot/nvml_abi.h"
#include "native/simgpu/machine/controls.hpp"
#include "native/simgpu/machine/machine.hpp"
#include "native/simgpu/machine/mig.hpp"

namespace aliquot::simgpu::nvml {

using machine::Card;
using machine::CardControls;
using machine::CardModel;
using machine::Machine;

// Opens the machine on the first call; each needs its close_session.
nvmlReturn_t open_session() noexcept;
nvmlReturn_t close_session() noexcept;

// What is open between them.
struct Session {
  std::shared_ptr<Machine> machine;
  std::unique_ptr<machine::Controls> controls;
};

// Null while NVML is not initialised.
std::shared_ptr<const Session> current_session() noexcept;

// Whether this process may change a card: root may, as on a real one. ALIQUOT_SIMGPU_ADMIN=1 lets the cards'
// owner act as root, 0 takes it from root, so that both can be tried.
bool may_administer() noexcept;

// A handle is the address of a byte of a table of ours, so that any other pointer is told apart without a
// look at it.
nvmlDevice_t handle_of(std::uint32_t card) noexcept;
bool card_of(nvmlDevice_t device, const Machine& machine, std::uint32_t& card) noexcept;

// Handles of a card's parts (MIG) stand for its ids: who makes an instance of the same ids again makes them
// valid again, as nvml.h warns.
nvmlDevice_t mig_handle_of(std::uint32_t card, const machine::ComputeInstance& instance) noexcept;
nvmlGpuInstance_t gpu_instance_handle_of(std::uint32_t card, std::uint32_t id) noexcept;
nvmlComputeInstance_t compute_instance_handle_of(std::uint32_t card, std::uint32_t gpu_instance,
                                                 std::uint32_t id) noexcept;
// False where there is no such instance now.
bool instance_of(nvmlDevice_t device, Machine& machine, std::uint32_t& card,
                 machine::ComputeInstance& instance);
bool instance_of(nvmlGpuInstance_t handle, Machine& machine, std::uint32_t& card,
                 machine::GpuInstance& instance);
bool instance_of(nvmlComputeInstance_t handle, Machine& machine, std::uint32_t& card,
                 machine::ComputeInstance& instance);

// A card that somebody asks about, or one of its MIG devices.
struct View {
  const Session& session;
  Machine& machine;
  std::uint32_t index;
  const Card& card;
  const CardModel& model;
  CardControls& controls;
  const machine::ComputeInstance* instance = nullptr; // the MIG device; null: all of the card
};

// Whether the card has fallen off the bus.
bool is_lost(Machine& machine, std::uint32_t card) noexcept;

// Where an answer goes, of whatever type: only whether the caller gave a place.
struct Output {
  bool missing;
  template <typename Value>
  Output(Value* place) noexcept : missing(place == nullptr) {}
};
using Outputs = std::initializer_list<Output>;

inline bool any_missing(Outputs outputs) noexcept {
  for (const Output& output : outputs)
    if (output.missing)
      return true;
  return false;
}

template <typename Answer>
nvmlReturn_t on_session(Outputs outputs, Answer&& answer) noexcept {
  try {
    const std::shared_ptr<const Session> session = current_session();
    if (session == nullptr)
      return NVML_ERROR_UNINITIALIZED;
    if (any_missing(outputs))
      return NVML_ERROR_INVALID_ARGUMENT;
    return answer(*session);
  } catch (...) {
    return NVML_ERROR_MEMORY;
  }
}

template <typename Answer>
nvmlReturn_t on_machine(Outputs outputs, Answer&& answer) noexcept {
  return on_session(outputs, [&](const Session& session) { return answer(*session.machine); });
}

inline View view_of(const Session& session, std::uint32_t index,
                    const machine::ComputeInstance* instance = nullptr) {
  Machine& machine = *session.machine;
  const Card& card = machine.cards()[index];
  return {session, machine, index, card, *card.model, session.controls->card(index), instance};
}

// For the calls that take MIG devices too.
template <typename Answer>
nvmlReturn_t on_device(nvmlDevice_t device, Outputs outputs, Answer&& answer) noexcept {
  return on_session({}, [&](const Session& session) {
    std::uint32_t index;
    machine::ComputeInstance instance;
    const bool whole = card_of(device, *session.machine, index);
    if ((!whole && !instance_of(device, *session.machine, index, instance)) || any_missing(outputs))
      return NVML_ERROR_INVALID_ARGUMENT;
    if (is_lost(*session.machine, index))
      return NVML_ERROR_GPU_IS_LOST;
    return answer(view_of(session, index, whole ? nullptr : &instance));
  });
}

// For those that do not.
template <typename Answer>
nvmlReturn_t on_card(nvmlDevice_t device, Outputs outputs, Answer&& answer) noexcept {
  return on_device(device, outputs, [&](const View& view) {
    return view.instance == nullptr ? answer(view) : NVML_ERROR_NOT_SUPPORTED;
  });
}

// What only root may do.
template <typename Answer>
nvmlReturn_t on_card_as_root(nvmlDevice_t device, Outputs outputs, Answer&& answer) noexcept {
  return on_card(device, outputs, [&](const View& view) {
    return may_administer() ? answer(view) : NVML_ERROR_NO_PERMISSION;
  });
}

// The common case: one value that every card has.
template <typename Value, typename Read>
nvmlReturn_t read_value(nvmlDevice_t device, Value* output, Read&& read) noexcept {
  return on_card(device, {output}, [&](const View& view) {
    *output = static_cast<Value>(read(view));
    return NVML_SUCCESS;
  });
}

// What cards of this class do not have.
template <typename Value, typename Has, typename Read>
nvmlReturn_t read_value_if(Has&& has, nvmlDevice_t device, Value* output, Read&& read) noexcept {
  return on_card(device, {output}, [&](const View& view) {
    if (!has(view))
      return NVML_ERROR_NOT_SUPPORTED;
    *output = static_cast<Value>(read(view));
    return NVML_SUCCESS;
  });
}

// Text with its NUL into a buffer of `length`.
inline nvmlReturn_t give_text(std::string_view text, char* output, unsigned int length) noexcept {
  if (text.size() >= length)
    return NVML_ERROR_INSUFFICIENT_SIZE;
  std::memcpy(output, text.data(), text.size());
  output[text.size()] = '\0';
  return NVML_SUCCESS;
}

// The protocol of most lists: `count` says how many fit, and then how many there are.
template <typename Items, typename Write>
nvmlReturn_t give_list(const Items& items, unsigned int* count, const void* place, Write&& write) {
  const unsigned int room = place == nullptr ? 0 : *count;
  *count = static_cast<unsigned int>(items.size());
  if (room < items.size())
    return NVML_ERROR_INSUFFICIENT_SIZE;
  for (std::size_t i = 0; i < items.size(); ++i)
    write(i, items[i]);
  return NVML_SUCCESS;
}

// A struct whose first field says which version of it the caller knows.
constexpr unsigned int struct_version(std::size_t size, unsigned int version) noexcept {
  return static_cast<unsigned int>(size) | version << 24;
}

inline bool is_geforce(const View& view) noexcept {
  return view.model.name.find("GeForce") != std::string_view::npos;
}

} // namespace aliquot::simgpu::nvml
