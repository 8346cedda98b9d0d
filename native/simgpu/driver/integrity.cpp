#include "native/simgpu/driver/integrity.hpp"

#include <pthread.h>
#include <unistd.h>

#include <cstring>

namespace aliquot::simgpu::driver::integrity {
namespace {

constexpr std::size_t kMd2Block = 16;
constexpr std::uint8_t kKey[kMd2Block] = {0x14, 0x6a, 0xdd, 0xae, 0x53, 0xa9, 0xa7, 0x52,
                                          0xaa, 0x08, 0x41, 0x36, 0x0b, 0xf5, 0x5a, 0x9f};

// The table of RFC 1319, 3.2: a permutation of 0..255 made from the digits of pi.
constexpr std::uint8_t kPi[256] = {
    41,  46,  67,  201, 162, 216, 124, 1,   61,  54,  84,  161, 236, 240, 6,   19,  98,  167, 5,   243,
    192, 199, 115, 140, 152, 147, 43,  217, 188, 76,  130, 202, 30,  155, 87,  60,  253, 212, 224, 22,
    103, 66,  111, 24,  138, 23,  229, 18,  190, 78,  196, 214, 218, 158, 222, 73,  160, 251, 245, 142,
    187, 47,  238, 122, 169, 104, 121, 145, 21,  178, 7,   63,  148, 194, 16,  137, 11,  34,  95,  33,
    128, 127, 93,  154, 90,  144, 50,  39,  53,  62,  204, 231, 191, 247, 151, 3,   255, 25,  48,  179,
    72,  165, 181, 209, 215, 94,  146, 42,  172, 86,  170, 198, 79,  184, 56,  210, 150, 164, 125, 182,
    118, 252, 107, 226, 156, 116, 4,   241, 69,  157, 112, 89,  100, 113, 135, 32,  134, 91,  207, 101,
    230, 45,  168, 2,   27,  96,  37,  173, 174, 176, 185, 246, 28,  70,  97,  105, 52,  64,  126, 15,
    85,  71,  163, 35,  221, 81,  175, 58,  195, 92,  249, 206, 186, 197, 234, 38,  44,  83,  13,  110,
    133, 40,  132, 9,   211, 223, 205, 244, 65,  129, 77,  82,  106, 220, 55,  200, 108, 193, 171, 250,
    36,  225, 123, 8,   12,  189, 177, 74,  120, 136, 149, 139, 227, 99,  232, 109, 233, 203, 213, 254,
    59,  0,   29,  57,  242, 239, 183, 14,  102, 88,  208, 228, 166, 119, 114, 248, 235, 117, 75,  10,
    49,  68,  80,  180, 143, 237, 31,  26,  219, 153, 141, 51,  159, 17,  131, 20};

class Md2 {
 public:
  void add(const void* data, std::size_t bytes) noexcept {
    const auto* at = static_cast<const std::uint8_t*>(data);
    for (std::size_t i = 0; i < bytes; ++i) {
      block_[filled_++] = at[i];
      if (filled_ == kMd2Block)
        absorb();
    }
  }

  Answer finish() noexcept {
    const auto padding = static_cast<std::uint8_t>(kMd2Block - filled_);
    for (unsigned i = 0; i < padding; ++i)
      add(&padding, 1);
    std::uint8_t checksum[kMd2Block];
    std::memcpy(checksum, checksum_, sizeof checksum);
    add(checksum, sizeof checksum);
    Answer digest;
    std::memcpy(digest.words, state_, sizeof digest.words);
    return digest;
  }

 private:
  void absorb() noexcept {
    filled_ = 0;
    for (std::size_t i = 0; i < kMd2Block; ++i) {
      last_ = checksum_[i] ^= kPi[block_[i] ^ last_];
      state_[kMd2Block + i] = block_[i];
      state_[2 * kMd2Block + i] = static_cast<std::uint8_t>(block_[i] ^ state_[i]);
    }
    std::uint8_t carried = 0;
    for (unsigned round = 0; round < 18; ++round) {
      for (std::uint8_t& byte : state_)
        carried = byte ^= kPi[carried];
      carried = static_cast<std::uint8_t>(carried + round);
    }
  }

  std::uint8_t state_[3 * kMd2Block] = {}, checksum_[kMd2Block] = {}, block_[kMd2Block] = {};
  std::uint8_t last_ = 0;
  std::size_t filled_ = 0;
};

void add_padded_key(Md2& hash, std::span<const std::uint8_t, 16> key, std::uint8_t pad) noexcept {
  for (const std::uint8_t byte : key) {
    const auto masked = static_cast<std::uint8_t>(byte ^ pad);
    hash.add(&masked, 1);
  }
}

template <class Value>
void append(std::vector<std::uint8_t>& message, const Value& value) {
  const auto* at = reinterpret_cast<const std::uint8_t*>(&value);
  message.insert(message.end(), at, at + sizeof value);
}

std::vector<std::uint8_t> message_of(const Question& question,
                                     const std::vector<std::unique_ptr<Device>>& devices) {
  std::vector<std::uint8_t> message;
  append(message, question.driver_version);
  append(message, question.version);
  append(message, static_cast<std::uint32_t>(getpid()));
  append(message, static_cast<std::uint32_t>(pthread_self()));
  append(message, question.cudart_table);
  append(message, question.integrity_table);
  append(message, question.function);
  append(message, question.unix_seconds);
  for (const auto& device : devices) {
    append(message, device->facts.uuid);
    append(message, static_cast<std::int32_t>(device->facts.pci_domain));
    append(message, static_cast<std::int32_t>(device->facts.pci_bus));
    append(message, static_cast<std::int32_t>(device->facts.pci_device));
  }
  return message;
}

} // namespace

Answer hmac_md2(std::span<const std::uint8_t, 16> key, std::span<const std::uint8_t> message) {
  Md2 inner, outer;
  add_padded_key(inner, key, 0x36);
  inner.add(message.data(), message.size());
  const Answer digest = inner.finish();
  add_padded_key(outer, key, 0x5c);
  outer.add(digest.words, sizeof digest.words);
  return outer.finish();
}

Answer answer(const Question& question, const std::vector<std::unique_ptr<Device>>& devices) {
  constexpr std::uint64_t second_word = 0x8ed383aa1f4cd1e8;
  if (question.version % 10 == 0)
    return {{0x3341181c03cb675c, second_word}};
  if (question.version % 10 == 1)
    return {{0x1841181c03cb675c, second_word}};
  return hmac_md2(kKey, message_of(question, devices));
}

} // namespace aliquot::simgpu::driver::integrity
