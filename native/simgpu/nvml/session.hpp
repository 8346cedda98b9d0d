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
#include "native/simgpu/machine/machine.hpp"

namespace aliquot::simgpu::nvml {

using machine::Card;
using machine::CardModel;
using machine::Machine;

// Opens the machine on the first call; each needs its close_session.
nvmlReturn_t open_session() noexcept;
nvmlReturn_t close_session() noexcept;

// Null while NVML is not initialised.
std::shared_ptr<Machine> session_machine() noexcept;

// A handle is the address of a byte of a table of ours, so that any other pointer is told apart without a
// look at it.
nvmlDevice_t handle_of(std::uint32_t card) noexcept;
bool card_of(nvmlDevice_t device, const Machine& machine, std::uint32_t& card) noexcept;

// A card that somebody asks about.
struct View {
  Machine& machine;
  std::uint32_t index;
  const Card& card;
  const CardModel& model;
};

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
nvmlReturn_t on_machine(Outputs outputs, Answer&& answer) noexcept {
  try {
    const std::shared_ptr<Machine> machine = session_machine();
    if (machine == nullptr)
      return NVML_ERROR_UNINITIALIZED;
    if (any_missing(outputs))
      return NVML_ERROR_INVALID_ARGUMENT;
    return answer(*machine);
  } catch (...) {
    return NVML_ERROR_MEMORY;
  }
}

template <typename Answer>
nvmlReturn_t on_card(nvmlDevice_t device, Outputs outputs, Answer&& answer) noexcept {
  return on_machine({}, [&](Machine& machine) {
    std::uint32_t index;
    if (!card_of(device, machine, index) || any_missing(outputs))
      return NVML_ERROR_INVALID_ARGUMENT;
    const Card& card = machine.cards()[index];
    return answer(View{machine, index, card, *card.model});
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

// A struct whose first field says which version of it the caller knows.
constexpr unsigned int struct_version(std::size_t size, unsigned int version) noexcept {
  return static_cast<unsigned int>(size) | version << 24;
}

inline bool is_geforce(const View& view) noexcept {
  return view.model.name.find("GeForce") != std::string_view::npos;
}

} // namespace aliquot::simgpu::nvml
