// CUDA_VISIBLE_DEVICES: which cards of the machine this process sees, and in which order.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "native/simgpu/machine/machine.hpp"
#include "native/simgpu/machine/mig.hpp"

namespace aliquot::simgpu::driver {

// A card, or an instance of one (MIG).
struct Visible {
  std::uint32_t card = 0;
  std::optional<machine::ComputeInstance> instance;
};

// Where cards are divided, a process sees one instance at most, and no card beside it: the one that `setting`
// names first ("MIG-..." or an unambiguous beginning of it, "MIG-GPU-.../GI/CI", or the index of a card: its
// first one), or the first there is. A divided card without instances is not seen.
std::vector<Visible> visible_devices(machine::Machine& machine, const char* setting);

// Indices into `cards`. `setting` is the variable's value, null where it is not set (all cards). As the
// vendor's driver does: entries are indices or UUIDs ("GPU-..." or an unambiguous beginning of one), the list
// ends at the first entry that names no card, and a card named twice makes the list invalid.
std::vector<std::uint32_t> visible_cards(const std::vector<machine::Card>& cards, const char* setting);

// "GPU-" and the 8-4-4-4-12 form.
std::string uuid_text(const std::uint8_t (&uuid)[16]);

} // namespace aliquot::simgpu::driver
