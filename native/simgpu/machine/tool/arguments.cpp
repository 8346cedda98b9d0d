#include <algorithm>
#include <charconv>
#include <cstdio>

#include "native/simgpu/machine/tool/commands.hpp"

namespace aliquot::simgpu::machine::tool {
namespace {

constexpr std::string_view kFlags[] = {"--json", "--force", "--follow", "--compute", "--all"};
constexpr std::string_view kValued[] = {
    "--card",  "--device",       "--pid",         "--since",  "--nth",    "--times",
    "--count", "--location",     "--watchdog-ms", "--reason", "--clock",  "--temperature",
    "--start", "--gpu-instance", "--slices",      "--for",    "--seconds"};

} // namespace

bool Arguments::parse(int argc, char** argv) {
  for (int i = 2; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (!word.starts_with("--")) {
      words.emplace_back(word);
      continue;
    }
    const std::string_view name = word.substr(0, word.find('='));
    if (std::find(std::begin(kFlags), std::end(kFlags), word) != std::end(kFlags)) {
      options_[std::string(word)] = "";
      continue;
    }
    if (std::find(std::begin(kValued), std::end(kValued), name) == std::end(kValued)) {
      fail("there is no option " + std::string(word));
      return false;
    }
    if (name.size() == word.size() && i + 1 >= argc) {
      fail(std::string(word) + " needs a value");
      return false;
    }
    options_[std::string(name)] = name.size() == word.size() ? argv[++i] : word.substr(name.size() + 1);
  }
  return true;
}

std::string Arguments::text(std::string_view option) const {
  const auto found = options_.find(std::string(option));
  return found == options_.end() ? std::string() : found->second;
}

std::optional<std::uint64_t> Arguments::number(std::string_view option, std::uint64_t usual) const {
  if (!has(option))
    return usual;
  const std::string value = text(option);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error == std::errc() && end == value.data() + value.size() && !value.empty())
    return number;
  fail(std::string(option) + " takes a number, not \"" + value.substr(0, 40) + "\"");
  return std::nullopt;
}

int fail(const std::string& message, int status) {
  std::fprintf(stderr, "aliquot: %s\n", message.c_str());
  return status;
}

std::shared_ptr<Machine> look(int& status) {
  Status opened;
  std::string message;
  std::shared_ptr<Machine> machine = Machine::open(false, opened, message);
  status = machine == nullptr ? fail(message) : 0;
  return machine;
}

std::optional<std::uint32_t> card_of(const Arguments& arguments, const Machine& machine) {
  const std::optional<std::uint64_t> asked =
      arguments.number(arguments.has("--device") ? "--device" : "--card", 0);
  if (!asked)
    return std::nullopt;
  if (*asked < machine.cards().size())
    return static_cast<std::uint32_t>(*asked);
  fail("there is no card " + std::to_string(*asked) + "; the machine has " +
       std::to_string(machine.cards().size()) + ", counted from 0");
  return std::nullopt;
}

std::optional<std::vector<std::uint32_t>> cards_of(const Arguments& arguments, const Machine& machine) {
  std::vector<std::uint32_t> cards;
  if (arguments.has("--device") || arguments.has("--card")) {
    const std::optional<std::uint32_t> card = card_of(arguments, machine);
    if (!card)
      return std::nullopt;
    cards.push_back(*card);
  } else {
    for (std::uint32_t card = 0; card < machine.cards().size(); ++card)
      cards.push_back(card);
  }
  return cards;
}

} // namespace aliquot::simgpu::machine::tool
