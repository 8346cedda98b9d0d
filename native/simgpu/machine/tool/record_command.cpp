// `record`: who had a card's engine, and when, as the card itself recorded it.
#include <algorithm>
#include <cstdio>
#include <ctime>

#include "native/simgpu/machine/clock.hpp"
#include "native/simgpu/machine/mig.hpp"
#include "native/simgpu/machine/tool/commands.hpp"
#include "native/simgpu/machine/tool/json.hpp"

namespace aliquot::simgpu::machine::tool {
namespace {

using Names = std::map<std::uint64_t, RecordBatch::Names>;

void add_names(const std::vector<ProcessRecord>& records, Names& names) {
  for (const ProcessRecord& record : records)
    names[record.identity] = {record.command, record.slice};
}

void write_interval(JsonWriter& json, const BusyInterval& interval, const Names& names) {
  json.open_object();
  json.number("card", interval.unit / 8);
  // Where on the card: 0 is the card itself, an instance (MIG) its first slice plus 1.
  json.number("unit", interval.unit % 8);
  json.number("pid", interval.pid());
  json.number("start_ns", interval.start_ns);
  json.number("end_ns", interval.end_ns);
  json.number("busy_ns", interval.busy_ns);
  json.boolean("overlaps", (interval.flags & kOverlaps) != 0);
  if (const auto found = names.find(interval.identity); found != names.end()) {
    json.string("command", found->second.command);
    json.string("slice", found->second.slice);
  }
  json.close_object();
}

// Everything that is kept, and what has not ended yet.
int snapshot(Machine& machine, std::uint32_t card, std::uint64_t since) {
  RecordPosition start;
  const RecordBatch kept = machine.read_record(card, start, ~std::size_t{0});
  Names names = kept.names;
  add_names(machine.departed(), names);
  add_names(machine.processes(), names);
  if (kept.missing + kept.damaged != 0)
    std::fprintf(stderr, "aliquot: %llu entries of the record are missing, %llu are damaged\n",
                 static_cast<unsigned long long>(kept.missing),
                 static_cast<unsigned long long>(kept.damaged));
  JsonWriter json;
  json.open_array();
  for (const BusyInterval& interval : machine.busy_intervals(card))
    if (interval.end_ns >= since)
      write_interval(json, interval, names);
  json.close_array();
  std::puts(json.text().c_str());
  return 0;
}

// One line for each interval as it ends; a line {"gap":true} where some were lost before they were read.
int follow(Machine& machine, std::uint32_t card, std::uint64_t since, std::uint64_t seconds) {
  RecordPosition position;
  Names names;
  const std::uint64_t end = monotonic_ns() + std::min<std::uint64_t>(seconds, 1'000'000'000) * 1'000'000'000;
  std::uint64_t missing = 0;
  for (bool last = false;; last = monotonic_ns() >= end) {
    const RecordBatch batch = machine.read_record(card, position, 65536);
    for (const auto& [identity, name] : batch.names)
      names[identity] = name;
    if (batch.gap || batch.missing > missing || batch.damaged != 0)
      std::puts("{\"gap\":true}");
    missing = batch.missing;
    for (const BusyInterval& interval : batch.intervals) {
      if (interval.end_ns < since)
        continue;
      JsonWriter json;
      write_interval(json, interval, names);
      std::puts(json.text().c_str());
    }
    if (std::fflush(stdout) != 0 || last)
      return 0;
    const timespec nap{0, 50'000'000};
    if (batch.intervals.empty())
      nanosleep(&nap, nullptr);
  }
}

} // namespace

int run_record(const Arguments& arguments) {
  int status;
  const std::shared_ptr<Machine> machine = look(status);
  if (machine == nullptr)
    return status;
  const auto card = card_of(arguments, *machine);
  const auto since = arguments.number("--since", 0), seconds = arguments.number("--seconds", 1'000'000'000);
  if (!card || !since || !seconds)
    return card ? 2 : 1;
  return arguments.has("--follow") ? follow(*machine, *card, *since, *seconds)
                                   : snapshot(*machine, *card, *since);
}

} // namespace aliquot::simgpu::machine::tool
