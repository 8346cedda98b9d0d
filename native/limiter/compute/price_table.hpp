// What each kind of work costs, in nanoseconds of the device: learned from measured launches.
#pragma once

#include <cstdint>
#include <mutex>
#include <unordered_map>

#include "native/limiter/compute/work.hpp"

namespace aliquot::limiter::compute {

struct Quote {
  std::uint64_t price; // ns
  std::uint32_t uses;  // how often it holds before the table is to be asked again
  bool known;          // measured, or at least estimated; otherwise the work goes alone
  bool measure;        // this one is to be measured
  bool vague;          // it takes now much longer and now much shorter
  bool by_arguments;   // so the next one's arguments are to be told apart
};

class PriceTable {
 public:
  // The caller will do the work once now, and up to `uses` times more without asking again.
  Quote quote(const Work& work) noexcept;
  // A measured time. `cold`: the device was idle before, so the way of the launch may be in it.
  void learn(std::uint64_t key, std::uint64_t ns, bool cold) noexcept;
  // Whether the launches under this key take so different times that their arguments should be told apart.
  bool by_arguments(std::uint64_t key) noexcept;
  // The work only ended because something that waited for it was let through: no time of it means anything.
  void depends_on_later_work(std::uint64_t key) noexcept;
  // Measuring does not work here at all.
  void give_up() noexcept;

  // Another kernel or graph may have this name soon.
  void forget(std::uint64_t key) noexcept;
  // Functions may have gone: what is known is a guess until it is measured again.
  void doubt_all() noexcept;

 private:
  struct Price {
    std::uint64_t ns = 0;
    std::uint32_t measured = 0;
    std::uint32_t interval = 0; // between measurements
    std::uint8_t strikes = 0;
    std::uint8_t surprises = 0; // more of them lately than of what was expected
    std::uint8_t variants = 0;  // by arguments
    bool by_arguments = false;
    bool no_use = false;  // to tell arguments apart
    bool adopted = false; // a guess, by what other arguments take
  };
  Price& find(std::uint64_t key);
  void adopt(Price& price, const Work& work);
  void note_spread(Price& price, std::uint64_t ns, bool cold) noexcept;

  std::mutex mutex_;
  std::unordered_map<std::uint64_t, Price> prices_;
  bool given_up_ = false;
};

} // namespace aliquot::limiter::compute
