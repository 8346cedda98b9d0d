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
constexpr std::uint8_t kSurprising = 6, kMostSurprises = 12; // a surprise counts two, its absence one
constexpr std::uint8_t kMostVariants = 64;                   // a number that counts launches is no help

} // namespace

// May throw std::bad_alloc.
PriceTable::Price& PriceTable::find(std::uint64_t key) {
  if (prices_.size() >= kMostPrices && prices_.find(key) == prices_.end())
    prices_.clear();
  return prices_[key];
}

// Arguments that are seen for the first time: what the kernel takes with others is a guess at least. May
// throw std::bad_alloc.
void PriceTable::adopt(Price& price, const Work& work) {
  const auto base = prices_.find(work.base);
  if (price.ns != 0 || base == prices_.end())
    return;
  Price& others = base->second;
  price.ns = others.ns;
  price.adopted = true;
  if (++others.variants >= kMostVariants) {
    others.by_arguments = false;
    others.no_use = true;
  }
}

Quote PriceTable::quote(const Work& work) noexcept {
  const std::lock_guard lock(mutex_);
  try {
    Price& price = find(work.key);
    if (work.base != 0)
      adopt(price, work);
    if (given_up_ || price.strikes >= kStrikes)
      return {kLeast, kLongestInterval, true, false, false, false};
    const bool vague = price.surprises >= kSurprising;
    if (price.measured < kMeasuredAtFirst) {
      const std::uint64_t guess = price.ns != 0 ? price.ns : work.estimate;
      return {guess != 0 ? guess : kWhileUnknown, 0, guess != 0, true, vague || price.adopted, false};
    }
    const auto soon =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(kMeasureEvery / price.ns, kLongestInterval));
    return {price.ns, std::min(price.interval, soon), true, true, vague, price.by_arguments};
  } catch (const std::bad_alloc&) {
    return {work.estimate != 0 ? work.estimate : kWhileUnknown, 0, true, false, false, false};
  }
}

bool PriceTable::by_arguments(std::uint64_t key) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = prices_.find(key);
  return found != prices_.end() && found->second.by_arguments;
}

// Times that differ by half from what was expected, again and again.
void PriceTable::note_spread(Price& price, std::uint64_t ns, bool cold) noexcept {
  if (cold || price.measured < kMeasuredAtFirst)
    return;
  const bool surprising = ns > price.ns + price.ns / 2 || ns < price.ns / 2;
  if (!surprising)
    price.surprises = price.surprises > 0 ? price.surprises - 1 : 0;
  else
    price.surprises = std::min<std::uint8_t>(price.surprises + 2, kMostSurprises);
  if (price.surprises >= kSurprising && !price.no_use)
    price.by_arguments = true;
}

void PriceTable::learn(std::uint64_t key, std::uint64_t ns, bool cold) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = prices_.find(key);
  if (found == prices_.end())
    return;
  Price& price = found->second;
  ns = std::max(ns, kLeast);
  const std::uint64_t before = price.ns;
  note_spread(price, ns, cold);
  // The first launch of a kernel also loads it; a later, shorter one is nearer to what it will cost.
  if (price.measured == 0)
    price.ns = ns;
  else if (price.measured < kMeasuredAtFirst)
    price.ns = std::min(before, ns);
  else if (cold && ns > before) // the way of the launch may be in it
    price.ns = before + std::min(ns - before, before) / 16;
  else
    price.ns = before - before / 4 + std::min(ns, before * 8) / 4;
  price.adopted = false;
  price.measured += price.measured < UINT32_MAX ? 1 : 0;
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
    price.strikes = price.surprises = price.variants = 0;
    price.by_arguments = price.no_use = false;
  }
}

} // namespace aliquot::limiter::compute
