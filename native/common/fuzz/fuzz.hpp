// What a fuzz target gives to the driver beside this folder, or to libFuzzer.
//
// A target defines LLVMFuzzerTestOneInput and `words`. It aborts (see `require`) where something that must
// hold does not; sanitizers and the driver's watchdog find the rest.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace aliquot::fuzz {

// Words of the input's language, which mutations put in; may be empty.
std::vector<std::string_view> words();
// Inputs to start from where no corpus is given; at least one.
std::vector<std::string_view> seeds();

inline void require(bool holds, const char* what) {
  if (holds)
    return;
  std::fprintf(stderr, "fuzz: does not hold: %s\n", what);
  std::abort();
}

} // namespace aliquot::fuzz
