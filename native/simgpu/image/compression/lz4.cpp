// LZ4 block format: tokens of literals and of matches in what was already written.
#include <cstring>

#include "native/simgpu/image/compression/decompress.hpp"

namespace aliquot::simgpu::image {
namespace {

constexpr std::size_t kShortestMatch = 4;

class Lz4 {
 public:
  Lz4(Bytes in, char* out, std::size_t size) : in_(in), out_(out), size_(size) {}

  bool run() {
    while (at_ < in_.size()) {
      const std::uint8_t token = in_[at_++];
      if (!literals(token >> 4))
        return false;
      if (at_ == in_.size())
        return written_ == size_; // the last sequence has literals only
      if (!match(token & 15))
        return false;
    }
    return size_ == 0 && in_.empty();
  }

 private:
  // A length of 15 goes on in bytes, the last of which is not 255.
  bool length(std::size_t& value) {
    if (value != 15)
      return true;
    std::uint8_t byte = 255;
    while (byte == 255) {
      if (at_ == in_.size())
        return false;
      byte = in_[at_++];
      value += byte;
    }
    return true;
  }

  bool literals(std::size_t count) {
    if (!length(count) || count > in_.size() - at_ || count > size_ - written_)
      return false;
    if (count != 0)
      std::memcpy(out_ + written_, in_.data() + at_, count);
    at_ += count;
    written_ += count;
    return true;
  }

  bool match(std::size_t count) {
    if (in_.size() - at_ < 2)
      return false;
    const std::size_t distance = in_[at_] | std::size_t{in_[at_ + 1]} << 8;
    at_ += 2;
    if (!length(count) || distance == 0 || distance > written_)
      return false;
    count += kShortestMatch;
    if (count > size_ - written_)
      return false;
    for (char* to = out_ + written_; count > 0; --count, ++to, ++written_) // may overlap itself
      *to = *(to - distance);
    return true;
  }

  Bytes in_;
  char* out_;
  std::size_t size_, at_ = 0, written_ = 0;
};

} // namespace

bool decompress_lz4(Bytes in, std::size_t size, std::string& out) {
  // A block expands at most 255 times: a declared size past that is a lie, and nothing is reserved for it.
  constexpr std::size_t kMostExpansion = 255;
  if (size / kMostExpansion > in.size())
    return false;
  out.resize(size);
  return Lz4(in, out.data(), size).run();
}

} // namespace aliquot::simgpu::image
