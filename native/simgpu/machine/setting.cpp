#include "native/simgpu/machine/setting.hpp"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <numeric>
#include <unistd.h>

#include "native/simgpu/machine/home.hpp"
#include "native/simgpu/machine/layout.hpp"

namespace aliquot::simgpu::machine {
namespace {

constexpr std::string_view kSeparators = ", \t\r\n";

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0]++;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string printable(std::string_view text) {
  std::string result;
  for (const char c : text.substr(0, 40))
    result += c >= ' ' && c < 0x7f ? c : '?';
  return result;
}

std::string unknown_model(std::string_view name) {
  std::string message = "unknown card model \"" + printable(name) + "\"";
  const CardModel* nearest = nullptr;
  std::size_t best = 3; // further away than two letters is no help
  std::string known;
  for (const CardModel& model : card_models()) {
    known += (known.empty() ? "" : ", ") + std::string(model.key);
    if (name.size() >= 64)
      continue;
    const std::size_t distance = model.key.starts_with(name) ? 0 : edit_distance(name, model.key);
    if (distance < best) {
      best = distance;
      nearest = &model;
    }
  }
  if (nearest != nullptr)
    message += "; did you mean " + std::string(nearest->key) + "?";
  return message + " Known: " + known;
}

bool parse_count(std::string_view text, unsigned& count) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  return error == std::errc() && end == text.data() + text.size() && count >= 1;
}

// One part, "h100" or "h100:2".
bool parse_part(std::string_view part, std::vector<const CardModel*>& cards, std::string& message) {
  const std::size_t colon = part.find(':');
  const std::string_view name = part.substr(0, colon);
  unsigned count = 1;
  if (colon != std::string_view::npos && !parse_count(part.substr(colon + 1), count)) {
    message = "\"" + printable(part) + "\": after the colon comes a number of cards, as in h100:2";
    return false;
  }
  const CardModel* model = find_card_model(name);
  if (model == nullptr) {
    message = unknown_model(name);
    return false;
  }
  if (count > kMaxCards - cards.size()) {
    message = "too many cards: a simulated machine has at most " + std::to_string(kMaxCards);
    return false;
  }
  cards.insert(cards.end(), count, model);
  return true;
}

std::string setting_path(const std::string& home) {
  return home + "/setting";
}

} // namespace

bool parse_setting(std::string_view text, std::vector<const CardModel*>& cards, std::string& message) {
  cards.clear();
  for (std::size_t at = 0;;) {
    const std::size_t start = text.find_first_not_of(kSeparators, at);
    if (start == std::string_view::npos)
      break;
    const std::size_t end = std::min(text.find_first_of(kSeparators, start), text.size());
    if (!parse_part(text.substr(start, end - start), cards, message))
      return false;
    at = end;
  }
  if (cards.empty())
    message = "no card is named; a setting looks like h100:2,t4:4";
  return !cards.empty();
}

std::string canonical_setting(const std::vector<const CardModel*>& cards) {
  std::string text;
  for (std::size_t i = 0; i < cards.size();) {
    std::size_t end = i;
    while (end < cards.size() && cards[end] == cards[i])
      ++end;
    text += (text.empty() ? "" : ",") + std::string(cards[i]->key) + ":" + std::to_string(end - i);
    i = end;
  }
  return text;
}

bool setting_is_overridden() {
  const char* set = std::getenv("ALIQUOT_SIMGPU");
  return set != nullptr && *set != '\0';
}

std::string current_setting(const std::string& home) {
  std::vector<const CardModel*> cards;
  std::string message;
  return parse_setting(wanted_setting(home), cards, message) ? canonical_setting(cards) : "";
}

std::string wanted_setting(const std::string& home) {
  if (setting_is_overridden())
    return std::getenv("ALIQUOT_SIMGPU");
  char text[1024];
  const int fd = ::open(setting_path(home).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  const ssize_t got = fd >= 0 ? ::read(fd, text, sizeof text) : -1;
  if (fd >= 0)
    ::close(fd);
  return got > 0 ? std::string(text, static_cast<std::size_t>(got)) : std::string(kDefaultSetting);
}

bool store_setting(const std::string& home, const std::string& setting, std::string& message) {
  // Whole or not at all, whoever reads meanwhile.
  const std::string fresh = setting_path(home) + "." + std::to_string(::getpid());
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  const std::string text = setting + "\n";
  const bool written = fd >= 0 && share_file(home, fd) &&
                       ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (fd >= 0)
    ::close(fd);
  if (written && ::rename(fresh.c_str(), setting_path(home).c_str()) == 0)
    return true;
  message = "cannot write " + setting_path(home) + ": " + std::strerror(errno);
  ::unlink(fresh.c_str());
  return false;
}

} // namespace aliquot::simgpu::machine
