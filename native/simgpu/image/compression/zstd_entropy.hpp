// Zstandard's entropy coding (RFC 8878, sections 4.1 and 4.2): bit readers, FSE tables, Huffman tables.
#pragma once

#include <array>
#include <vector>

#include "native/simgpu/image/compression/decompress.hpp"

namespace aliquot::simgpu::image::zstd {

// Reads a bit stream from its last bit to its first. Bits before the start read as zero and are noticed by
// `overrun`, which is how one kind of stream ends and how all malformed ones are found out.
class BackwardBits {
 public:
  // False where the stream lacks its end mark.
  bool open(Bytes in);
  std::uint64_t peek(unsigned count) const; // at most 56
  void skip(unsigned count) { left_ -= count; }
  std::uint64_t read(unsigned count) {
    const std::uint64_t value = peek(count);
    skip(count);
    return value;
  }
  bool overrun() const { return left_ < 0; }
  bool finished() const { return left_ == 0; }

 private:
  Bytes in_;
  std::int64_t left_ = 0; // bits not yet read
};

// A finite-state-entropy decoding table.
struct FseTable {
  struct Entry {
    std::uint16_t base = 0;
    std::uint8_t bits = 0;
    std::uint8_t symbol = 0;
  };
  unsigned log = 0;
  std::vector<Entry> entries;

  bool empty() const { return entries.empty(); }
  // `counts`: the normalised probabilities, -1 for "less than one". False where they do not add up.
  bool build(std::span<const std::int16_t> counts, unsigned table_log);
  void build_single(std::uint8_t symbol);
  // Reads the description at the start of `in`; `used` tells how much of it that was.
  bool read(Bytes in, unsigned most_log, unsigned symbols, std::size_t& used);
};

class FseState {
 public:
  void start(const FseTable& table, BackwardBits& bits) {
    table_ = &table;
    state_ = static_cast<std::uint32_t>(bits.read(table.log));
  }
  std::uint8_t symbol() const { return table_->entries[state_].symbol; }
  void advance(BackwardBits& bits) {
    const FseTable::Entry& entry = table_->entries[state_];
    state_ = entry.base + static_cast<std::uint32_t>(bits.read(entry.bits));
  }

 private:
  const FseTable* table_ = nullptr;
  std::uint32_t state_ = 0;
};

struct HuffmanTable {
  struct Entry {
    std::uint8_t symbol = 0, bits = 0;
  };
  unsigned log = 0;
  std::vector<Entry> entries;

  bool empty() const { return entries.empty(); }
  bool read(Bytes in, std::size_t& used);
  // Decodes one stream to exactly `count` bytes.
  bool decode(Bytes in, std::uint8_t* out, std::size_t count) const;

 private:
  bool build(std::array<std::uint8_t, 256>& weights, std::size_t count);
};

} // namespace aliquot::simgpu::image::zstd
