// The handshake by which libcudart makes sure that it talks to a driver that knows it.
//
// It asks with a version and the time, and computes the expected answer itself. For most versions the answer
// is a keyed hash, HMAC (RFC 2104) with MD2 (RFC 1319), over what both sides can see: versions, process,
// thread, the addresses of three tables, the time and the devices. For versions that end in 0 or 1 it is a
// constant. Without the right answer libcudart refuses every call with CUDA_ERROR 103.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "native/simgpu/driver/core/device.hpp"

namespace aliquot::simgpu::driver::integrity {

struct Question {
  std::uint32_t driver_version;
  std::uint32_t version; // what the caller asked with, e.g. 13002
  std::uint64_t unix_seconds;
  const void* cudart_table;
  const void* integrity_table;
  const void* function; // slot 1 of the integrity table
};

struct Answer {
  std::uint64_t words[2];
};

Answer answer(const Question& question, const std::vector<std::unique_ptr<Device>>& devices);

// MD2 of a message under a 16-byte key, for the above and its test.
Answer hmac_md2(std::span<const std::uint8_t, 16> key, std::span<const std::uint8_t> message);

} // namespace aliquot::simgpu::driver::integrity
