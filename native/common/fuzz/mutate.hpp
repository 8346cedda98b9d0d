// Deterministic mutations of an input: the same seed gives the same inputs on every machine.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace aliquot::fuzz {

// xorshift64*: small, and defined by its code rather than by a library.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15u + 0x632BE59BD9B4E019u) {}
  std::uint64_t next();
  std::size_t below(std::size_t bound) { return bound == 0 ? 0 : static_cast<std::size_t>(next() % bound); }

 private:
  std::uint64_t state_;
};

class Mutator {
 public:
  Mutator(Random& random, const std::vector<std::string>& corpus, const std::vector<std::string_view>& words,
          std::size_t most_bytes)
      : random_(random), corpus_(corpus), words_(words), most_bytes_(most_bytes) {}

  // A member of the corpus after a few mutations.
  std::string make();

 private:
  void mutate(std::string& input);
  void flip_bit(std::string& input);
  void set_byte(std::string& input);
  void set_number(std::string& input);
  void change_digits(std::string& input);
  void erase(std::string& input);
  void truncate(std::string& input);
  void repeat(std::string& input);
  void insert_word(std::string& input);
  void splice(std::string& input);
  void swap_words(std::string& input);
  std::size_t length_from(std::size_t at, const std::string& input);

  Random& random_;
  const std::vector<std::string>& corpus_;
  const std::vector<std::string_view>& words_;
  std::size_t most_bytes_;
};

} // namespace aliquot::fuzz
