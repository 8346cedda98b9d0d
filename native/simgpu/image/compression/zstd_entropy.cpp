// Zstandard's entropy coding; see zstd_entropy.hpp.
#include "native/simgpu/image/compression/zstd_entropy.hpp"

#include <bit>
#include <cstring>

namespace aliquot::simgpu::image::zstd {
namespace {

unsigned log2_floor(std::uint32_t value) {
  return static_cast<unsigned>(std::bit_width(value)) - 1;
}

// Reads from the first bit on, for FSE descriptions. They are short: a bit at a time will do.
class ForwardBits {
 public:
  explicit ForwardBits(Bytes in) : in_(in) {}
  std::uint32_t read(unsigned count) {
    std::uint32_t value = 0;
    for (unsigned i = 0; i < count; ++i, ++at_)
      if (at_ / 8 < in_.size())
        value |= static_cast<std::uint32_t>(in_[at_ / 8] >> at_ % 8 & 1) << i;
    return value;
  }
  void back(unsigned count) { at_ -= count; }
  std::size_t bytes() const { return (at_ + 7) / 8; }
  bool overrun() const { return bytes() > in_.size(); }

 private:
  Bytes in_;
  std::size_t at_ = 0;
};

// One normalised count: values below a threshold take a bit less (RFC 8878, 4.1.1).
std::int32_t read_count(ForwardBits& bits, std::int32_t remaining) {
  const unsigned width = log2_floor(static_cast<std::uint32_t>(remaining) + 1) + 1;
  const std::uint32_t low_mask = (1u << (width - 1)) - 1;
  const std::uint32_t threshold = (1u << width) - 1 - (static_cast<std::uint32_t>(remaining) + 1);
  std::uint32_t value = bits.read(width);
  if ((value & low_mask) < threshold) {
    bits.back(1);
    value &= low_mask;
  } else if (value > low_mask) {
    value -= threshold;
  }
  return static_cast<std::int32_t>(value) - 1;
}

} // namespace

bool BackwardBits::open(Bytes in) {
  if (in.empty() || in.back() == 0)
    return false;
  in_ = in;
  left_ = static_cast<std::int64_t>(in.size() * 8) - 8 + log2_floor(in.back());
  return true;
}

std::uint64_t BackwardBits::peek(unsigned count) const {
  if (count == 0)
    return 0;
  const std::int64_t low = left_ - count; // the lowest bit wanted
  if (left_ <= 0)
    return 0;
  const std::int64_t first = low < 0 ? 0 : low;
  const auto byte = static_cast<std::size_t>(first / 8);
  std::uint64_t word = 0;
  std::memcpy(&word, in_.data() + byte, in_.size() - byte < 8 ? in_.size() - byte : 8);
  word >>= first % 8;
  if (low < 0)
    word <<= -low; // zeros stand in for the bits before the start
  return word & ((std::uint64_t{1} << count) - 1);
}

void FseTable::build_single(std::uint8_t symbol) {
  log = 0;
  entries.assign(1, {0, 0, symbol});
}

bool FseTable::build(std::span<const std::int16_t> counts, unsigned table_log) {
  log = table_log;
  const std::size_t size = std::size_t{1} << log;
  entries.assign(size, {});
  std::array<std::uint32_t, 256> next{};
  std::size_t top = size;
  for (std::size_t symbol = 0; symbol < counts.size(); ++symbol) {
    next[symbol] = counts[symbol] < 0 ? 1 : static_cast<std::uint32_t>(counts[symbol]);
    if (counts[symbol] < 0)
      entries[--top].symbol = static_cast<std::uint8_t>(symbol);
  }
  const std::size_t step = (size >> 1) + (size >> 3) + 3;
  std::size_t position = 0;
  for (std::size_t symbol = 0; symbol < counts.size(); ++symbol) {
    for (std::int32_t i = 0; i < counts[symbol]; ++i) {
      entries[position].symbol = static_cast<std::uint8_t>(symbol);
      do
        position = (position + step) & (size - 1);
      while (position >= top);
    }
  }
  if (position != 0)
    return false;
  for (Entry& entry : entries) {
    const std::uint32_t state = next[entry.symbol]++;
    entry.bits = static_cast<std::uint8_t>(log - log2_floor(state));
    entry.base = static_cast<std::uint16_t>((state << entry.bits) - size);
  }
  return true;
}

bool FseTable::read(Bytes in, unsigned most_log, unsigned symbols, std::size_t& used) {
  ForwardBits bits(in);
  const unsigned table_log = bits.read(4) + 5;
  if (table_log > most_log)
    return false;
  std::array<std::int16_t, 256> counts{};
  std::size_t count = 0;
  std::int32_t remaining = 1 << table_log;
  while (remaining > 0 && count < symbols) {
    const std::int32_t value = read_count(bits, remaining);
    counts[count++] = static_cast<std::int16_t>(value);
    remaining -= value < 0 ? 1 : value;
    for (std::uint32_t zeros = value == 0 ? 3 : 0; zeros == 3;) {
      zeros = bits.read(2);
      count += zeros;
      if (count > symbols || bits.overrun())
        return false;
    }
  }
  used = bits.bytes();
  return remaining == 0 && !bits.overrun() && build({counts.data(), count}, table_log);
}

// --- Huffman (RFC 8878, 4.2)

bool HuffmanTable::read(Bytes in, std::size_t& used) {
  if (in.empty())
    return false;
  std::array<std::uint8_t, 256> weights{};
  std::size_t count = 0;
  const std::uint8_t header = in[0];
  if (header >= 128) { // four bits each
    count = header - 127u;
    used = 1 + (count + 1) / 2;
    if (used > in.size())
      return false;
    for (std::size_t i = 0; i < count; ++i)
      weights[i] = static_cast<std::uint8_t>(i % 2 == 0 ? in[1 + i / 2] >> 4 : in[1 + i / 2] & 15);
    return build(weights, count);
  }
  used = 1 + std::size_t{header};
  if (used > in.size())
    return false;
  constexpr unsigned kMostWeightLog = 6, kWeights = 13;
  FseTable table;
  std::size_t description = 0;
  if (!table.read(in.subspan(1, header), kMostWeightLog, kWeights, description))
    return false;
  BackwardBits bits;
  if (!bits.open(in.subspan(1 + description, header - description)))
    return false;
  // Two states take turns; the stream ends where one of them runs dry, and the other still holds a symbol.
  std::array<FseState, 2> states;
  states[0].start(table, bits);
  states[1].start(table, bits);
  if (bits.overrun())
    return false;
  for (unsigned turn = 0; count < 254; turn ^= 1) {
    weights[count++] = states[turn].symbol();
    states[turn].advance(bits);
    if (bits.overrun()) {
      weights[count++] = states[turn ^ 1].symbol();
      return build(weights, count);
    }
  }
  return false;
}

// `weights` holds those of all symbols but the last one, whose weight is what is missing to a power of two.
bool HuffmanTable::build(std::array<std::uint8_t, 256>& weights, std::size_t count) {
  constexpr unsigned kMostLog = 11;
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (weights[i] > kMostLog)
      return false;
    sum += weights[i] == 0 ? 0 : 1u << (weights[i] - 1);
  }
  if (sum == 0 || count > 255)
    return false;
  log = log2_floor(sum) + 1;
  const std::uint32_t missing = (1u << log) - sum;
  if (log > kMostLog || !std::has_single_bit(missing))
    return false;
  weights[count] = static_cast<std::uint8_t>(log2_floor(missing) + 1);
  entries.clear();
  entries.reserve(std::size_t{1} << log);
  for (unsigned weight = 1; weight <= log; ++weight)
    for (std::size_t symbol = 0; symbol <= count; ++symbol)
      if (weights[symbol] == weight)
        entries.insert(entries.end(), std::size_t{1} << (weight - 1),
                       {static_cast<std::uint8_t>(symbol), static_cast<std::uint8_t>(log + 1 - weight)});
  return entries.size() == std::size_t{1} << log;
}

bool HuffmanTable::decode(Bytes in, std::uint8_t* out, std::size_t count) const {
  BackwardBits bits;
  if (!bits.open(in))
    return false;
  for (std::size_t i = 0; i < count; ++i) {
    const Entry& entry = entries[bits.peek(log)];
    out[i] = entry.symbol;
    bits.skip(entry.bits);
  }
  return bits.finished();
}

} // namespace aliquot::simgpu::image::zstd
