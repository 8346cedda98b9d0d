#include "native/limiter/compute/price_table.hpp"

#include <algorithm>
#include <new>

namespace aliquot::limiter::compute {
namespace {

constexpr std::size_t kMostPrices = 65'536; // programs that compile for ever would fill memory
constexpr std::uint32_t kMeasuredAtFirst = 3;
constexpr std::uint32_t kFirstInterval = 64, kLongestInterval = 1'024;
constexpr std::uint64_t kMeasureEvery =
    2'000'000;                      // ns of work; a measurement costs about a thousandth of that
constexpr std::uint64_t kLeast = 1; // ns; a driver that works at once measures 0
constexpr std::uint64_t kWhileUnknown = 100'000;
constexpr unsigned kStrikes = 2;

} // namespace

// May throw std::bad_alloc.
PriceTable::Price& PriceTable::find(std::uint64_t key) {
  if (prices_.size() >= kMostPrices && prices_.find(key) == prices_.end())
    prices_.clear();
  return prices_[key];
}

Quote PriceTable::quote(const Work& work) noexcept {
  const std::lock_guard lock(mutex_);
  try {
    Price& price = find(work.key);
    if (given_up_ || price.strikes >= kStrikes)
      return {kLeast, kLongestInterval, true, false};
    if (price.measured < kMeasuredAtFirst) {
      const std::uint64_t guess = price.measured != 0 ? price.ns : work.estimate;
      return {guess != 0 ? guess : kWhileUnknown, 0, guess != 0, true};
    }
    const auto soon =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(kMeasureEvery / price.ns, kLongestInterval));
    return {price.ns, std::min(price.interval, soon), true, true};
  } catch (const std::bad_alloc&) {
    return {work.estimate != 0 ? work.estimate : kWhileUnknown, 0, true, false};
  }
}

void PriceTable::learn(std::uint64_t key, std::uint64_t ns) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = prices_.find(key);
  if (found == prices_.end())
    return;
  Price& price = found->second;
  ns = std::max(ns, kLeast);
  const std::uint64_t before = price.ns;
  // The first launch of a kernel also loads it; a later, shorter one is nearer to what it will cost.
  if (price.measured < kMeasuredAtFirst)
    price.ns = price.measured == 0 ? ns : std::min(before, ns);
  else
    price.ns = before - before / 4 + std::min(ns, before * 8) / 4;
  ++price.measured;
  const bool steady = ns < before + before / 4 && ns > before - before / 4;
  price.interval =
      steady ? std::min(std::max(price.interval * 2, kFirstInterval), kLongestInterval) : kFirstInterval;
}

void PriceTable::depends_on_later_work(std::uint64_t key) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = prices_.find(key);
  if (found != prices_.end() && found->second.strikes < kStrikes)
    ++found->second.strikes;
}

void PriceTable::give_up() noexcept {
  const std::lock_guard lock(mutex_);
  given_up_ = true;
}

void PriceTable::forget(std::uint64_t key) noexcept {
  const std::lock_guard lock(mutex_);
  prices_.erase(key);
}

void PriceTable::doubt_all() noexcept {
  const std::lock_guard lock(mutex_);
  for (auto& [key, price] : prices_) {
    price.measured = std::min<std::uint32_t>(price.measured, 1);
    price.strikes = 0;
  }
}

} // namespace aliquot::limiter::compute
