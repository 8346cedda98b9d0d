// Mutations; see mutate.hpp.
#include "native/common/fuzz/mutate.hpp"

#include <algorithm>
#include <cstring>

namespace aliquot::fuzz {

std::uint64_t Random::next() {
  state_ ^= state_ >> 12;
  state_ ^= state_ << 25;
  state_ ^= state_ >> 27;
  return state_ * 0x2545F4914F6CDD1Du;
}

std::string Mutator::make() {
  std::string input = corpus_[random_.below(corpus_.size())];
  do { // half of all inputs differ in one place only, and get past what checks the rest
    mutate(input);
    if (input.size() > most_bytes_)
      input.resize(most_bytes_);
  } while (random_.below(2) != 0);
  return input;
}

void Mutator::mutate(std::string& input) {
  using Mutation = void (Mutator::*)(std::string&);
  static constexpr Mutation kMutations[] = {
      &Mutator::flip_bit, &Mutator::set_byte,   &Mutator::set_number, &Mutator::change_digits,
      &Mutator::erase,    &Mutator::truncate,   &Mutator::repeat,     &Mutator::insert_word,
      &Mutator::splice,   &Mutator::swap_words,
  };
  if (input.empty())
    insert_word(input);
  else
    (this->*kMutations[random_.below(std::size(kMutations))])(input);
}

// Mostly short, sometimes anything up to the end.
std::size_t Mutator::length_from(std::size_t at, const std::string& input) {
  const std::size_t room = input.size() - at;
  const std::size_t bound = random_.below(4) != 0 ? std::min<std::size_t>(room, 32) : room;
  return std::min(room, 1 + random_.below(bound));
}

void Mutator::flip_bit(std::string& input) {
  char& byte = input[random_.below(input.size())];
  byte = static_cast<char>(byte ^ 1 << random_.below(8));
}

void Mutator::set_byte(std::string& input) {
  input[random_.below(input.size())] = static_cast<char>(random_.next());
}

// A number at which bounds checks fail, in binary.
void Mutator::set_number(std::string& input) {
  static constexpr std::uint64_t kNumbers[] = {0,
                                               1,
                                               7,
                                               15,
                                               16,
                                               24,
                                               63,
                                               64,
                                               127,
                                               128,
                                               255,
                                               256,
                                               0x7FFF,
                                               0x8000,
                                               0xFFFF,
                                               0x10000,
                                               0x7FFFFFFF,
                                               0x80000000,
                                               0xFFFFFFFF,
                                               0x100000000,
                                               0x7FFFFFFFFFFFFFFF,
                                               0x8000000000000000,
                                               0xFFFFFFFFFFFFFFF0,
                                               0xFFFFFFFFFFFFFFFF};
  const std::size_t width = std::size_t{1} << random_.below(4);
  if (input.size() < width)
    return;
  std::uint64_t value =
      random_.below(3) == 0 ? input.size() - random_.below(32) : kNumbers[random_.below(std::size(kNumbers))];
  std::memcpy(input.data() + random_.below(input.size() - width + 1), &value, width);
}

// A number in text becomes another one.
void Mutator::change_digits(std::string& input) {
  static constexpr std::string_view kNumbers[] = {"0",
                                                  "1",
                                                  "3",
                                                  "31",
                                                  "32",
                                                  "33",
                                                  "64",
                                                  "255",
                                                  "65536",
                                                  "4294967295",
                                                  "4294967296",
                                                  "9223372036854775808",
                                                  "18446744073709551615",
                                                  "18446744073709551616",
                                                  "0x7fffffffffffffff",
                                                  "0f7f800000",
                                                  "0dFFF8000000000000",
                                                  "-1"};
  const std::size_t start = input.find_first_of("0123456789", random_.below(input.size()));
  if (start == std::string::npos)
    return;
  const std::size_t end = input.find_first_not_of("0123456789", start);
  input.replace(start, end == std::string::npos ? end : end - start,
                kNumbers[random_.below(std::size(kNumbers))]);
}

void Mutator::erase(std::string& input) {
  const std::size_t at = random_.below(input.size());
  input.erase(at, length_from(at, input));
}

void Mutator::truncate(std::string& input) {
  input.resize(random_.below(input.size()));
}

// A piece again and again: nesting, long lists, large tables.
void Mutator::repeat(std::string& input) {
  const std::size_t at = random_.below(input.size());
  const std::string piece = input.substr(at, length_from(at, input));
  std::size_t count = random_.below(8) != 0 ? 1 + random_.below(4) : 1 + random_.below(2000);
  count = std::min(count, most_bytes_ / piece.size() + 1);
  std::string run;
  for (std::size_t i = 0; i < count; ++i)
    run += piece;
  input.insert(at, run);
}

void Mutator::insert_word(std::string& input) {
  if (words_.empty()) {
    input.insert(random_.below(input.size() + 1), 1, static_cast<char>(random_.next()));
    return;
  }
  input.insert(random_.below(input.size() + 1), words_[random_.below(words_.size())]);
}

void Mutator::splice(std::string& input) {
  const std::string& other = corpus_[random_.below(corpus_.size())];
  if (other.empty())
    return;
  const std::size_t from = random_.below(other.size()), at = random_.below(input.size());
  const std::size_t length = length_from(from, other);
  if (random_.below(2) == 0)
    input.insert(at, other, from, length);
  else
    input.replace(at, length, other, from, length);
}

void Mutator::swap_words(std::string& input) {
  const std::size_t a = random_.below(input.size()), b = random_.below(input.size());
  const std::size_t length = std::min({length_from(a, input), input.size() - b, a < b ? b - a : a - b});
  std::swap_ranges(input.begin() + static_cast<std::ptrdiff_t>(a),
                   input.begin() + static_cast<std::ptrdiff_t>(a + length),
                   input.begin() + static_cast<std::ptrdiff_t>(b));
}

} // namespace aliquot::fuzz
