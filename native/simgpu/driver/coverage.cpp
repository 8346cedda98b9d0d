// What of the driver API is implemented, for `aliquot simgpu coverage`.
#include <unistd.h>

#include <cerrno>
#include <string>

#include "aliquot/cuda_abi.h"
#include "native/api/exported_symbols.hpp"

namespace {

std::string coverage_json() {
  const auto symbols = aliquot::api::cuda_symbols();
  std::string text = "[";
  for (std::size_t i = 0; i < symbols.size(); ++i) {
    text += i == 0 ? "\n" : ",\n";
    text += " {\"symbol\": \"" + std::string(symbols[i].name) + "\", \"family\": \"" +
            std::string(symbols[i].family) +
            "\", \"implemented\": " + (aliquot::api::is_implemented(symbols, i) ? "true" : "false") + "}";
  }
  return text + "\n]\n";
}

} // namespace

// Writes a JSON array of {"symbol", "family", "implemented"} to `descriptor`; 0, or the errno of the write
// that failed. Needs no cuInit.
extern "C" ALIQUOT_EXPORT int aliquot_simgpu_coverage(int descriptor) noexcept try {
  const std::string text = coverage_json();
  for (std::size_t written = 0; written < text.size();) {
    const ssize_t count = write(descriptor, text.data() + written, text.size() - written);
    if (count < 0 && errno != EINTR)
      return errno;
    if (count > 0)
      written += static_cast<std::size_t>(count);
  }
  return 0;
} catch (...) {
  return ENOMEM;
}
