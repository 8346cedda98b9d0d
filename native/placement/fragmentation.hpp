// Expected fragmentation of a node: how much of its free compute the typical claims could not use.
//
// Weng, Yang, Yu, et al., "Beware of Fragmentation: Scheduling GPU-Sharing Workloads with Fragmentation
// Gradient Descent", USENIX ATC 2023, section 3. Memory of the host plays no part there.
#pragma once

#include "native/placement/cluster.hpp"

#include <cstdint>
#include <vector>

namespace aliquot::placement {

class Fragmentation {
 public:
  struct Typical {
    std::uint32_t demand;
    double frequency;
  };

  Fragmentation(const Vocabulary& vocabulary, std::vector<Typical> typical)
      : vocabulary_(vocabulary), typical_(std::move(typical)) {}

  // In thousandths of devices. The room's gaps are sorted.
  double amount(const Room& room);

 private:
  [[nodiscard]] double computed(const Room& room) const;

  const Vocabulary& vocabulary_;
  std::vector<Typical> typical_;
  RoomTable rooms_;
  std::vector<double> amounts_; // by number in rooms_
};

} // namespace aliquot::placement
