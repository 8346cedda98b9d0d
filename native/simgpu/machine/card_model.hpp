// What the simulated driver needs to know of a card's model. The table behind it is generated from the
// catalogue (src/aliquot/catalog/data), which names the vendor document of each figure.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace aliquot::simgpu::machine {

// A size of GPU instance (MIG) that a model can be divided into.
struct MigProfile {
  std::string_view name; // "1g.10gb", "1g.10gb+me"
  std::uint32_t id;      // as the vendor's tools number it: 19, 14, 9 ...
  std::uint32_t compute_slices, memory_slices;
  std::uint32_t instances; // how many fit on an empty card
  std::uint32_t sm_count;
  std::uint64_t memory_bytes;
  std::uint32_t copy_engines, decoders, jpegs, ofas; // encoders: none of these cards has any
  std::uint32_t placements;                          // bit s: one may start at memory slice s
};

struct CardModel {
  std::string_view key;  // "h100", as in "h100:2"
  std::string_view name; // the vendor's product name as its driver reports it, without "(simulated)"
  std::uint32_t compute_major, compute_minor;
  std::uint32_t sm_count;
  std::uint64_t vram_bytes;
  std::uint32_t clock_khz; // boost
  std::uint32_t memory_clock_khz;
  std::uint32_t memory_bus_bits;
  std::uint32_t l2_bytes;
  std::uint32_t shared_per_block_bytes; // 48 KiB default limit
  std::uint32_t shared_per_block_optin_bytes;
  std::uint32_t shared_per_sm_bytes;
  std::uint32_t threads_per_sm;
  std::uint32_t blocks_per_sm;
  std::uint32_t registers_per_sm;
  std::uint32_t power_limit_mw;
  std::uint32_t pcie_generation, pcie_width;
  std::string_view architecture; // "Hopper"
  std::uint32_t idle_power_mw;
  std::uint32_t fans; // 0: cooled by the chassis, as data-centre cards are
  bool ecc;           // memory with ECC turned on, as shipped
  bool mig_capable;
  std::uint32_t fp32_cores_per_sm;
  std::uint32_t fp16_gflops; // dense, on the tensor cores
  std::uint32_t bandwidth_mb_per_s;
  std::uint32_t mig_memory_slices; // 0: cannot be divided
  std::span<const MigProfile> mig_profiles;
  std::string_view form;              // "SXM5", "PCIe"
  std::uint32_t context_bytes_per_sm; // of a context's own, beside local memory and buffers
};

// Every model that can be simulated (NVIDIA).
std::span<const CardModel> card_models() noexcept;

// By key or alias, in any letter case; null if there is none.
const CardModel* find_card_model(std::string_view key) noexcept;

} // namespace aliquot::simgpu::machine
