// What happened: records of processes, the journal of who had an engine when, utilisation.
#include <algorithm>
#include <cstring>

#include "native/simgpu/machine/account.hpp"
#include "native/simgpu/machine/clock.hpp"
#include "native/simgpu/machine/records.hpp"
#include "native/simgpu/machine/shared_machine.hpp"
#include "native/simgpu/machine/slots.hpp"

namespace aliquot::simgpu::machine {
namespace {

template <std::size_t Size>
void copy_bounded(const char (&from)[Size], char (&to)[Size]) noexcept {
  std::memcpy(to, from, Size);
  to[Size - 1] = '\0';
}

std::uint32_t percent_of_second(std::uint64_t busy_ns) noexcept {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>((busy_ns + 5'000'000) / 10'000'000, 100));
}

} // namespace

std::uint32_t SharedMachine::units() const noexcept {
  return static_cast<std::uint32_t>(cards_.size()) * kUnitsPerCard;
}

bool SharedMachine::used(std::uint32_t slot, std::uint32_t unit) const noexcept {
  const Usage& usage = region_.usage[slot][unit];
  return (usage.peak.load() | usage.busy_ns.load() | usage.launches.load() | usage.copied[0].load() |
          usage.copied[1].load() | usage.copied[2].load() | usage.run_start.load()) != 0;
}

ProcessRecord SharedMachine::record(std::uint32_t slot, std::uint64_t identity, std::uint32_t unit) const {
  const Usage& usage = region_.usage[slot][unit];
  const SlotTable::Detail& detail = region_.slots.detail[slot];
  ProcessRecord record;
  record.identity = identity;
  record.pid = identity_pid(identity);
  record.start_time = detail.start_ticks.load();
  record.card = unit / kUnitsPerCard;
  std::uint32_t memory_unit = unit;
  if (const std::optional<ComputeInstance> instance = mig_.instance_at(unit)) {
    record.gpu_instance = instance->gpu.id;
    record.compute_instance = instance->id;
    memory_unit = Mig::memory_unit(record.card, instance->gpu);
  }
  record.has_context = usage.present.load() > 1;
  record.vram_bytes = account_held(region_.vram[memory_unit], slot) +
                      orphaned_bytes(region_.slots, region_.imports, memory_unit, slot);
  record.peak_vram_bytes = usage.peak.load();
  record.busy_ns = usage.busy_ns.load();
  record.launches = usage.launches.load();
  record.copied_to_device = usage.copied[static_cast<std::size_t>(Copy::ToDevice)].load();
  record.copied_to_host = usage.copied[static_cast<std::size_t>(Copy::ToHost)].load();
  record.copied_on_device = usage.copied[static_cast<std::size_t>(Copy::OnDevice)].load();
  copy_bounded(detail.command, record.command);
  copy_bounded(detail.slice, record.slice);
  return record;
}

std::vector<ProcessRecord> SharedMachine::processes() {
  reap();
  std::vector<ProcessRecord> records;
  for (std::uint32_t slot = 0; slot < slot_count(region_.slots); ++slot) {
    const std::uint64_t identity = live_identity(region_.slots, slot);
    for (std::uint32_t unit = 0; identity != 0 && unit < units(); ++unit)
      if (used(slot, unit) || region_.usage[slot][unit].present.load() > 1)
        records.push_back(record(slot, identity, unit));
  }
  return records;
}

std::vector<ProcessRecord> SharedMachine::departed() {
  reap();
  std::vector<ProcessRecord> records = read_departed(region_);
  std::erase_if(records, [this](const ProcessRecord& record) { return record.card >= cards_.size(); });
  return records;
}

RecordBatch SharedMachine::read_record(std::uint32_t card, RecordPosition& position, std::size_t most) {
  return card < cards_.size() ? journal_.read(card, position, most) : RecordBatch{};
}

std::vector<BusyInterval> SharedMachine::busy_intervals(std::uint32_t card) {
  if (card >= cards_.size())
    return {};
  reap();
  RecordPosition start;
  std::vector<BusyInterval> intervals = journal_.read(card, start, ~std::size_t{0}).intervals;
  // Runs that are still open, or that the next one may extend.
  for (std::uint32_t slot = 0; slot < slot_count(region_.slots); ++slot) {
    const std::uint64_t identity = live_identity(region_.slots, slot);
    for (std::uint32_t unit = Mig::unit_of(card); identity != 0 && unit < Mig::unit_of(card + 1); ++unit) {
      const Usage& usage = region_.usage[slot][unit];
      const std::uint64_t began = usage.run_start.load(), closed = usage.run_end.load();
      const std::uint64_t end = closed != 0 ? closed : usage.last_seen.load();
      if (began != 0 && end > began)
        intervals.push_back(
            {identity, began, end, usage.run_busy.load(), unit, mps_enabled(card) ? kOverlaps : 0});
    }
  }
  sort_and_drop_doubles(intervals);
  return intervals;
}

// A card that is divided is as busy as its instances are on average, each by its share.
std::uint32_t SharedMachine::utilisation_percent(std::uint32_t card) noexcept {
  if (card >= cards_.size())
    return 0;
  const std::uint64_t now = monotonic_ns();
  std::uint64_t busy = busy_last_second(region_.engine[Mig::unit_of(card)].busy, now);
  if (mig_.enabled(card))
    for (std::uint32_t unit = Mig::unit_of(card) + 1; unit < Mig::unit_of(card + 1); ++unit)
      busy += busy_last_second(region_.engine[unit].busy, now) / (kUnitsPerCard - 1);
  return percent_of_second(busy);
}

std::uint32_t SharedMachine::process_utilisation_percent(std::uint32_t card, std::int32_t pid) noexcept {
  std::uint64_t busy = 0;
  for (std::uint32_t slot = 0; card < cards_.size() && slot < slot_count(region_.slots); ++slot) {
    const std::uint64_t identity = live_identity(region_.slots, slot);
    if (identity == 0 || identity_pid(identity) != pid)
      continue;
    for (std::uint32_t unit = Mig::unit_of(card); unit < Mig::unit_of(card + 1); ++unit)
      busy += busy_last_second(region_.usage[slot][unit].busy, monotonic_ns());
  }
  return percent_of_second(busy);
}

std::uint64_t SharedMachine::busy_ns(std::uint32_t card) noexcept {
  std::uint64_t busy = 0;
  for (std::uint32_t unit = Mig::unit_of(card); card < cards_.size() && unit < Mig::unit_of(card + 1); ++unit)
    busy += region_.engine[unit].busy_ns.load();
  return busy;
}

} // namespace aliquot::simgpu::machine
