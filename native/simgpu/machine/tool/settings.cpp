// `mps`, `timeslice`, `context-memory`, `compute-mode`: how cards share themselves among processes.
#include <charconv>
#include <cstdio>

#include "native/simgpu/machine/host_budget.hpp"
#include "native/simgpu/machine/tool/commands.hpp"
#include "native/simgpu/machine/tool/json.hpp"

namespace aliquot::simgpu::machine::tool {
namespace {

constexpr std::string_view kModes[] = {"default", "", "prohibited", "exclusive-process"};

// One value for each card, as text or as JSON.
template <typename Value>
int show(const Arguments& arguments, const Machine& machine, const char* key, Value&& value) {
  JsonWriter json;
  json.open_array();
  for (std::uint32_t card = 0; card < machine.cards().size(); ++card) {
    const std::string text = value(card);
    json.open_object();
    json.number("card", card);
    json.string(key, text);
    json.close_object();
    if (!arguments.json())
      std::printf("%2u  %s\n", card, text.c_str());
  }
  json.close_array();
  if (arguments.json())
    std::puts(json.text().c_str());
  return 0;
}

// Microseconds: "500", "500us", "2ms". 0: not understood.
std::uint64_t parse_us(std::string_view text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  if (error != std::errc() || number > 1'000'000)
    return 0;
  return unit.empty() || unit == "us" ? number : unit == "ms" ? number * 1000 : 0;
}

} // namespace

int run_mps(const Arguments& arguments) {
  int status;
  const std::shared_ptr<Machine> machine = look(status);
  if (machine == nullptr)
    return status;
  if (arguments.words.empty())
    return show(arguments, *machine, "mps",
                [&](std::uint32_t card) { return std::string(machine->mps_enabled(card) ? "on" : "off"); });
  const std::string& mode = arguments.words[0];
  if (mode != "on" && mode != "off")
    return fail("mps takes on or off", 2);
  const auto cards = cards_of(arguments, *machine);
  for (std::size_t i = 0; cards && i < cards->size(); ++i)
    machine->set_mps((*cards)[i], mode == "on");
  return cards ? 0 : 2;
}

int run_timeslice(const Arguments& arguments) {
  int status;
  const std::shared_ptr<Machine> machine = look(status);
  if (machine == nullptr)
    return status;
  if (arguments.words.empty())
    return show(arguments, *machine, "timeslice",
                [&](std::uint32_t card) { return std::to_string(machine->slice_ns(card) / 1000) + "us"; });
  const std::string& asked = arguments.words[0];
  const std::uint64_t us = parse_us(asked);
  if (asked != "default" && (us < 100 || us > 1'000'000))
    return fail("a time slice is \"default\" or from 100us to 1000ms, not \"" + asked.substr(0, 40) + "\"",
                2);
  const auto cards = cards_of(arguments, *machine);
  for (std::size_t i = 0; cards && i < cards->size(); ++i)
    machine->set_slice_ns((*cards)[i], asked == "default" ? 0 : us * 1000);
  return cards ? 0 : 2;
}

int run_context_memory(const Arguments& arguments) {
  int status;
  const std::shared_ptr<Machine> machine = look(status);
  if (machine == nullptr)
    return status;
  if (arguments.words.empty())
    return show(arguments, *machine, "context_memory", [&](std::uint32_t card) {
      const std::uint64_t bytes = machine->context_bytes(card);
      return bytes == kUsualContext ? std::string("default") : std::to_string(bytes);
    });
  const std::string& asked = arguments.words[0];
  std::uint64_t bytes = kUsualContext;
  if (asked != "default" && (!parse_bytes(asked, bytes) || bytes == kUsualContext))
    return fail("context memory is \"default\" or a size such as 300MiB, not \"" + asked.substr(0, 40) + "\"",
                2);
  const auto cards = cards_of(arguments, *machine);
  for (std::size_t i = 0; cards && i < cards->size(); ++i)
    machine->set_context_bytes((*cards)[i], bytes);
  return cards ? 0 : 2;
}

int run_compute_mode(const Arguments& arguments) {
  int status;
  const std::shared_ptr<Machine> machine = look(status);
  if (machine == nullptr)
    return status;
  if (arguments.words.empty())
    return show(arguments, *machine, "compute_mode", [&](std::uint32_t card) {
      return std::string(kModes[static_cast<std::size_t>(machine->compute_mode(card))]);
    });
  for (std::uint32_t mode = 0; mode < 4; ++mode) {
    if (kModes[mode].empty() || kModes[mode] != arguments.words[0])
      continue;
    const auto cards = cards_of(arguments, *machine);
    for (std::size_t i = 0; cards && i < cards->size(); ++i)
      machine->set_compute_mode((*cards)[i], static_cast<ComputeMode>(mode));
    return cards ? 0 : 2;
  }
  return fail("a compute mode is default, prohibited or exclusive-process", 2);
}

} // namespace aliquot::simgpu::machine::tool
