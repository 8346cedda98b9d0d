// From whatever a client hands to cuModuleLoadData to the PTX text inside it.
//
// Accepts NUL-ended PTX text, fat-binary wrappers (magic 0x466243B1, versions 1 and 2), raw fat-binary
// containers (0xBA55ED50), ELF (cubin: recognised, not runnable), and the linked image that our own linker
// makes. All input is hostile: a length is never believed before it was checked against what holds it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace aliquot::simgpu::image {

enum class Status : std::uint8_t {
  Ok,
  Invalid,     // CUDA_ERROR_INVALID_IMAGE: malformed, truncated or lying
  NoPtx,       // CUDA_ERROR_NO_BINARY_FOR_GPU: only cubins inside
  Unsupported, // PTX that is stored in a way we do not know
};

// One PTX text found inside, decompressed.
struct PtxText {
  std::string text;
  std::uint32_t sm = 0;            // what the container entry says; 0 for bare text
  std::uint32_t max_registers = 0; // a thread may have, as the linker was told; 0: not limited
};

struct Contents {
  std::vector<PtxText> ptx;             // all that belong together: one, or several for a linked image
  std::vector<std::uint32_t> cubin_sms; // cubins that were passed over, for the log line
  bool fat_binary = false;              // a wrapper or a container, whatever is in it
  // Where a fat binary has no PTX: the kernels of the cubin that such a card would run, or of any.
  std::vector<std::string> cubin_kernels;
  std::string message; // for a person, where Status is not Ok
};

// Reads the image at `image`. `known_bytes` bounds it where the caller knows its size (cuLinkAddData, tests,
// fuzzing); SIZE_MAX where it does not (cuModuleLoadData gives no length): then headers are followed, as the
// vendor's driver must. A wrapper points elsewhere: with known bytes, only into themselves.
// Chooses, for a card of compute capability `sm` (80, 90, ...), the newest PTX whose sm <= the card's; where
// there is none, the oldest newer one (a real card would have run the cubin beside it).
Status read(const void* image, std::size_t known_bytes, std::uint32_t sm, Contents& out);

// The image that cuLinkComplete hands out: a fat-binary container whose PTX entries belong together.
std::vector<std::uint8_t> pack_linked(const std::vector<std::string>& ptx_texts, std::uint32_t sm,
                                      std::uint32_t max_registers = 0);

} // namespace aliquot::simgpu::image
