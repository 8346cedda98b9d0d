#include "native/simgpu/machine/shared_machine.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <optional>

#include "native/common/log.hpp"
#include "native/simgpu/machine/account.hpp"
#include "native/simgpu/machine/clock.hpp"
#include "native/simgpu/machine/home.hpp"
#include "native/simgpu/machine/records.hpp"
#include "native/simgpu/machine/slots.hpp"

namespace aliquot::simgpu::machine {
namespace {

constexpr std::uint64_t kReapEveryNs = 10'000'000;
constexpr std::uint64_t kComplainEveryNs = 10'000'000'000;
constexpr std::uint64_t kReadFreeEveryNs = 10'000'000;
// Smaller requests are not worth looking for; their sum is within the budget.
constexpr std::uint64_t kCheckFreeFrom = 16ULL << 20;

std::uint64_t slice_ns() noexcept {
  const char* set = std::getenv("ALIQUOT_SIMGPU_SLICE_US");
  const std::uint64_t wanted = set != nullptr ? std::strtoull(set, nullptr, 10) : 0;
  return (wanted == 0 ? 2000 : std::clamp<std::uint64_t>(wanted, 100, 1'000'000)) * 1000;
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

template <std::size_t Size>
void copy_bounded(const char (&from)[Size], char (&to)[Size]) noexcept {
  std::memcpy(to, from, Size);
  to[Size - 1] = '\0';
}

void raise_to(Word& word, std::uint64_t value) noexcept {
  std::uint64_t now = word.load();
  while (now < value && !word.compare_exchange_weak(now, value)) {
  }
}

std::uint32_t percent_of_second(std::uint64_t busy_ns) noexcept {
  return static_cast<std::uint32_t>(std::min<std::uint64_t>((busy_ns + 5'000'000) / 10'000'000, 100));
}

unsigned long long mib(std::uint64_t bytes) noexcept {
  return bytes >> 20;
}

} // namespace

SharedMachine::SharedMachine(Mapping machine, Mapping host, const std::string& home, std::string setting,
                             const std::vector<const CardModel*>& models)
    : machine_map_(std::move(machine)), host_map_(std::move(host)),
      region_(*machine_map_.as<MachineRegion>()), host_(host_map_.as<HostRegion>()),
      setting_(std::move(setting)), limits_(budget_limits()) {
  const std::string place = real_path(home) + "\n" + std::to_string(region_.header.uuid_seed);
  for (std::uint32_t index = 0; index < models.size(); ++index)
    cards_.push_back(make_card(*models[index], index, place));
}

SharedMachine::~SharedMachine() {
  if (identity_ == 0)
    return;
  if (!guard_.same_process()) {
    // A child's copy: the turns and the slot are its parent's.
    for (const auto& engine : engines_)
      engine->disown();
    return;
  }
  engines_.clear();
  bury(slot_, identity_);
  leave_slot(region_.slots, slot_, identity_);
  if (host_attached_)
    leave_slot(host_->slots, host_slot_, identity_);
}

bool SharedMachine::attach() {
  ProcessFacts self;
  if (!read_process(::getpid(), self) || self.state == 0)
    self.pid = ::getpid();
  reap();
  const std::optional<std::uint32_t> slot =
      claim_slot(region_.slots, self, [this](std::uint32_t claimed) { clear_slot(claimed); });
  if (!slot)
    return false;
  slot_ = *slot;
  identity_ = identity_of(self);
  for (std::uint32_t card = 0; card < cards_.size(); ++card)
    engines_.push_back(std::make_unique<Engine>(region_, card, slot_, identity_, slice_ns()));
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

// ---- memory
// ----------------------------------------------------------------------------------------------------

Status SharedMachine::reserve(std::uint32_t card, std::uint64_t bytes) noexcept {
  if (!usable(card))
    return Status::Unavailable;
  const std::lock_guard lock(reserving_);
  Account& account = region_.vram[card];
  if (!account_take(region_.slots, account, slot_, bytes, cards_[card].model->vram_bytes, [this] { reap(); }))
    return Status::OutOfVram;
  if (!fits_host(bytes)) {
    account_give(account, slot_, bytes);
    return Status::OutOfHostBudget;
  }
  raise_to(region_.usage[slot_][card].peak, account_held(account, slot_));
  return Status::Ok;
}

bool SharedMachine::fits_host(std::uint64_t bytes) noexcept {
  if (!account_take(region_.slots, region_.host, slot_, bytes, limits_.home, [this] { reap(); })) {
    refuse_budget(bytes, limits_.home, account_used(region_.slots, region_.host), "this simulated machine");
    return false;
  }
  if (host_attached_ &&
      !account_take(host_->slots, host_->bytes, host_slot_, bytes, limits_.user, [this] { reap_host(); })) {
    refuse_budget(bytes, limits_.user, account_used(host_->slots, host_->bytes),
                  "your simulated machines together");
    account_give(region_.host, slot_, bytes);
    return false;
  }
  if (host_has_free(bytes))
    return true;
  give_host(bytes);
  return false;
}

// One line in a while, however often a program asks.
bool SharedMachine::may_complain() noexcept {
  const std::uint64_t now = monotonic_ns();
  std::uint64_t last = last_complaint_.load();
  return (last == 0 || now - last > kComplainEveryNs) && last_complaint_.compare_exchange_strong(last, now);
}

bool SharedMachine::host_has_free(std::uint64_t bytes) noexcept {
  if (bytes < kCheckFreeFrom)
    return true;
  const std::uint64_t now = monotonic_ns();
  if (now - host_memory_read_ > kReadFreeEveryNs || bytes > host_memory_.available) {
    host_memory_ = read_host_memory();
    host_memory_read_ = now;
  }
  const HostMemory& memory = host_memory_;
  if (memory.total == 0 || bytes <= memory.available)
    return true;
  if (may_complain())
    common::log_line(
        common::LogLevel::Warning,
        "refused %llu MiB of simulated VRAM: host memory backs it, and only %llu MiB of that are free. "
        "Close other programs, or use less.",
        mib(bytes), mib(memory.available));
  return false;
}

void SharedMachine::refuse_budget(std::uint64_t bytes, std::uint64_t limit, std::uint64_t held,
                                  const char* whose) noexcept {
  if (may_complain())
    common::log_line(
        common::LogLevel::Warning,
        "refused %llu MiB of simulated VRAM: host memory backs it, and %s may take %llu MiB of it, of "
        "which %llu MiB are reserved. ALIQUOT_SIMGPU_HOST_BYTES (for example %lluGiB) raises the budget.",
        mib(bytes), whose, mib(limit), mib(held), (mib(held + bytes) >> 10) + 1);
}

void SharedMachine::release(std::uint32_t card, std::uint64_t bytes) noexcept {
  if (usable(card))
    give_host(account_give(region_.vram[card], slot_, bytes));
}

void SharedMachine::give_host(std::uint64_t bytes) noexcept {
  account_give(region_.host, slot_, bytes);
  if (host_attached_)
    account_give(host_->bytes, host_slot_, bytes);
}

VramInfo SharedMachine::vram(std::uint32_t card) noexcept {
  if (card >= cards_.size())
    return {};
  reap_now_and_then();
  const std::uint64_t total = cards_[card].model->vram_bytes;
  return {total, std::min(total, account_used(region_.slots, region_.vram[card]))};
}

HostBudget SharedMachine::host_budget() {
  reap();
  HostBudget budget{limits_.home, account_used(region_.slots, region_.host), 0};
  if (host_ != nullptr) {
    reap_host();
    budget.reserved_by_user = account_used(host_->slots, host_->bytes);
  }
  return budget;
}

// ---- the engines
// -----------------------------------------------------------------------------------------------

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

void SharedMachine::count_launch(std::uint32_t card) noexcept {
  if (usable(card))
    region_.usage[slot_][card].launches.fetch_add(1, std::memory_order_relaxed);
}

void SharedMachine::count_copy(std::uint32_t card, Copy direction, std::uint64_t bytes) noexcept {
  const auto index = static_cast<std::size_t>(direction);
  if (usable(card) && index < 3)
    region_.usage[slot_][card].copied[index].fetch_add(bytes, std::memory_order_relaxed);
}

// ---- the dead
// --------------------------------------------------------------------------------------------------

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
void SharedMachine::bury(std::uint32_t slot, std::uint64_t identity) noexcept {
  for (std::uint32_t card = 0; card < cards_.size(); ++card) {
    if (!used(slot, card))
      continue;
    bury_run(region_.engine[card], region_.usage[slot][card], identity);
    push_departed(region_, identity, record(slot, identity, card));
  }
}

void SharedMachine::clear_slot(std::uint32_t slot) noexcept {
  account_clear(region_.host, slot);
  for (std::uint32_t card = 0; card < cards_.size(); ++card) {
    account_clear(region_.vram[card], slot);
    Usage& usage = region_.usage[slot][card];
    for (Word* word :
         {&usage.peak, &usage.busy_ns, &usage.launches, &usage.copied[0], &usage.copied[1], &usage.copied[2],
          &usage.turn, &usage.last_seen, &usage.served, &usage.run_start, &usage.run_end, &usage.run_busy})
      word->store(0);
    busy_clear(usage.busy);
  }
}

// ---- what happened
// ---------------------------------------------------------------------------------------------

bool SharedMachine::used(std::uint32_t slot, std::uint32_t card) const noexcept {
  const Usage& usage = region_.usage[slot][card];
  return (usage.peak.load() | usage.busy_ns.load() | usage.launches.load() | usage.copied[0].load() |
          usage.copied[1].load() | usage.copied[2].load()) != 0;
}

ProcessRecord SharedMachine::record(std::uint32_t slot, std::uint64_t identity,
                                    std::uint32_t card) const noexcept {
  const Usage& usage = region_.usage[slot][card];
  const SlotTable::Detail& detail = region_.slots.detail[slot];
  ProcessRecord record;
  record.pid = identity_pid(identity);
  record.start_time = detail.start_ticks.load();
  record.card = card;
  record.vram_bytes = account_held(region_.vram[card], slot);
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
    for (std::uint32_t card = 0; identity != 0 && card < cards_.size(); ++card)
      if (used(slot, card))
        records.push_back(record(slot, identity, card));
  }
  return records;
}

std::vector<ProcessRecord> SharedMachine::departed() {
  reap();
  std::vector<ProcessRecord> records = read_departed(region_);
  std::erase_if(records, [this](const ProcessRecord& record) { return record.card >= cards_.size(); });
  return records;
}

std::vector<BusyInterval> SharedMachine::busy_intervals(std::uint32_t card) {
  if (card >= cards_.size())
    return {};
  reap();
  std::vector<BusyInterval> intervals = read_intervals(region_.engine[card]);
  // Runs that are still open, or that the next one may extend.
  for (std::uint32_t slot = 0; slot < slot_count(region_.slots); ++slot) {
    const std::uint64_t identity = live_identity(region_.slots, slot);
    const Usage& usage = region_.usage[slot][card];
    const std::uint64_t start = usage.run_start.load(), closed = usage.run_end.load();
    const std::uint64_t end = closed != 0 ? closed : usage.last_seen.load();
    if (identity != 0 && start != 0 && end > start)
      intervals.push_back({identity, start, end, usage.run_busy.load()});
  }
  std::sort(intervals.begin(), intervals.end(),
            [](const BusyInterval& a, const BusyInterval& b) { return a.start_ns < b.start_ns; });
  return intervals;
}

std::uint32_t SharedMachine::utilisation_percent(std::uint32_t card) noexcept {
  if (card >= cards_.size())
    return 0;
  return percent_of_second(busy_last_second(region_.engine[card].busy, monotonic_ns()));
}

std::uint32_t SharedMachine::process_utilisation_percent(std::uint32_t card, std::int32_t pid) noexcept {
  std::uint64_t busy = 0;
  for (std::uint32_t slot = 0; card < cards_.size() && slot < slot_count(region_.slots); ++slot) {
    const std::uint64_t identity = live_identity(region_.slots, slot);
    if (identity != 0 && identity_pid(identity) == pid)
      busy += busy_last_second(region_.usage[slot][card].busy, monotonic_ns());
  }
  return percent_of_second(busy);
}

std::uint64_t SharedMachine::busy_ns(std::uint32_t card) noexcept {
  return card < cards_.size() ? region_.engine[card].busy_ns.load() : 0;
}

} // namespace aliquot::simgpu::machine
