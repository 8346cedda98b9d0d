// `fault` and `events`: what goes wrong, on demand, and what the cards report.
#include <cstdio>

#include "native/simgpu/machine/clock.hpp"
#include "native/simgpu/machine/faults.hpp"
#include "native/simgpu/machine/tool/commands.hpp"
#include "native/simgpu/machine/tool/json.hpp"

namespace aliquot::simgpu::machine::tool {
namespace {

constexpr std::string_view kLocations[kEccLocations] = {"dram", "l2", "l1", "register-file", "sram"};
constexpr std::string_view kKinds[] = {"",           "xid",          "single-bit-ecc", "double-bit-ecc",
                                       "row-remap",  "page-retired", "throttle",       "clock",
                                       "mig-config", "lost",         "cleared"};

struct Reason {
  std::string_view name;
  std::uint64_t bits;
};
constexpr Reason kReasons[] = {{"hw-thermal", kReasonHwThermal | kReasonHwSlowdown},
                               {"sw-thermal", kReasonSwThermal},
                               {"sw-power", kReasonSwPower},
                               {"power-brake", kReasonHwPowerBrake | kReasonHwSlowdown},
                               {"none", 0}};

struct Options {
  std::uint32_t card = 0, count = 1, nth = 1, times = 1, watchdog_ms = 0, clock = 50, temperature = 95;
  std::int32_t pid = 0;
};

bool read(const Arguments& arguments, std::string_view name, std::uint64_t most, std::uint32_t& value) {
  const std::optional<std::uint64_t> number = arguments.number(name, value);
  if (!number)
    return false;
  if (*number > most) {
    fail(std::string(name) + " is at most " + std::to_string(most));
    return false;
  }
  value = static_cast<std::uint32_t>(*number);
  return true;
}

bool read(const Arguments& arguments, const Machine& machine, Options& options) {
  std::uint32_t pid = 0;
  const auto card = card_of(arguments, machine);
  if (!card || !read(arguments, "--pid", 0x3fffff, pid) ||
      !read(arguments, "--count", 1'000'000, options.count) ||
      !read(arguments, "--nth", 65535, options.nth) || !read(arguments, "--times", 65535, options.times) ||
      !read(arguments, "--watchdog-ms", 3'600'000, options.watchdog_ms) ||
      !read(arguments, "--clock", 100, options.clock) ||
      !read(arguments, "--temperature", 150, options.temperature))
    return false;
  options.card = *card;
  options.pid = static_cast<std::int32_t>(pid);
  return true;
}

int xid(const Arguments& arguments, Machine& machine, const Options& options) {
  const std::string number = arguments.words.size() > 1 ? arguments.words[1] : "";
  const unsigned long value = std::strtoul(number.c_str(), nullptr, 10);
  if (value == 0 || value > 0xffff)
    return fail("fault xid takes the number of an Xid, e.g. 79", 2);
  machine.faults().inject_xid(options.card, static_cast<std::uint32_t>(value), options.pid);
  return 0;
}

int ecc(const Arguments& arguments, Machine& machine, const Options& options) {
  const std::string kind = arguments.words.size() > 1 ? arguments.words[1] : "";
  if (kind != "single" && kind != "double")
    return fail("fault ecc takes single or double", 2);
  if (!machine.cards()[options.card].model->ecc)
    return fail(std::string(machine.cards()[options.card].model->key) + " cards have no ECC");
  const std::string asked = arguments.has("--location") ? arguments.text("--location") : "dram";
  for (std::size_t where = 0; where < kEccLocations; ++where)
    if (kLocations[where] == asked) {
      machine.faults().inject_ecc(options.card, kind == "double", static_cast<EccLocation>(where),
                                  options.count, options.pid);
      return 0;
    }
  return fail("--location is dram, l2, l1, register-file or sram", 2);
}

int throttle(const Arguments& arguments, Machine& machine, const Options& options) {
  const std::string asked = arguments.has("--reason") ? arguments.text("--reason") : "hw-thermal";
  for (const Reason& reason : kReasons) {
    if (reason.name != asked)
      continue;
    if (options.clock == 0)
      return fail("--clock is from 1 to 100 percent", 2);
    const bool none = reason.bits == 0;
    machine.faults().set_throttle(
        options.card, {reason.bits, none ? 100 : options.clock, none ? 0 : options.temperature * 1000});
    return 0;
  }
  return fail("--reason is hw-thermal, sw-thermal, sw-power, power-brake or none", 2);
}

void write_state(JsonWriter& json, Machine& machine, std::uint32_t card) {
  const Faults& faults = machine.faults();
  const EccCounters ecc = faults.ecc(card);
  const RowRemaps remaps = faults.row_remaps(card);
  const Throttle throttled = faults.throttle(card);
  const Hang hang = faults.hang(card);
  json.open_object();
  json.number("card", card);
  json.boolean("lost", faults.lost(card));
  json.boolean("reset_needed", faults.reset_needed(card));
  json.boolean("hang_armed", hang.armed);
  json.number("hung_pid", hang.hung >> 42);
  json.number("throttle_reasons", throttled.reasons);
  json.number("clock_percent", throttled.clock_percent);
  json.number("ecc_corrected", ecc.total(false, false));
  json.number("ecc_uncorrected", ecc.total(false, true));
  json.number("ecc_corrected_aggregate", ecc.total(true, false));
  json.number("ecc_uncorrected_aggregate", ecc.total(true, true));
  json.number("rows_remapped", remaps.corrected + remaps.uncorrected);
  json.boolean("remap_pending", remaps.pending);
  json.number("retired_pages", faults.retired_pages(card).size());
  json.close_object();
}

int list(const Arguments& arguments, Machine& machine) {
  const auto cards = cards_of(arguments, machine);
  if (!cards)
    return 2;
  JsonWriter json;
  json.open_array();
  for (const std::uint32_t card : *cards)
    write_state(json, machine, card);
  json.close_array();
  if (arguments.json()) {
    std::puts(json.text().c_str());
    return 0;
  }
  for (const std::uint32_t card : *cards) {
    const Faults& faults = machine.faults();
    const EccCounters ecc = faults.ecc(card);
    const Hang hang = faults.hang(card);
    std::printf("%2u  %s%s%s  clock %u%%  ECC %llu corrected, %llu not  %zu pages retired\n", card,
                faults.lost(card) ? "lost" : "present", faults.reset_needed(card) ? ", needs a reset" : "",
                hang.hung != 0 ? ", hung"
                : hang.armed   ? ", hang armed"
                               : "",
                faults.throttle(card).clock_percent, static_cast<unsigned long long>(ecc.total(false, false)),
                static_cast<unsigned long long>(ecc.total(false, true)), faults.retired_pages(card).size());
  }
  return 0;
}

std::string event_json(const DeviceEvent& event) {
  JsonWriter json;
  json.open_object();
  json.number("sequence", event.sequence);
  json.number("card", event.card);
  const auto kind = static_cast<std::size_t>(event.kind);
  json.string("kind", kind < std::size(kKinds) ? kKinds[kind] : "");
  json.number("data", event.data);
  json.number("pid", static_cast<std::uint64_t>(event.pid));
  json.number("monotonic_ns", event.monotonic_ns);
  json.number("realtime_ns", event.realtime_ns);
  if (event.gpu_instance != 0xffffffff) {
    json.number("gpu_instance", event.gpu_instance);
    json.number("compute_instance", event.compute_instance);
  }
  json.close_object();
  return json.text();
}

} // namespace

int run_fault(const Arguments& arguments) {
  int status;
  const std::shared_ptr<Machine> machine = look(status);
  if (machine == nullptr)
    return status;
  const std::string what = arguments.words.empty() ? "list" : arguments.words[0];
  Options options;
  if (!read(arguments, *machine, options))
    return 2;
  if (what == "list")
    return list(arguments, *machine);
  if (what == "xid")
    return xid(arguments, *machine, options);
  if (what == "ecc")
    return ecc(arguments, *machine, options);
  if (what == "throttle")
    return throttle(arguments, *machine, options);
  if (what == "lost")
    machine->faults().lose(options.card);
  else if (what == "hang")
    machine->faults().arm_hang(options.card, options.pid, options.watchdog_ms);
  else if (what == "alloc-fail")
    machine->faults().fail_allocation(options.card, options.nth, options.times, options.pid);
  else if (what == "clear")
    machine->faults().clear(options.card);
  else
    return fail("fault takes xid, ecc, lost, hang, throttle, alloc-fail, clear or list", 2);
  return 0;
}

// One JSON object a line. With --follow, those that come, for --seconds (default: until it is ended).
int run_events(const Arguments& arguments) {
  int status;
  const std::shared_ptr<Machine> machine = look(status);
  const std::optional<std::uint64_t> seconds = arguments.number("--seconds", 1'000'000'000);
  if (machine == nullptr || !seconds)
    return machine == nullptr ? status : 2;
  std::uint64_t after = 0;
  const std::uint64_t end = monotonic_ns() + std::min<std::uint64_t>(*seconds, 1'000'000'000) * 1'000'000'000;
  for (;;) {
    while (const std::optional<DeviceEvent> event = machine->faults().next_event(after))
      std::puts(event_json(*event).c_str());
    const std::uint64_t now = monotonic_ns();
    if (std::fflush(stdout) != 0 || !arguments.has("--follow") || now >= end)
      return 0;
    machine->faults().wait_event(after, end - now);
  }
}

} // namespace aliquot::simgpu::machine::tool
