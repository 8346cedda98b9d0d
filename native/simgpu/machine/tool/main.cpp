// `aliquot-simgpu`: looks at the simulated machine and changes it.
//
// Answers go to standard output, as text or with --json; errors to standard error. Status 0: done, 1: refused
// or failed, 2: not understood.
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "native/simgpu/machine/card_text.hpp"
#include "native/simgpu/machine/home.hpp"
#include "native/simgpu/machine/machine.hpp"
#include "native/simgpu/machine/machine_files.hpp"
#include "native/simgpu/machine/mig.hpp"
#include "native/simgpu/machine/setting.hpp"
#include "native/simgpu/machine/tool/commands.hpp"
#include "native/simgpu/machine/tool/json.hpp"

namespace {

using namespace aliquot::simgpu::machine;
using namespace aliquot::simgpu::machine::tool;

constexpr const char* kUsage =
    "usage: aliquot-simgpu COMMAND\n"
    "  set SETTING... [--force]    which cards the simulated machine has, e.g. h100:2 t4:4\n"
    "  show [--json]               cards, processes, host memory\n"
    "  processes [--json]          what running and departed processes did on each card\n"
    "  record [--device N] [--since NS] [--follow [--seconds N]]\n"
    "                              who had the engine and when, as the card itself recorded it, as JSON\n"
    "  mps [on|off] [--device N]   let processes overlap instead of taking turns\n"
    "  timeslice [TIME|default] [--device N]\n"
    "                              how long a turn lasts, e.g. 500us, 2ms\n"
    "  context-memory [SIZE|default] [--device N]\n"
    "                              what a context takes of a card beside its local memory and buffers\n"
    "  compute-mode [default|prohibited|exclusive-process] [--device N]\n"
    "  mig [list|profiles|on|off|create PROFILE...|destroy --all] [--device N] [--json]\n"
    "                              divide a card\n"
    "  fault xid N | ecc single|double | lost | hang | throttle | alloc-fail | clear | list\n"
    "        [--device N] [--pid P] [--count N] [--location dram|l2|l1|register-file|sram] [--nth N] "
    "[--times N]\n"
    "        [--watchdog-ms N] [--reason hw-thermal|sw-thermal|sw-power|power-brake|none] [--clock PERCENT]\n"
    "        [--temperature C]     what goes wrong with a card\n"
    "  events [--follow [--seconds N]]\n"
    "                              what the cards report, one JSON object a line\n"
    "  models                      the models that can be simulated\n"
    "  reset [--force]             forget all state\n";

void write_process(JsonWriter& json, const ProcessRecord& record) {
  json.open_object();
  json.number("pid", static_cast<std::uint64_t>(record.pid));
  json.number("start_time", record.start_time);
  json.string("command", record.command);
  json.string("slice", record.slice);
  json.number("card", record.card);
  if (record.gpu_instance != kNoInstance) {
    json.number("gpu_instance", record.gpu_instance);
    json.number("compute_instance", record.compute_instance);
  }
  json.number("vram_bytes", record.vram_bytes);
  json.number("peak_vram_bytes", record.peak_vram_bytes);
  json.number("busy_ns", record.busy_ns);
  json.number("launches", record.launches);
  json.number("copied_to_device", record.copied_to_device);
  json.number("copied_to_host", record.copied_to_host);
  json.number("copied_on_device", record.copied_on_device);
  json.close_object();
}

void write_processes(JsonWriter& json, std::string_view key, const std::vector<ProcessRecord>& records) {
  json.open_array(key);
  for (const ProcessRecord& record : records)
    write_process(json, record);
  json.close_array();
}

void write_card(JsonWriter& json, Machine& machine, std::uint32_t index) {
  const Card& card = machine.cards()[index];
  const VramInfo vram = machine.vram(index);
  json.open_object();
  json.number("index", index);
  json.string("uuid", uuid_text(card));
  json.string("name", card.name);
  json.string("model", card.model->key);
  json.string("pci_bus_id", bus_id_text(card));
  json.string("compute_capability",
              std::to_string(card.model->compute_major) + "." + std::to_string(card.model->compute_minor));
  json.number("fp16_gflops", card.model->fp16_gflops);
  json.number("vram_bytes", vram.total);
  json.number("vram_used_bytes", vram.used);
  json.number("utilisation_percent", machine.utilisation_percent(index));
  json.number("busy_ns", machine.busy_ns(index));
  json.boolean("mig", machine.mig().enabled(index));
  json.boolean("mps", machine.mps_enabled(index));
  json.number("timeslice_us", machine.slice_ns(index) / 1000);
  json.close_object();
}

std::string machine_json(Machine& machine) {
  JsonWriter json;
  json.open_object();
  json.string("home", home_path());
  json.string("setting", machine.setting());
  json.open_array("cards");
  for (std::uint32_t card = 0; card < machine.cards().size(); ++card)
    write_card(json, machine, card);
  json.close_array();
  write_processes(json, "processes", machine.processes());
  const HostBudget budget = machine.host_budget();
  json.open_object("host_budget");
  json.number("limit_bytes", budget.limit);
  json.number("reserved_bytes", budget.reserved);
  json.number("reserved_by_user_bytes", budget.reserved_by_user);
  json.close_object();
  json.close_object();
  return json.text();
}

double gib(std::uint64_t bytes) {
  return static_cast<double>(bytes) / (1 << 30);
}

void print_machine(Machine& machine) {
  std::printf("%s  (%s)\n", machine.setting().c_str(), home_path().c_str());
  for (std::uint32_t index = 0; index < machine.cards().size(); ++index) {
    const Card& card = machine.cards()[index];
    const VramInfo vram = machine.vram(index);
    std::printf("%2u  %-42s %7.2f / %6.2f GiB  %3u%% busy  %s\n", index, card.name.c_str(), gib(vram.used),
                gib(vram.total), machine.utilisation_percent(index), uuid_text(card).c_str());
  }
  const HostBudget budget = machine.host_budget();
  std::printf("host memory: %.2f of %.2f GiB reserved\n", gib(budget.reserved), gib(budget.limit));
}

void print_processes(const char* title, const std::vector<ProcessRecord>& records) {
  std::printf("%s\n", title);
  for (const ProcessRecord& record : records)
    std::printf("  %7d  card %-2u %-20s %8.3f GiB now %8.3f GiB peak %10.3f ms busy %8llu launches\n",
                record.pid, record.card, record.command, gib(record.vram_bytes), gib(record.peak_vram_bytes),
                static_cast<double>(record.busy_ns) / 1e6, static_cast<unsigned long long>(record.launches));
}

int run_show(const Arguments& arguments) {
  int status;
  const std::shared_ptr<Machine> machine = look(status);
  if (machine == nullptr)
    return status;
  if (arguments.json())
    std::puts(machine_json(*machine).c_str());
  else
    print_machine(*machine);
  return 0;
}

int run_processes(const Arguments& arguments) {
  int status;
  const std::shared_ptr<Machine> machine = look(status);
  if (machine == nullptr)
    return status;
  // The living first: who leaves in between is then in both lists rather than in none.
  const std::vector<ProcessRecord> live = machine->processes(), departed = machine->departed();
  if (!arguments.json()) {
    print_processes("running", live);
    print_processes("departed", departed);
    return 0;
  }
  JsonWriter json;
  json.open_object();
  write_processes(json, "live", live);
  write_processes(json, "departed", departed);
  json.close_object();
  std::puts(json.text().c_str());
  return 0;
}

int run_models(const Arguments&) {
  for (const CardModel& model : card_models())
    std::printf("%-10s %-28s %7.1f GiB  %7.1f TFLOPS (fp16 dense)\n", std::string(model.key).c_str(),
                std::string(model.name).c_str(), gib(model.vram_bytes), model.fp16_gflops / 1000.0);
  return 0;
}

unsigned living(const std::string& home) {
  unsigned count = 0;
  for (const std::string& path : machine_files(home))
    count += live_processes(path);
  return count;
}

int refuse_while_used(unsigned count) {
  return fail(std::to_string(count) + (count == 1 ? " process uses" : " processes use") +
              " the simulated machine; end them first, or give --force and leave them on the old one");
}

int run_set(const Arguments& arguments) {
  std::string text, message;
  for (const std::string& word : arguments.words)
    text += word + " ";
  std::vector<const CardModel*> models;
  if (!parse_setting(text, models, message))
    return fail(message, 2);
  const std::string home = home_path();
  if (!prepare_home(home, message))
    return fail(message);
  const std::string setting = canonical_setting(models);
  const unsigned count = living(home);
  if (count != 0 && !arguments.has("--force") && setting != current_setting(home))
    return refuse_while_used(count);
  if (!store_setting(home, setting, message))
    return fail(message);
  if (setting_is_overridden())
    std::fprintf(stderr, "aliquot: ALIQUOT_SIMGPU is set here and overrides what was stored\n");
  std::printf("%s\n", setting.c_str());
  return 0;
}

int run_reset(const Arguments& arguments) {
  const std::string home = home_path();
  std::string message;
  if (!prepare_home(home, message))
    return fail(message);
  const unsigned count = living(home);
  if (count != 0 && !arguments.has("--force"))
    return refuse_while_used(count);
  return remove_machine_files(home, message) ? 0 : fail(message);
}

struct Command {
  std::string_view name;
  int (*run)(const Arguments&);
};
constexpr Command kCommands[] = {{"set", run_set},
                                 {"show", run_show},
                                 {"processes", run_processes},
                                 {"record", run_record},
                                 {"models", run_models},
                                 {"reset", run_reset},
                                 {"mig", run_mig},
                                 {"mps", run_mps},
                                 {"timeslice", run_timeslice},
                                 {"fault", run_fault},
                                 {"events", run_events},
                                 {"compute-mode", run_compute_mode},
                                 {"context-memory", run_context_memory}};

} // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  const std::string_view name = argc > 1 ? argv[1] : "";
  for (const Command& command : kCommands)
    if (command.name == name)
      return arguments.parse(argc, argv) ? command.run(arguments) : 2;
  const bool asked = name == "--help" || name == "help";
  std::fputs(kUsage, asked ? stdout : stderr);
  return asked ? 0 : 2;
}
