// Multi-Instance GPU: dividing a card into GPU instances (memory) and compute instances (multiprocessors).
//
// The division of a card is one word of the region (mig.cpp says how it is packed), changed by one
// compare-and-swap: whoever is killed while changing it leaves the old division or the new one. Ids and UUIDs
// follow from the place, so nothing else has to be kept.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "native/simgpu/machine/card_model.hpp"
#include "native/simgpu/machine/layout.hpp"

namespace aliquot::simgpu::machine {

struct Card;
struct VramInfo;

enum class MigStatus : std::uint8_t {
  Ok,
  NotSupported, // the model cannot be divided
  Disabled,     // MIG mode is off
  Invalid,      // no such profile, or not at that place
  NoRoom,       // no free place for it
  NotFound,     // no such instance
  InUse,        // processes or instances on it are in the way
};

inline constexpr std::uint32_t kNoInstance = 0xffffffff;

// How NVML numbers a profile (NVML_GPU_INSTANCE_PROFILE_*: 0 for 1g, 1 for 2g, ..., 7 for 1g+me).
std::uint32_t nvml_profile(const MigProfile& profile) noexcept;
const MigProfile* find_mig_profile(const CardModel& model, std::string_view name_or_id) noexcept;
// Compute instances of `slices` that a GPU instance of this profile can have; 0: not that size.
std::uint32_t compute_capacity(const MigProfile& profile, std::uint32_t slices) noexcept;
// The compute slices at which one of that size may start.
std::vector<std::uint32_t> compute_placements(const MigProfile& profile, std::uint32_t slices);
std::uint32_t compute_sm_count(const CardModel& model, const MigProfile& profile,
                               std::uint32_t slices) noexcept;

struct GpuInstance {
  std::uint32_t id = 0; // as the vendor's driver numbers them: by place and size
  const MigProfile* profile = nullptr;
  std::uint32_t start = 0; // memory slice; it takes profile->memory_slices of them
};

struct ComputeInstance {
  std::uint32_t id = 0; // in its GPU instance
  GpuInstance gpu;
  std::uint32_t slices = 0, start = 0; // compute slices, counted within the GPU instance
  std::uint32_t sm_count = 0;
  std::uint8_t uuid[16] = {}; // "MIG-..." with mig_uuid_text
  std::string name;           // "1g.10gb"; "1c.3g.40gb" where it is a part of its GPU instance
};

std::string mig_uuid_text(const std::uint8_t (&uuid)[16]);

// Of one machine. Thread-safe, as the machine is; made by it.
class Mig {
 public:
  Mig(MachineRegion& region, const std::vector<Card>& cards) noexcept : region_(region), cards_(cards) {}

  bool enabled(std::uint32_t card) const noexcept;
  // InUse while processes have contexts on the card, or instances are left.
  MigStatus set_mode(std::uint32_t card, bool enabled);

  std::vector<GpuInstance> gpu_instances(std::uint32_t card) const; // by id
  // `start`: a memory slice, or none for the first place that fits.
  MigStatus create_gpu_instance(std::uint32_t card, const MigProfile& profile,
                                std::optional<std::uint32_t> start, GpuInstance& made);
  MigStatus destroy_gpu_instance(std::uint32_t card, std::uint32_t id);
  // How many more of a profile fit now.
  std::uint32_t remaining(std::uint32_t card, const MigProfile& profile) const;

  // The MIG devices of a card, in the order in which the vendor enumerates them: by GPU instance.
  std::vector<ComputeInstance> compute_instances(std::uint32_t card) const;
  // `slices`: profile->compute_slices for all of the GPU instance.
  MigStatus create_compute_instance(std::uint32_t card, std::uint32_t gpu_instance, std::uint32_t slices,
                                    std::optional<std::uint32_t> start, ComputeInstance& made);
  MigStatus destroy_compute_instance(std::uint32_t card, std::uint32_t gpu_instance, std::uint32_t id);
  std::uint32_t remaining_compute(std::uint32_t card, std::uint32_t gpu_instance, std::uint32_t slices) const;

  // Memory of a GPU instance, over all processes; GPU time of a compute instance.
  VramInfo vram(std::uint32_t card, const GpuInstance& instance) const noexcept;
  std::uint32_t utilisation_percent(std::uint32_t card, const ComputeInstance& instance) const noexcept;
  std::uint64_t busy_ns(std::uint32_t card, const ComputeInstance& instance) const noexcept;

  // Places in the region: of a card itself, of a GPU instance's account, of a compute instance's engine.
  static std::uint32_t unit_of(std::uint32_t card) noexcept { return card * kUnitsPerCard; }
  static std::uint32_t memory_unit(std::uint32_t card, const GpuInstance& instance) noexcept;
  static std::uint32_t engine_unit(std::uint32_t card, const ComputeInstance& instance) noexcept;
  // What is behind an engine's place, now. None for a card's own, or where there is no instance any more.
  std::optional<ComputeInstance> instance_at(std::uint32_t unit) const;

 private:
  const CardModel& model(std::uint32_t card) const noexcept;
  bool present(std::uint32_t unit) const noexcept;
  template <typename Change>
  MigStatus change(std::uint32_t card, Change&& change);

  MachineRegion& region_;
  const std::vector<Card>& cards_;
};

} // namespace aliquot::simgpu::machine
