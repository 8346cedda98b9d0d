// Mapping a shared region: made once, whole or not at all, and checked before use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "native/simgpu/machine/layout.hpp"

namespace aliquot::simgpu::machine {

// A mapping of a region file. Closing the file at once is safe: no lock hangs on it.
class Mapping {
 public:
  Mapping() = default;
  Mapping(void* base, std::size_t size) noexcept : base_(base), size_(size) {}
  Mapping(Mapping&& other) noexcept;
  Mapping& operator=(Mapping&& other) noexcept;
  ~Mapping();

  template <typename T>
  T* as() const noexcept {
    return size_ >= sizeof(T) ? static_cast<T*>(base_) : nullptr;
  }
  explicit operator bool() const noexcept { return base_ != nullptr; }

 private:
  void* base_ = nullptr;
  std::size_t size_ = 0;
};

struct RegionKind {
  std::uint64_t magic;
  std::size_t bytes;
};

// Opens the region at `path`, making it where there is none or only one of an earlier boot. Empty mapping and
// a message on failure: another layout version, a damaged file, not this user's.
Mapping open_region(const std::string& path, const RegionKind& kind, const std::string& setting, bool create,
                    std::string& message);

} // namespace aliquot::simgpu::machine
