// The division of a card, packed into one word:
//   bit 0        MIG mode
//   bits 8..39   for each memory slice, 4 bits: 1 + the profile of the GPU instance that starts there
//   bits 40..63  for each compute slice, 3 bits: the size of the compute instance that starts there
// A GPU instance's compute slices begin where its memory slices do, and it has at least as many of the
// latter.
#include "native/simgpu/machine/mig.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>

#include "native/simgpu/machine/account.hpp"
#include "native/simgpu/machine/clock.hpp"
#include "native/simgpu/machine/faults.hpp"
#include "native/simgpu/machine/home.hpp"
#include "native/simgpu/machine/machine.hpp"
#include "native/simgpu/machine/process_identity.hpp"
#include "native/simgpu/machine/records.hpp"
#include "native/simgpu/machine/slots.hpp"

namespace aliquot::simgpu::machine {
namespace {

constexpr std::uint32_t kPlaces = 8;
constexpr std::uint32_t kComputeSizes[] = {0, 1, 2, 3, 4, 7, 0, 0}; // by their code

std::uint32_t profile_code(std::uint64_t word, std::uint32_t place) noexcept {
  return static_cast<std::uint32_t>(word >> (8 + 4 * place) & 0xf);
}
std::uint32_t compute_code(std::uint64_t word, std::uint32_t place) noexcept {
  return static_cast<std::uint32_t>(word >> (40 + 3 * place) & 0x7);
}
std::uint64_t with_profile(std::uint64_t word, std::uint32_t place, std::uint32_t code) noexcept {
  return (word & ~(std::uint64_t{0xf} << (8 + 4 * place))) | std::uint64_t{code} << (8 + 4 * place);
}
std::uint64_t with_compute(std::uint64_t word, std::uint32_t place, std::uint32_t code) noexcept {
  return (word & ~(std::uint64_t{0x7} << (40 + 3 * place))) | std::uint64_t{code} << (40 + 3 * place);
}

std::uint32_t code_of_size(std::uint32_t slices) noexcept {
  for (std::uint32_t code = 1; code < 6; ++code)
    if (kComputeSizes[code] == slices)
      return code;
  return 0;
}

// Places in the binary tree of halves: the whole is 0, its halves 1 and 2, and so on.
std::uint32_t gpu_instance_id(const CardModel& model, const MigProfile& profile,
                              std::uint32_t start) noexcept {
  return model.mig_memory_slices / profile.memory_slices - 1 + start / profile.memory_slices;
}

std::optional<GpuInstance> gpu_at(const CardModel& model, std::uint64_t word, std::uint32_t place) noexcept {
  const std::uint32_t code = profile_code(word, place);
  if (code == 0 || code > model.mig_profiles.size())
    return std::nullopt;
  const MigProfile& profile = model.mig_profiles[code - 1];
  return GpuInstance{gpu_instance_id(model, profile, place), &profile, place};
}

std::vector<GpuInstance> gpus_in(const CardModel& model, std::uint64_t word) {
  std::vector<GpuInstance> found;
  for (std::uint32_t place = 0; place < kPlaces; ++place)
    if (const std::optional<GpuInstance> gpu = gpu_at(model, word, place))
      found.push_back(*gpu);
  std::sort(found.begin(), found.end(),
            [](const GpuInstance& a, const GpuInstance& b) { return a.id < b.id; });
  return found;
}

// A UUID made from names (RFC 9562, section 5.5): the same place of the same card has the same one.
void derive_uuid(const Card& card, std::uint32_t gpu, std::uint32_t compute, std::uint8_t (&uuid)[16]) {
  std::string what(reinterpret_cast<const char*>(card.uuid), sizeof card.uuid);
  what += "/" + std::to_string(gpu) + "/" + std::to_string(compute);
  const unsigned long long halves[2] = {stable_hash(what, 5), stable_hash(what, 6)};
  std::memcpy(uuid, halves, sizeof uuid);
  uuid[6] = static_cast<std::uint8_t>((uuid[6] & 0x0f) | 0x50);
  uuid[8] = static_cast<std::uint8_t>((uuid[8] & 0x3f) | 0x80);
}

ComputeInstance make_compute(const Card& card, const GpuInstance& gpu, std::uint32_t start,
                             std::uint32_t slices) {
  ComputeInstance made;
  made.id = start;
  made.gpu = gpu;
  made.slices = slices;
  made.start = start;
  made.sm_count = compute_sm_count(*card.model, *gpu.profile, slices);
  derive_uuid(card, gpu.id, made.id, made.uuid);
  made.name = gpu.profile->name;
  if (slices != gpu.profile->compute_slices)
    made.name = std::to_string(slices) + "c." + made.name;
  return made;
}

std::vector<ComputeInstance> computes_in(const Card& card, const GpuInstance& gpu, std::uint64_t word) {
  std::vector<ComputeInstance> found;
  for (std::uint32_t start = 0; start < gpu.profile->compute_slices && gpu.start + start < kPlaces; ++start)
    if (const std::uint32_t slices = kComputeSizes[compute_code(word, gpu.start + start)]; slices != 0)
      found.push_back(make_compute(card, gpu, start, std::min(slices, gpu.profile->compute_slices)));
  return found;
}

// The memory slices that GPU instances take, as bits.
std::uint32_t taken_memory(const CardModel& model, std::uint64_t word) {
  std::uint32_t taken = 0;
  for (const GpuInstance& gpu : gpus_in(model, word))
    taken |= ((1u << gpu.profile->memory_slices) - 1) << gpu.start;
  return taken;
}

std::uint32_t taken_compute(const Card& card, const GpuInstance& gpu, std::uint64_t word) {
  std::uint32_t taken = 0;
  for (const ComputeInstance& compute : computes_in(card, gpu, word))
    taken |= ((1u << compute.slices) - 1) << compute.start;
  return taken;
}

// The first place of those allowed where `size` slices are free; kPlaces: none.
std::uint32_t find_place(std::uint32_t allowed, std::uint32_t taken, std::uint32_t size,
                         std::optional<std::uint32_t> wanted) noexcept {
  for (std::uint32_t place = 0; place < kPlaces; ++place)
    if ((allowed >> place & 1) != 0 && (!wanted || *wanted == place) &&
        (taken & ((1u << size) - 1) << place) == 0)
      return place;
  return kPlaces;
}

// Where compute instances of a size may start: at multiples of it, as far as they fit; three start as four
// do.
std::uint32_t compute_places(std::uint32_t whole, std::uint32_t slices) noexcept {
  const std::uint32_t step = slices == 3 ? 4 : slices;
  std::uint32_t places = 0;
  for (std::uint32_t start = 0; start + slices <= whole; start += step)
    places |= 1u << start;
  return places;
}

std::uint32_t count_places(std::uint32_t allowed, std::uint32_t taken, std::uint32_t size) noexcept {
  std::uint32_t count = 0;
  for (std::uint32_t place = 0; (place = find_place(allowed, taken, size, std::nullopt)) < kPlaces; ++count)
    taken |= ((1u << size) - 1) << place;
  return count;
}

std::uint32_t count_profile(const std::vector<GpuInstance>& gpus, const MigProfile& profile) noexcept {
  return static_cast<std::uint32_t>(std::count_if(
      gpus.begin(), gpus.end(), [&](const GpuInstance& gpu) { return gpu.profile == &profile; }));
}

} // namespace

std::uint32_t nvml_profile(const MigProfile& profile) noexcept {
  const bool media = profile.name.ends_with("+me");
  switch (profile.compute_slices) {
  case 1:
    return media ? 7 : profile.memory_slices == 1 ? 0 : 9;
  case 2:
    return media ? 8 : 1;
  case 3:
    return 2;
  case 4:
    return 3;
  default:
    return 4;
  }
}

const MigProfile* find_mig_profile(const CardModel& model, std::string_view name_or_id) noexcept {
  std::uint32_t id = kNoInstance;
  const auto [end, error] = std::from_chars(name_or_id.data(), name_or_id.data() + name_or_id.size(), id);
  if (error != std::errc() || end != name_or_id.data() + name_or_id.size())
    id = kNoInstance;
  for (const MigProfile& profile : model.mig_profiles)
    if (profile.name == name_or_id || profile.id == id)
      return &profile;
  return nullptr;
}

std::uint32_t compute_capacity(const MigProfile& profile, std::uint32_t slices) noexcept {
  if (slices > profile.compute_slices || code_of_size(slices) == 0)
    return 0;
  return count_places(compute_places(profile.compute_slices, slices), 0, slices);
}

std::vector<std::uint32_t> compute_placements(const MigProfile& profile, std::uint32_t slices) {
  std::vector<std::uint32_t> starts;
  const std::uint32_t places = code_of_size(slices) != 0 ? compute_places(profile.compute_slices, slices) : 0;
  for (std::uint32_t start = 0; start < kPlaces; ++start)
    if ((places >> start & 1) != 0)
      starts.push_back(start);
  return starts;
}

std::uint32_t compute_sm_count(const CardModel& model, const MigProfile& profile,
                               std::uint32_t slices) noexcept {
  if (slices >= profile.compute_slices || model.mig_profiles.empty())
    return profile.sm_count;
  return std::min(profile.sm_count, slices * model.mig_profiles[0].sm_count);
}

std::string mig_uuid_text(const std::uint8_t (&u)[16]) {
  char text[48];
  std::snprintf(text, sizeof text, "MIG-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13], u[14],
                u[15]);
  return text;
}

const CardModel& Mig::model(std::uint32_t card) const noexcept {
  return *cards_[card].model;
}

// Whether a living process uses the place. What the dead have left does not count.
bool Mig::present(std::uint32_t unit) const noexcept {
  for (std::uint32_t slot = 0; slot < slot_count(region_.slots); ++slot) {
    const std::uint64_t identity = live_identity(region_.slots, slot);
    if (identity != 0 && region_.usage[slot][unit].present.load() != 0 && life_of(identity) != Life::Dead)
      return true;
  }
  return false;
}

// `edit` turns the old word into the new one or refuses.
template <typename Change>
MigStatus Mig::change(std::uint32_t card, Change&& edit) {
  if (card >= cards_.size())
    return MigStatus::Invalid;
  if (model(card).mig_memory_slices == 0)
    return MigStatus::NotSupported;
  Word& word = region_.settings[card].mig;
  std::uint64_t before = word.load();
  for (;;) {
    std::uint64_t after = before;
    if (const MigStatus refused = edit(after); refused != MigStatus::Ok)
      return refused;
    if (after == before)
      return MigStatus::Ok;
    if (word.compare_exchange_strong(before, after))
      break;
  }
  Faults(region_, cards_).post(card, EventKind::MigConfig, word.load());
  return MigStatus::Ok;
}

bool Mig::enabled(std::uint32_t card) const noexcept {
  return card < cards_.size() && model(card).mig_memory_slices != 0 &&
         (region_.settings[card].mig.load() & 1) != 0;
}

MigStatus Mig::set_mode(std::uint32_t card, bool enable) {
  return change(card, [&](std::uint64_t& word) {
    if (((word & 1) != 0) == enable)
      return MigStatus::Ok;
    if (word >> 8 != 0 || present(unit_of(card)))
      return MigStatus::InUse;
    word = enable ? 1 : 0;
    return MigStatus::Ok;
  });
}

std::vector<GpuInstance> Mig::gpu_instances(std::uint32_t card) const {
  return enabled(card) ? gpus_in(model(card), region_.settings[card].mig.load()) : std::vector<GpuInstance>{};
}

MigStatus Mig::create_gpu_instance(std::uint32_t card, const MigProfile& profile,
                                   std::optional<std::uint32_t> start, GpuInstance& made) {
  return change(card, [&](std::uint64_t& word) {
    const CardModel& facts = model(card);
    const auto code = static_cast<std::uint32_t>(&profile - facts.mig_profiles.data());
    if (code >= facts.mig_profiles.size() ||
        (start && (*start >= kPlaces || (profile.placements >> *start & 1) == 0)))
      return MigStatus::Invalid;
    if ((word & 1) == 0)
      return MigStatus::Disabled;
    const std::uint32_t place =
        find_place(profile.placements, taken_memory(facts, word), profile.memory_slices, start);
    if (place == kPlaces || count_profile(gpus_in(facts, word), profile) >= profile.instances)
      return MigStatus::NoRoom;
    word = with_profile(word, place, code + 1);
    made = {gpu_instance_id(facts, profile, place), &profile, place};
    return MigStatus::Ok;
  });
}

MigStatus Mig::destroy_gpu_instance(std::uint32_t card, std::uint32_t id) {
  return change(card, [&](std::uint64_t& word) {
    for (const GpuInstance& gpu : gpus_in(model(card), word)) {
      if (gpu.id != id)
        continue;
      if (!computes_in(cards_[card], gpu, word).empty())
        return MigStatus::InUse;
      word = with_profile(word, gpu.start, 0);
      return MigStatus::Ok;
    }
    return (word & 1) == 0 ? MigStatus::Disabled : MigStatus::NotFound;
  });
}

std::uint32_t Mig::remaining(std::uint32_t card, const MigProfile& profile) const {
  if (!enabled(card))
    return 0;
  const std::uint64_t word = region_.settings[card].mig.load();
  const std::uint32_t used = count_profile(gpus_in(model(card), word), profile);
  const std::uint32_t fit =
      count_places(profile.placements, taken_memory(model(card), word), profile.memory_slices);
  return std::min(fit, profile.instances - std::min(used, profile.instances));
}

std::vector<ComputeInstance> Mig::compute_instances(std::uint32_t card) const {
  std::vector<ComputeInstance> found;
  if (!enabled(card))
    return found;
  const std::uint64_t word = region_.settings[card].mig.load();
  for (const GpuInstance& gpu : gpus_in(model(card), word))
    for (ComputeInstance& compute : computes_in(cards_[card], gpu, word))
      found.push_back(std::move(compute));
  return found;
}

MigStatus Mig::create_compute_instance(std::uint32_t card, std::uint32_t gpu_instance, std::uint32_t slices,
                                       std::optional<std::uint32_t> start, ComputeInstance& made) {
  return change(card, [&](std::uint64_t& word) {
    for (const GpuInstance& gpu : gpus_in(model(card), word)) {
      if (gpu.id != gpu_instance)
        continue;
      const std::uint32_t places = compute_places(gpu.profile->compute_slices, slices);
      if (code_of_size(slices) == 0 || places == 0 || (start && (places >> (*start & 31) & 1) == 0))
        return MigStatus::Invalid;
      const std::uint32_t place = find_place(places, taken_compute(cards_[card], gpu, word), slices, start);
      if (place == kPlaces)
        return MigStatus::NoRoom;
      made = make_compute(cards_[card], gpu, place, slices);
      // A process that was let in just as the last instance here was destroyed.
      if (present(engine_unit(card, made)))
        return MigStatus::InUse;
      word = with_compute(word, gpu.start + place, code_of_size(slices));
      return MigStatus::Ok;
    }
    return (word & 1) == 0 ? MigStatus::Disabled : MigStatus::NotFound;
  });
}

MigStatus Mig::destroy_compute_instance(std::uint32_t card, std::uint32_t gpu_instance, std::uint32_t id) {
  return change(card, [&](std::uint64_t& word) {
    for (const GpuInstance& gpu : gpus_in(model(card), word))
      for (const ComputeInstance& compute : computes_in(cards_[card], gpu, word)) {
        if (gpu.id != gpu_instance || compute.id != id)
          continue;
        if (present(engine_unit(card, compute)))
          return MigStatus::InUse;
        word = with_compute(word, gpu.start + compute.start, 0);
        return MigStatus::Ok;
      }
    return (word & 1) == 0 ? MigStatus::Disabled : MigStatus::NotFound;
  });
}

std::uint32_t Mig::remaining_compute(std::uint32_t card, std::uint32_t gpu_instance,
                                     std::uint32_t slices) const {
  const std::uint64_t word = card < cards_.size() ? region_.settings[card].mig.load() : 0;
  for (const GpuInstance& gpu : gpu_instances(card))
    if (gpu.id == gpu_instance && code_of_size(slices) != 0)
      return count_places(compute_places(gpu.profile->compute_slices, slices),
                          taken_compute(cards_[card], gpu, word), slices);
  return 0;
}

VramInfo Mig::vram(std::uint32_t card, const GpuInstance& instance) const noexcept {
  const std::uint64_t total = instance.profile->memory_bytes;
  return {total, std::min(total, account_used(region_.slots, region_.vram[memory_unit(card, instance)]))};
}

std::uint32_t Mig::utilisation_percent(std::uint32_t card, const ComputeInstance& instance) const noexcept {
  const std::uint64_t busy =
      busy_last_second(region_.engine[engine_unit(card, instance)].busy, monotonic_ns());
  return static_cast<std::uint32_t>(std::min<std::uint64_t>((busy + 5'000'000) / 10'000'000, 100));
}

std::uint64_t Mig::busy_ns(std::uint32_t card, const ComputeInstance& instance) const noexcept {
  return region_.engine[engine_unit(card, instance)].busy_ns.load();
}

std::uint32_t Mig::memory_unit(std::uint32_t card, const GpuInstance& instance) noexcept {
  return unit_of(card) + 1 + instance.start % (kUnitsPerCard - 1);
}

std::uint32_t Mig::engine_unit(std::uint32_t card, const ComputeInstance& instance) noexcept {
  return unit_of(card) + 1 + (instance.gpu.start + instance.start) % (kUnitsPerCard - 1);
}

std::optional<ComputeInstance> Mig::instance_at(std::uint32_t unit) const {
  if (unit % kUnitsPerCard != 0)
    for (ComputeInstance& compute : compute_instances(unit / kUnitsPerCard))
      if (engine_unit(unit / kUnitsPerCard, compute) == unit)
        return std::move(compute);
  return std::nullopt;
}

} // namespace aliquot::simgpu::machine
