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

} // namespace

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
