// Zstandard frames and blocks (RFC 8878, sections 3.1 and 5).
#include <algorithm>
#include <bit>
#include <cstring>
#include <iterator>

#include "native/simgpu/image/compression/xxh64.hpp"
#include "native/simgpu/image/compression/zstd_entropy.hpp"

namespace aliquot::simgpu::image {
namespace {

using namespace zstd;

constexpr std::uint32_t kMagic = 0xFD2FB528;
constexpr std::uint32_t kSkippableMagic = 0x184D2A50; // the low four bits are free
constexpr std::size_t kLargestBlock = 128 << 10;

struct CodeRow {
  std::uint32_t base;
  std::uint8_t bits;
};
// RFC 8878, tables 15 and 16: what the codes of literal and match lengths stand for.
constexpr CodeRow kLiteralCodes[] = {
    {0, 0},   {1, 0},   {2, 0},     {3, 0},     {4, 0},     {5, 0},     {6, 0},      {7, 0},      {8, 0},
    {9, 0},   {10, 0},  {11, 0},    {12, 0},    {13, 0},    {14, 0},    {15, 0},     {16, 1},     {18, 1},
    {20, 1},  {22, 1},  {24, 2},    {28, 2},    {32, 3},    {40, 3},    {48, 4},     {64, 6},     {128, 7},
    {256, 8}, {512, 9}, {1024, 10}, {2048, 11}, {4096, 12}, {8192, 13}, {16384, 14}, {32768, 15}, {65536, 16},
};
constexpr CodeRow kMatchCodes[] = {
    {3, 0},   {4, 0},     {5, 0},     {6, 0},     {7, 0},     {8, 0},      {9, 0},      {10, 0},     {11, 0},
    {12, 0},  {13, 0},    {14, 0},    {15, 0},    {16, 0},    {17, 0},     {18, 0},     {19, 0},     {20, 0},
    {21, 0},  {22, 0},    {23, 0},    {24, 0},    {25, 0},    {26, 0},     {27, 0},     {28, 0},     {29, 0},
    {30, 0},  {31, 0},    {32, 0},    {33, 0},    {34, 0},    {35, 1},     {37, 1},     {39, 1},     {41, 1},
    {43, 2},  {47, 2},    {51, 3},    {59, 3},    {67, 4},    {83, 4},     {99, 5},     {131, 7},    {259, 8},
    {515, 9}, {1027, 10}, {2051, 11}, {4099, 12}, {8195, 13}, {16387, 14}, {32771, 15}, {65539, 16},
};
constexpr unsigned kOffsetCodes = 32;

// RFC 8878, 3.1.1.3.2.2: the distributions that need no description.
constexpr std::int16_t kLiteralDefault[] = {4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1,  1,  2,  2,
                                            2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1};
constexpr std::int16_t kMatchDefault[] = {1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1,  1,  1,  1,  1,  1,  1, 1,
                                          1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,  1,  1,  1,  1,  1,  1, 1,
                                          1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1};
constexpr std::int16_t kOffsetDefault[] = {1, 1, 1, 1, 1, 1, 2, 2, 2, 1,  1,  1,  1,  1, 1,
                                           1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1};

static_assert(std::size(kLiteralCodes) == 36 && std::size(kLiteralDefault) == 36);
static_assert(std::size(kMatchCodes) == 53 && std::size(kMatchDefault) == 53 &&
              std::size(kOffsetDefault) == 29);

// How one of the three kinds of codes is decoded.
struct CodeKind {
  unsigned most_log, symbols, default_log;
  std::span<const std::int16_t> defaults;
};
constexpr CodeKind kLiteralKind{9, 36, 6, kLiteralDefault};
constexpr CodeKind kOffsetKind{8, kOffsetCodes, 5, kOffsetDefault};
constexpr CodeKind kMatchKind{9, 53, 6, kMatchDefault};

std::uint64_t little_endian(Bytes in, std::size_t count) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < count; ++i)
    value |= std::uint64_t{in[i]} << 8 * i;
  return value;
}

// Decodes one frame after another to the end of the output.
class Decoder {
 public:
  Decoder(Bytes in, std::string& out, std::size_t size) : in_(in), out_(out), size_(size) {}

  bool run() {
    while (!in_.empty())
      if (!frame())
        return false;
    return out_.size() == size_;
  }

 private:
  bool take(std::size_t count, Bytes& part) {
    if (count > in_.size())
      return false;
    part = in_.first(count);
    in_ = in_.subspan(count);
    return true;
  }

  bool frame();
  bool skip_header(bool& checksum);
  bool block(bool& last);
  bool compressed(Bytes in);
  bool literals(Bytes& in);
  bool plain_literals(Bytes& in);
  bool coded_literals(Bytes& in);
  bool four_streams(Bytes in);
  bool sequences(Bytes in);
  bool code_table(const CodeKind& kind, unsigned mode, Bytes& in, FseTable& table);
  bool run_sequences(Bytes in, std::size_t count);
  bool offset(std::uint64_t code_value, bool no_literals, std::size_t& distance);
  bool append(Bytes bytes);
  bool copy_match(std::size_t distance, std::size_t count);

  Bytes in_;
  std::string& out_;
  std::size_t size_;
  std::size_t frame_start_ = 0;
  // What blocks of a frame hand on to later ones.
  std::array<std::size_t, 3> recent_{};
  HuffmanTable huffman_;
  FseTable literal_codes_, offset_codes_, match_codes_;
  std::vector<std::uint8_t> literals_;
};

bool Decoder::frame() {
  Bytes magic;
  if (!take(4, magic))
    return false;
  if ((little_endian(magic, 4) & ~std::uint64_t{15}) == kSkippableMagic) {
    Bytes size, content;
    return take(4, size) && take(little_endian(size, 4), content);
  }
  bool checksum = false;
  if (little_endian(magic, 4) != kMagic || !skip_header(checksum))
    return false;
  frame_start_ = out_.size();
  recent_ = {1, 4, 8};
  huffman_ = {};
  literal_codes_ = offset_codes_ = match_codes_ = {};
  for (bool last = false; !last;)
    if (!block(last))
      return false;
  Bytes expected;
  if (!checksum)
    return true;
  const Bytes content{reinterpret_cast<const std::uint8_t*>(out_.data()) + frame_start_,
                      out_.size() - frame_start_};
  return take(4, expected) && little_endian(expected, 4) == (xxh64(content) & 0xFFFFFFFFu);
}

// The output is one buffer and its size is known: window and content size tell nothing new.
bool Decoder::skip_header(bool& checksum) {
  Bytes part;
  if (!take(1, part))
    return false;
  const std::uint8_t descriptor = part[0];
  const bool single_segment = (descriptor >> 5 & 1) != 0;
  checksum = (descriptor >> 2 & 1) != 0;
  const unsigned size_flag = descriptor >> 6, dictionary_flag = descriptor & 3;
  const std::size_t size_bytes = size_flag == 0 ? (single_segment ? 1 : 0) : std::size_t{1} << size_flag;
  const std::size_t dictionary_bytes = dictionary_flag == 3 ? 4 : dictionary_flag;
  if ((descriptor >> 3 & 1) != 0 || !take(single_segment ? 0 : 1, part) || !take(dictionary_bytes, part) ||
      little_endian(part, dictionary_bytes) != 0)
    return false;
  return take(size_bytes, part);
}

bool Decoder::block(bool& last) {
  Bytes header, content;
  if (!take(3, header))
    return false;
  const std::uint64_t word = little_endian(header, 3);
  last = (word & 1) != 0;
  const std::size_t size = word >> 3;
  switch (word >> 1 & 3) {
  case 0:
    return take(size, content) && append(content);
  case 1:
    if (size > size_ - out_.size() || !take(1, content))
      return false;
    out_.append(size, static_cast<char>(content[0]));
    return true;
  case 2:
    return size <= kLargestBlock && take(size, content) && compressed(content);
  default:
    return false;
  }
}

bool Decoder::append(Bytes bytes) {
  if (bytes.size() > size_ - out_.size())
    return false;
  out_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return true;
}

bool Decoder::copy_match(std::size_t distance, std::size_t count) {
  if (distance == 0 || distance > out_.size() - frame_start_ || count > size_ - out_.size())
    return false;
  const std::size_t start = out_.size();
  out_.resize(start + count);
  char* to = out_.data() + start;
  if (distance >= count)
    std::memcpy(to, to - distance, count);
  else
    for (std::size_t i = 0; i < count; ++i)
      to[i] = *(to + i - distance);
  return true;
}

bool Decoder::compressed(Bytes in) {
  return literals(in) && sequences(in);
}

// Each reads its section from the start of `in` and leaves the rest.
bool Decoder::literals(Bytes& in) {
  if (in.empty())
    return false;
  return (in[0] & 3) < 2 ? plain_literals(in) : coded_literals(in);
}

bool Decoder::plain_literals(Bytes& in) {
  const unsigned format = in[0] >> 2 & 3;
  const std::size_t header = format == 1 ? 2 : format == 3 ? 3 : 1;
  if (in.size() < header)
    return false;
  const std::size_t size = little_endian(in, header) >> (header == 1 ? 3 : 4);
  const bool repeated = (in[0] & 3) == 1;
  in = in.subspan(header);
  const std::size_t stored = repeated ? 1 : size;
  if (size > kLargestBlock || stored > in.size())
    return false;
  if (repeated)
    literals_.assign(size, in[0]);
  else
    literals_.assign(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(size));
  in = in.subspan(stored);
  return true;
}

bool Decoder::coded_literals(Bytes& in) {
  const bool new_table = (in[0] & 3) == 2;
  const unsigned format = in[0] >> 2 & 3;
  const std::size_t header = format < 2 ? 3 : format + 2;
  const unsigned width = format < 2 ? 10 : format == 2 ? 14 : 18;
  if (in.size() < header)
    return false;
  const std::uint64_t word = little_endian(in, header) >> 4;
  const std::uint64_t mask = (std::uint64_t{1} << width) - 1;
  const std::size_t size = word & mask, stored = word >> width & mask;
  in = in.subspan(header);
  if (size > kLargestBlock || stored > in.size())
    return false;
  Bytes content = in.first(stored);
  in = in.subspan(stored);
  std::size_t table = 0;
  if (new_table && !huffman_.read(content, table))
    return false;
  if (huffman_.empty())
    return false;
  content = content.subspan(table);
  literals_.resize(size);
  return format == 0 ? huffman_.decode(content, literals_.data(), size) : four_streams(content);
}

bool Decoder::four_streams(Bytes in) {
  constexpr std::size_t kJumpTable = 6;
  const std::size_t size = literals_.size(), part = (size + 3) / 4;
  if (in.size() < kJumpTable || part * 3 > size)
    return false;
  Bytes left = in.subspan(kJumpTable);
  for (std::size_t i = 0; i < 4; ++i) {
    const std::size_t stored = i < 3 ? little_endian(in.subspan(2 * i), 2) : left.size();
    const std::size_t count = i < 3 ? part : size - 3 * part;
    if (stored > left.size() || !huffman_.decode(left.first(stored), literals_.data() + i * part, count))
      return false;
    left = left.subspan(stored);
  }
  return true;
}

bool Decoder::sequences(Bytes in) {
  if (in.empty())
    return false;
  std::size_t count = in[0];
  std::size_t header = 1;
  if (count >= 128) {
    header = count == 255 ? 3 : 2;
    if (in.size() < header)
      return false;
    count = count == 255 ? little_endian(in.subspan(1), 2) + 0x7F00 : ((count - 128) << 8) + in[1];
  }
  in = in.subspan(header);
  if (count == 0)
    return in.empty() && append(literals_);
  if (in.empty() || (in[0] & 3) != 0)
    return false;
  const std::uint8_t modes = in[0];
  in = in.subspan(1);
  return code_table(kLiteralKind, modes >> 6, in, literal_codes_) &&
         code_table(kOffsetKind, modes >> 4 & 3, in, offset_codes_) &&
         code_table(kMatchKind, modes >> 2 & 3, in, match_codes_) && run_sequences(in, count);
}

bool Decoder::code_table(const CodeKind& kind, unsigned mode, Bytes& in, FseTable& table) {
  std::size_t used = 0;
  switch (mode) {
  case 0:
    return table.build(kind.defaults, kind.default_log);
  case 1:
    if (in.empty() || in[0] >= kind.symbols)
      return false;
    table.build_single(in[0]);
    used = 1;
    break;
  case 2:
    if (!table.read(in, kind.most_log, kind.symbols, used)) {
      table = {};
      return false;
    }
    break;
  default:
    return !table.empty();
  }
  in = in.subspan(used);
  return true;
}

bool Decoder::run_sequences(Bytes in, std::size_t count) {
  BackwardBits bits;
  if (!bits.open(in))
    return false;
  FseState literal, offset_state, match;
  literal.start(literal_codes_, bits);
  offset_state.start(offset_codes_, bits);
  match.start(match_codes_, bits);
  std::size_t used = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const unsigned offset_code = offset_state.symbol();
    const std::uint64_t value = (std::uint64_t{1} << offset_code) + bits.read(offset_code);
    const CodeRow& match_row = kMatchCodes[match.symbol()];
    const std::size_t match_length = match_row.base + bits.read(match_row.bits);
    const CodeRow& literal_row = kLiteralCodes[literal.symbol()];
    const std::size_t literal_length = literal_row.base + bits.read(literal_row.bits);
    if (i + 1 < count) {
      literal.advance(bits);
      match.advance(bits);
      offset_state.advance(bits);
    }
    std::size_t distance = 0;
    if (bits.overrun() || literal_length > literals_.size() - used ||
        !append(Bytes(literals_).subspan(used, literal_length)) ||
        !offset(value, literal_length == 0, distance) || !copy_match(distance, match_length))
      return false;
    used += literal_length;
  }
  return bits.finished() && append(Bytes(literals_).subspan(used));
}

// RFC 8878, 3.1.1.5: values 1 to 3 name recent distances, moved by one where no literals came before.
bool Decoder::offset(std::uint64_t value, bool no_literals, std::size_t& distance) {
  if (value > 3) {
    distance = value - 3;
    recent_ = {distance, recent_[0], recent_[1]};
    return true;
  }
  const std::size_t which = value - 1 + (no_literals ? 1 : 0);
  distance = which == 3 ? recent_[0] - 1 : recent_[which];
  if (which >= 2)
    recent_[2] = recent_[1];
  if (which >= 1)
    recent_[1] = recent_[0];
  recent_[0] = distance;
  return distance != 0;
}

} // namespace

bool decompress_zstd(Bytes in, std::size_t size, std::string& out) {
  // The output grows with what is really decoded: a lying size costs nothing.
  out.clear();
  constexpr std::size_t kFirst = std::size_t{1} << 20;
  out.reserve(std::min(size, kFirst));
  return Decoder(in, out, size).run();
}

} // namespace aliquot::simgpu::image
