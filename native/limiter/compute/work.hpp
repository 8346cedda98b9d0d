// What a call asks of the device: the piece of work that is admitted, charged and counted.
#pragma once

#include <bit>
#include <cstdint>

#include "aliquot/cuda_abi.h"

namespace aliquot::limiter::compute {

enum class Counter : std::uint8_t { Launches, GraphLaunches, Copies, ToDevice, ToHost, OnDevice };
inline constexpr unsigned kCounters = 6;

// Where a launch of a function has its arguments; no function where there are none to be had.
struct Arguments {
  CUfunction function = nullptr;
  void** parameters = nullptr; // one pointer for each, or null
  void** extra = nullptr;      // as cuLaunchKernel has it
};

struct Work {
  std::uint64_t key;      // what has one price: a kernel and its shape, a graph, a kind and size of copies
  CUstream stream;        // never null: see named_stream
  std::uint64_t estimate; // ns, before it was ever measured; 0: unknown, so it goes alone
  bool waits;             // the call returns when the work is done
  Arguments arguments;    // which the length of a kernel may depend on
  std::uint64_t base = 0; // where the key tells these apart: what it would be without
};

// Null means one of two streams, depending on how the program was compiled.
template <bool PerThread>
CUstream named_stream(CUstream stream) noexcept {
  if (stream != nullptr)
    return stream;
  return PerThread ? CU_STREAM_PER_THREAD : CU_STREAM_LEGACY;
}

// Keys are hashes: a collision shares a price, and harms nobody else.
inline constexpr std::uint64_t kMix1 = 0x9E3779B97F4A7C15u, kMix2 = 0xC2B2AE3D27D4EB4Fu;

struct Shape {
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes;
};

inline std::uint64_t launch_key(const void* function, const Shape& shape) noexcept {
  const std::uint64_t grid =
      shape.grid_x ^ std::uint64_t{shape.grid_y} << 26u ^ std::uint64_t{shape.grid_z} << 45u;
  const std::uint64_t block = shape.block_x ^ std::uint64_t{shape.block_y} << 12u ^
                              std::uint64_t{shape.block_z} << 24u ^ std::uint64_t{shape.shared_bytes} << 36u;
  const std::uint64_t mixed = grid * kMix1 ^ block * kMix2;
  return ((reinterpret_cast<std::uint64_t>(function) ^ mixed) * kMix1) | 1u;
}

enum class Transfer : std::uint8_t { ToDevice = 1, ToHost, OnDevice, Set };

// Copies of one kind are priced by powers of two of their size.
inline std::uint64_t transfer_key(Transfer kind, std::uint64_t bytes, bool waits) noexcept {
  const auto size = static_cast<std::uint64_t>(std::bit_width(bytes));
  return ((size << 8u | static_cast<std::uint64_t>(kind) << 1u | static_cast<std::uint64_t>(waits)) * kMix2) |
         1u;
}

// A first guess: 10 GB/s over the bus and 200 GB/s on the device, and the time of a small one.
inline std::uint64_t transfer_estimate(Transfer kind, std::uint64_t bytes) noexcept {
  const bool over_bus = kind == Transfer::ToDevice || kind == Transfer::ToHost;
  return 5'000 + (over_bus ? bytes / 10 : bytes / 200);
}

inline Work transfer(Transfer kind, std::uint64_t bytes, CUstream stream, bool waits) noexcept {
  return {transfer_key(kind, bytes, waits), stream, transfer_estimate(kind, bytes), waits, {}};
}

} // namespace aliquot::limiter::compute
