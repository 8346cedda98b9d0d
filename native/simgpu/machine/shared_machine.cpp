#include "native/simgpu/machine/shared_machine.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "native/simgpu/machine/account.hpp"
#include "native/simgpu/machine/clock.hpp"
#include "native/simgpu/machine/home.hpp"
#include "native/simgpu/machine/machine_files.hpp"
#include "native/simgpu/machine/records.hpp"
#include "native/simgpu/machine/slots.hpp"

namespace aliquot::simgpu::machine {
namespace {

constexpr std::uint64_t kUsualSliceNs = 2'000'000;
constexpr std::uint64_t kReapEveryNs = 10'000'000;

std::uint64_t default_slice_ns() noexcept {
  const char* set = std::getenv("ALIQUOT_SIMGPU_SLICE_US");
  const std::uint64_t wanted = set != nullptr ? std::strtoull(set, nullptr, 10) : 0;
  return wanted == 0
             ? kUsualSliceNs
             : std::clamp(std::min(wanted, kLongestSliceNs) * 1000, kShortestSliceNs, kLongestSliceNs);
}

Card make_card(const CardModel& model, std::uint32_t index, const std::string& place) {
  Card card;
  card.model = &model;
  card.name = std::string(model.name) + " (simulated)";
  card.pci_bus = 0x10 + index;
  const std::string what = place + "\n" + std::to_string(index) + "\n" + std::string(model.key);
  const unsigned long long halves[2] = {stable_hash(what, 1), stable_hash(what, 2)};
  std::memcpy(card.uuid, halves, sizeof card.uuid);
  // The form of a random UUID (RFC 9562, section 5.4): some clients check it.
  card.uuid[6] = static_cast<std::uint8_t>((card.uuid[6] & 0x0f) | 0x40);
  card.uuid[8] = static_cast<std::uint8_t>((card.uuid[8] & 0x3f) | 0x80);
  return card;
}

// CUDA_MPS_PINNED_DEVICE_MEM_LIMIT, "0=2G,1=512M": what a client of MPS may take of a card.
std::uint64_t client_limit(std::uint32_t card) {
  const char* text = std::getenv("CUDA_MPS_PINNED_DEVICE_MEM_LIMIT");
  while (text != nullptr && *text != '\0') {
    char* end = nullptr;
    const unsigned long index = std::strtoul(text, &end, 10);
    if (end == text || *end != '=')
      break;
    const char* const number = end + 1;
    std::uint64_t bytes = std::strtoull(number, &end, 10);
    const char unit = *end;
    if (end == number || (unit != 'G' && unit != 'M'))
      break;
    bytes = std::min(bytes, std::uint64_t{1} << 30) << (unit == 'G' ? 30 : 20);
    if (index == card)
      return bytes;
    text = end[1] == ',' ? end + 2 : nullptr;
  }
  return ~std::uint64_t{0};
}

} // namespace

SharedMachine::SharedMachine(Mapping machine, Mapping host, const std::string& home, std::string setting,
                             const std::vector<const CardModel*>& models)
    : machine_map_(std::move(machine)), host_map_(std::move(host)),
      region_(*machine_map_.as<MachineRegion>()), host_(host_map_.as<HostRegion>()),
      setting_(std::move(setting)), limits_(budget_limits()), mig_(region_, cards_), faults_(region_, cards_),
      journal_(region_, machine_path(home, setting_)) {
  const std::string place = real_path(home) + "\n" + std::to_string(region_.header.uuid_seed);
  for (std::uint32_t index = 0; index < models.size(); ++index)
    cards_.push_back(make_card(*models[index], index, place));
  for (std::uint32_t card = 0; card < cards_.size(); ++card)
    places_.push_back(
        {Mig::unit_of(card), Mig::unit_of(card), cards_[card].model->vram_bytes, client_limit(card)});
}

SharedMachine::~SharedMachine() {
  if (identity_ == 0)
    return;
  if (!guard_.same_process()) {
    // A child's copy: the turns and the slot are its parent's.
    for (const auto& engine : engines_)
      engine->disown();
    journal_.disown();
    return;
  }
  engines_.clear();
  bury(slot_, identity_);
  leave_slot(region_.slots, slot_, identity_);
  if (host_attached_)
    leave_slot(host_->slots, host_slot_, identity_);
}

bool SharedMachine::attach() {
  common::ProcessStatus self;
  common::read_process_status(::getpid(), self);
  reap();
  const std::optional<std::uint32_t> slot =
      claim_slot(region_.slots, self, [this](std::uint32_t claimed) { clear_slot(claimed); });
  if (!slot)
    return false;
  slot_ = *slot;
  identity_ = identity_of(self);
  imports_.emplace(region_.imports, slot_);
  for (std::uint32_t card = 0; card < cards_.size(); ++card)
    engines_.push_back(std::make_unique<Engine>(region_, journal_, Mig::unit_of(card), slot_, identity_,
                                                default_slice_ns()));
  if (host_ != nullptr) {
    reap_host();
    const std::optional<std::uint32_t> host_slot = claim_slot(
        host_->slots, self, [this](std::uint32_t claimed) { account_clear(host_->bytes, claimed); });
    host_attached_ = host_slot.has_value();
    host_slot_ = host_slot.value_or(0);
  }
  return true;
}

bool SharedMachine::usable(std::uint32_t card) const noexcept {
  return identity_ != 0 && card < cards_.size() && guard_.same_process();
}

// ---- the engines

bool SharedMachine::engine_acquire(std::uint32_t card, const std::atomic<bool>& give_up) noexcept {
  return usable(card) && engines_[card]->acquire(give_up);
}

bool SharedMachine::engine_should_yield(std::uint32_t card) noexcept {
  return !usable(card) || engines_[card]->should_yield();
}

void SharedMachine::engine_release(std::uint32_t card) noexcept {
  if (usable(card))
    engines_[card]->release();
}

void SharedMachine::report_kernel_fault(std::uint32_t card, std::uint32_t xid) noexcept try {
  if (!usable(card))
    return;
  const std::optional<ComputeInstance> instance = mig_.instance_at(places_[card].engine_unit);
  faults_.post(card, EventKind::Xid, xid, identity_pid(identity_), instance ? instance->gpu.id : kNoInstance,
               instance ? instance->id : kNoInstance);
} catch (...) { // no memory for the name of an instance: the card does not report it
}

void SharedMachine::count_launch(std::uint32_t card) noexcept {
  if (usable(card))
    region_.usage[slot_][places_[card].engine_unit].launches.fetch_add(1, std::memory_order_relaxed);
}

void SharedMachine::count_copy(std::uint32_t card, Copy direction, std::uint64_t bytes) noexcept {
  const auto index = static_cast<std::size_t>(direction);
  if (usable(card) && index < 3)
    region_.usage[slot_][places_[card].engine_unit].copied[index].fetch_add(bytes, std::memory_order_relaxed);
}

// ---- the dead

void SharedMachine::reap() noexcept {
  last_reap_.store(monotonic_ns());
  reap_dead(region_.slots, [this](std::uint32_t slot, std::uint64_t identity) { bury(slot, identity); });
}

void SharedMachine::reap_host() noexcept {
  reap_dead(host_->slots, [](std::uint32_t, std::uint64_t) {});
}

void SharedMachine::reap_now_and_then() noexcept {
  if (monotonic_ns() - last_reap_.load() > kReapEveryNs)
    reap();
}

// Keeps what a leaving process did, before its slot is free.
void SharedMachine::bury(std::uint32_t slot, std::uint64_t identity) noexcept try {
  for (std::uint32_t unit = 0; unit < units(); ++unit) {
    if (!used(slot, unit))
      continue;
    bury_run(journal_, unit, region_.usage[slot][unit], identity);
    push_departed(region_, identity, record(slot, identity, unit));
  }
} catch (...) { // no memory for the name of an instance: what the process did there is not kept
}

void SharedMachine::clear_slot(std::uint32_t slot) noexcept {
  account_clear(region_.host, slot);
  clear_imports(region_.imports, slot);
  for (std::uint32_t unit = 0; unit < units(); ++unit) {
    Usage& usage = region_.usage[slot][unit];
    // A place that nobody ever used is not even there; to write zeros would make it so.
    if (!used(slot, unit) && usage.present.load() == 0 && account_held(region_.vram[unit], slot) == 0)
      continue;
    account_clear(region_.vram[unit], slot);
    for (Word* word : {&usage.peak, &usage.busy_ns, &usage.launches, &usage.copied[0], &usage.copied[1],
                       &usage.copied[2], &usage.turn, &usage.last_seen, &usage.served, &usage.run_start,
                       &usage.run_end, &usage.run_busy, &usage.present})
      word->store(0);
    busy_clear(usage.busy);
  }
}

// ---- how cards are set

ComputeMode SharedMachine::compute_mode(std::uint32_t card) const noexcept {
  const std::uint64_t mode = card < cards_.size() ? region_.settings[card].compute_mode.load() : 0;
  return mode == 2   ? ComputeMode::Prohibited
         : mode == 3 ? ComputeMode::ExclusiveProcess
                     : ComputeMode::Default;
}

void SharedMachine::set_compute_mode(std::uint32_t card, ComputeMode mode) noexcept {
  if (card < cards_.size())
    region_.settings[card].compute_mode.store(static_cast<std::uint64_t>(mode));
}

bool SharedMachine::mps_enabled(std::uint32_t card) const noexcept {
  return card < cards_.size() && region_.settings[card].mps.load(std::memory_order_relaxed) != 0;
}

void SharedMachine::set_mps(std::uint32_t card, bool enabled) noexcept {
  if (card < cards_.size())
    region_.settings[card].mps.store(enabled ? 1 : 0);
}

std::uint64_t SharedMachine::slice_ns(std::uint32_t card) const noexcept {
  const std::uint64_t set = card < cards_.size() ? region_.settings[card].slice_ns.load() : 0;
  return set == 0 ? default_slice_ns() : std::clamp(set, kShortestSliceNs, kLongestSliceNs);
}

void SharedMachine::set_slice_ns(std::uint32_t card, std::uint64_t ns) noexcept {
  if (card < cards_.size())
    region_.settings[card].slice_ns.store(ns);
}

bool SharedMachine::use_instance(std::uint32_t card, const ComputeInstance& instance) {
  if (!usable(card))
    return false;
  const std::uint32_t memory_unit = Mig::memory_unit(card, instance.gpu),
                      engine_unit = Mig::engine_unit(card, instance);
  Word& present = region_.usage[slot_][engine_unit].present;
  // First the wish, then the look: who takes the instance away does it the other way round, and one of the
  // two sees the other.
  present.store(1);
  const std::optional<ComputeInstance> there = mig_.instance_at(engine_unit);
  if (!there || std::memcmp(there->uuid, instance.uuid, sizeof instance.uuid) != 0) {
    present.store(0);
    return false;
  }
  places_[card].memory_unit = memory_unit;
  places_[card].engine_unit = engine_unit;
  places_[card].memory_bytes = instance.gpu.profile->memory_bytes;
  engines_[card] =
      std::make_unique<Engine>(region_, journal_, engine_unit, slot_, identity_, default_slice_ns());
  return true;
}

bool SharedMachine::may_have_context(std::uint32_t card) const noexcept {
  const std::uint32_t unit = places_[card].engine_unit;
  if (faults_.lost(card) || faults_.reset_needed(card) || (unit % kUnitsPerCard == 0) == mig_.enabled(card))
    return false;
  switch (compute_mode(card)) {
  case ComputeMode::Default:
    return true;
  case ComputeMode::Prohibited:
    return false;
  case ComputeMode::ExclusiveProcess:
    break;
  }
  // The one process of an exclusive card may be the MPS server, for all its clients.
  for (std::uint32_t slot = 0; !mps_enabled(card) && slot < slot_count(region_.slots); ++slot) {
    const std::uint64_t other = live_identity(region_.slots, slot);
    if (slot != slot_ && other != 0 && region_.usage[slot][unit].present.load() > 1 &&
        life_of(other) != Life::Dead)
      return false;
  }
  return true;
}

Status SharedMachine::open_context(std::uint32_t card) noexcept {
  if (!usable(card))
    return Status::Unavailable;
  const std::lock_guard lock(contexts_mutex_);
  Place& place = places_[card];
  Word& present = region_.usage[slot_][place.engine_unit].present;
  const std::uint64_t before = present.exchange(2); // before the look, as in use_instance
  if (!may_have_context(card)) {
    present.store(before);
    return Status::Unavailable;
  }
  ++place.contexts;
  return Status::Ok;
}

void SharedMachine::close_context(std::uint32_t card) noexcept {
  if (!usable(card))
    return;
  const std::lock_guard lock(contexts_mutex_);
  Place& place = places_[card];
  if (place.contexts == 0)
    return;
  --place.contexts;
  if (place.contexts == 0)
    region_.usage[slot_][place.engine_unit].present.store(place.engine_unit % kUnitsPerCard == 0 ? 0 : 1);
}

} // namespace aliquot::simgpu::machine
