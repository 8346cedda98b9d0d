// The 64-bit xxHash with seed 0, of which Zstandard frames keep the low half as their checksum.
#pragma once

#include <bit>
#include <cstring>

#include "native/simgpu/image/compression/decompress.hpp"

namespace aliquot::simgpu::image {

namespace xxh {
inline constexpr std::uint64_t kPrime[] = {0x9E3779B185EBCA87u, 0xC2B2AE3D27D4EB4Fu, 0x165667B19E3779F9u,
                                           0x85EBCA77C2B2AE63u, 0x27D4EB2F165667C5u};

inline std::uint64_t load(const std::uint8_t* at, std::size_t count) {
  std::uint64_t value = 0;
  std::memcpy(&value, at, count);
  return value;
}

inline std::uint64_t round(std::uint64_t lane, std::uint64_t input) {
  return std::rotl(lane + input * kPrime[1], 31) * kPrime[0];
}

inline std::uint64_t finish(std::uint64_t hash) {
  hash = (hash ^ hash >> 33) * kPrime[1];
  hash = (hash ^ hash >> 29) * kPrime[2];
  return hash ^ hash >> 32;
}

inline std::uint64_t tail(std::uint64_t hash, const std::uint8_t* at, const std::uint8_t* end) {
  for (; end - at >= 8; at += 8)
    hash = std::rotl(hash ^ round(0, load(at, 8)), 27) * kPrime[0] + kPrime[3];
  if (end - at >= 4) {
    hash = std::rotl(hash ^ load(at, 4) * kPrime[0], 23) * kPrime[1] + kPrime[2];
    at += 4;
  }
  for (; at != end; ++at)
    hash = std::rotl(hash ^ *at * kPrime[4], 11) * kPrime[0];
  return finish(hash);
}
} // namespace xxh

inline std::uint64_t xxh64(Bytes in) {
  using namespace xxh;
  const std::uint8_t* at = in.data();
  const std::uint8_t* end = at + in.size();
  std::uint64_t hash = kPrime[4];
  if (in.size() >= 32) {
    std::uint64_t lanes[] = {kPrime[0] + kPrime[1], kPrime[1], 0, 0 - kPrime[0]};
    for (; end - at >= 32; at += 32)
      for (int i = 0; i < 4; ++i)
        lanes[i] = round(lanes[i], load(at + 8 * i, 8));
    hash =
        std::rotl(lanes[0], 1) + std::rotl(lanes[1], 7) + std::rotl(lanes[2], 12) + std::rotl(lanes[3], 18);
    for (const std::uint64_t lane : lanes)
      hash = (hash ^ round(0, lane)) * kPrime[0] + kPrime[3];
  }
  return tail(hash + in.size(), at, end);
}

} // namespace aliquot::simgpu::image
