#include "native/simgpu/driver/core/visible_devices.hpp"

#include <algorithm>
#include <cstdio>
#include <string_view>

namespace aliquot::simgpu::driver {
namespace {

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos)
    return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

int by_index(const std::vector<machine::Card>& cards, std::string_view entry) {
  std::size_t index = 0;
  for (const char digit : entry) {
    if (digit < '0' || digit > '9' || index > cards.size())
      return -1;
    index = index * 10 + static_cast<std::size_t>(digit - '0');
  }
  return index < cards.size() ? static_cast<int>(index) : -1;
}

int by_uuid(const std::vector<machine::Card>& cards, std::string_view entry) {
  int found = -1;
  for (std::size_t i = 0; i < cards.size(); ++i) {
    if (!std::string_view(uuid_text(cards[i].uuid)).starts_with(entry))
      continue;
    if (found >= 0)
      return -1; // ambiguous
    found = static_cast<int>(i);
  }
  return found;
}

// "MIG-GPU-<uuid of the card>/<GPU instance>/<compute instance>", as older drivers name instances.
bool is_at(const machine::Card& card, const machine::ComputeInstance& instance, std::string_view entry) {
  const std::string name = "MIG-" + uuid_text(card.uuid) + "/" + std::to_string(instance.gpu.id) + "/" +
                           std::to_string(instance.id);
  return entry == name;
}

std::vector<Visible> instances_of(machine::Machine& machine, std::uint32_t card) {
  std::vector<Visible> found;
  for (machine::ComputeInstance& instance : machine.mig().compute_instances(card))
    found.push_back({card, std::move(instance)});
  return found;
}

std::optional<Visible> by_mig_uuid(machine::Machine& machine, std::string_view entry) {
  std::optional<Visible> found;
  for (std::uint32_t card = 0; card < machine.cards().size(); ++card)
    for (Visible& each : instances_of(machine, card)) {
      if (!std::string_view(machine::mig_uuid_text(each.instance->uuid)).starts_with(entry) &&
          !is_at(machine.cards()[card], *each.instance, entry))
        continue;
      if (found)
        return std::nullopt; // ambiguous
      found = std::move(each);
    }
  return found;
}

std::string_view first_entry(std::string_view setting) {
  return trimmed(setting.substr(0, setting.find(',')));
}

} // namespace

std::vector<Visible> visible_devices(machine::Machine& machine, const char* setting) {
  if (setting != nullptr && first_entry(setting).starts_with("MIG-")) {
    const std::optional<Visible> found = by_mig_uuid(machine, first_entry(setting));
    return found ? std::vector<Visible>{*found} : std::vector<Visible>{};
  }
  std::vector<Visible> whole;
  for (const std::uint32_t card : visible_cards(machine.cards(), setting)) {
    if (std::vector<Visible> instances = instances_of(machine, card); !instances.empty())
      return {instances.front()};
    if (!machine.mig().enabled(card))
      whole.push_back({card, std::nullopt});
  }
  return whole;
}

std::string uuid_text(const std::uint8_t (&uuid)[16]) {
  std::string text = "GPU-";
  for (std::size_t i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10)
      text += '-';
    char byte[3];
    std::snprintf(byte, sizeof byte, "%02x", uuid[i]);
    text += byte;
  }
  return text;
}

std::vector<std::uint32_t> visible_cards(const std::vector<machine::Card>& cards, const char* setting) {
  std::vector<std::uint32_t> visible;
  if (setting == nullptr) {
    for (std::uint32_t i = 0; i < cards.size(); ++i)
      visible.push_back(i);
    return visible;
  }
  std::string_view rest = setting;
  while (!rest.empty()) {
    const auto comma = rest.find(',');
    const std::string_view entry = trimmed(rest.substr(0, comma));
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
    if (entry.empty())
      break;
    const int card = entry.starts_with("GPU-") ? by_uuid(cards, entry) : by_index(cards, entry);
    if (card < 0)
      break;
    if (std::find(visible.begin(), visible.end(), static_cast<std::uint32_t>(card)) != visible.end())
      return {};
    visible.push_back(static_cast<std::uint32_t>(card));
  }
  return visible;
}

} // namespace aliquot::simgpu::driver
