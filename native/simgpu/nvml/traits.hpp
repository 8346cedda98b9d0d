// What a class of cards has and another has not. Nothing is computed here; each says what it rests on.
#pragma once

#include <cstdint>

#include "native/simgpu/nvml/session.hpp"

namespace aliquot::simgpu::nvml {

inline std::uint32_t capability(const CardModel& model) noexcept {
  return model.compute_major * 10 + model.compute_minor;
}
inline bool is_ampere_or_newer(const View& view) noexcept {
  return view.model.compute_major >= 8;
}
inline bool is_hopper_or_newer(const View& view) noexcept {
  return view.model.compute_major >= 9;
}
inline bool has_ecc(const View& view) noexcept {
  return view.model.ecc;
}
inline bool has_fans(const View& view) noexcept {
  return view.model.fans != 0;
}
// Modules on a baseboard are joined by NVLink; no bridge is plugged into simulated PCIe cards.
inline bool is_sxm(const CardModel& model) noexcept {
  return model.form.starts_with("SXM");
}
// Row remapping came with Ampere; before it whole pages were retired (GPU Memory Error Management, "Row
// Remapping").
inline bool remaps_rows(const View& view) noexcept {
  return has_ecc(view) && is_ampere_or_newer(view);
}
inline bool retires_pages(const View& view) noexcept {
  return has_ecc(view) && !is_ampere_or_newer(view);
}

} // namespace aliquot::simgpu::nvml
