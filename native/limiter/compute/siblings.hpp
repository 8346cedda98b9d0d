// How many processes of the slice are at work, by what they publish in the account.
#pragma once

#include <cstdint>

#include "native/limiter/region/slice_region.hpp"

namespace aliquot::limiter::compute {

class Siblings {
 public:
  void start(const layout::Account& account, std::uint64_t own_owner, unsigned device) noexcept;
  // How many processes of the slice put work on the device lately, this one included.
  unsigned active(std::uint64_t now) const noexcept;

 private:
  const layout::Account* account_ = nullptr;
  std::uint64_t own_ = 0;
  unsigned device_ = 0;
};

} // namespace aliquot::limiter::compute
