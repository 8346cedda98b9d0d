// What a launch is given besides its shape, as far as a kernel's length may depend on it: small numbers, and
// never addresses.
//
// Danger: the bytes of parameters are read where the program says that they are, as the driver does, and as
// many of them as the driver says that the function has. A function's layout is forgotten before its module
// can go, since its handle may then be another's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "native/limiter/compute/work.hpp"

namespace aliquot::limiter::compute {

class ArgumentTable {
 public:
  // A hash of the numbers among the arguments, rounded so that near ones are the same. 0 where there are
  // none, or the driver does not tell where they are.
  std::uint64_t digest(const Arguments& arguments) noexcept;
  // Functions may be about to go.
  void forget_all() noexcept;

 private:
  struct Parameter {
    std::uint32_t offset, size;
  };
  using Layout = std::vector<Parameter>;

  const Layout& layout_of(CUfunction function);
  static Layout ask_driver(CUfunction function);

  std::mutex mutex_;
  std::unordered_map<CUfunction, Layout> layouts_;
};

} // namespace aliquot::limiter::compute
