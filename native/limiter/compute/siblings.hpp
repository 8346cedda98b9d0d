// Whether other processes of the slice have work in flight, by what they publish in the account.
#pragma once

#include <cstdint>

#include "native/limiter/region/slice_region.hpp"

namespace aliquot::limiter::compute {

class Siblings {
 public:
  void start(const layout::Account& account, std::uint64_t own_owner, unsigned device) noexcept;
  // ns of published work that has not ended. One that has said nothing for much longer than its work should
  // take (stopped, or dead and not yet buried) is left out: others must not wait for it.
  std::uint64_t in_flight(std::uint64_t now) noexcept;
  // How many processes of the slice put work on the device lately, this one included.
  unsigned active(std::uint64_t now) const noexcept;

 private:
  struct Seen {
    std::uint64_t admitted, finished, at;
  };
  const layout::Account* account_ = nullptr;
  std::uint64_t own_ = 0;
  unsigned device_ = 0;
  Seen seen_[layout::kMaxProcesses] = {};
};

} // namespace aliquot::limiter::compute
