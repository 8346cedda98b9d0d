// Open addressing by whole lines. A record lies in the first line with room from its home on, and the lines
// that it passed count it, so a search ends at the first line that nobody passed, and erasing moves nothing.
#include "native/limiter/cuda/packed_records.hpp"

#include <bit>
#include <cstdlib>
#include <new>

namespace aliquot::limiter {
namespace {

constexpr std::size_t kFirstLines = 2;
// At most so many of all places are taken, so that few records lie outside of their home.
constexpr std::size_t kFullPart = 7, kOfParts = 8;

} // namespace

// The upper half of a product with the number of lines spreads over any number of them; the topmost bits of
// the hash have chosen the shard. Addresses differ in their middle bits; the multiplication carries those to
// the top (Fibonacci hashing, Knuth 6.4).
std::size_t PackedShard::home(std::uint64_t address) const noexcept {
  const std::uint64_t hash = address * 0x9E3779B97F4A7C15u;
  return static_cast<std::size_t>((hash >> 26u & 0xFFFFFFFFu) * count_ >> 32u);
}

PackedRecord* PackedShard::search(std::uint64_t address, std::size_t& line) noexcept {
  line = count_ != 0 ? home(address) : 0;
  for (std::size_t looked = 0; looked < count_; ++looked, line = after(line)) {
    if (const unsigned found = lines_[line].matching(address); found != 0)
      return &lines_[line].records[std::countr_zero(found)];
    if (lines_[line].passed == 0)
      return nullptr;
  }
  return nullptr;
}

// There is room.
void PackedShard::place(PackedRecord record) noexcept {
  std::size_t line = 0;
  if (PackedRecord* known = search(record.address(), line)) {
    *known = record;
    --used_;
    return;
  }
  line = home(record.address());
  unsigned room = lines_[line].empty();
  for (; room == 0; room = lines_[line].empty()) {
    ++lines_[line].passed;
    line = after(line);
  }
  lines_[line].records[std::countr_zero(room)] = record;
}

void PackedShard::erase(PackedRecord& record, std::size_t line) noexcept {
  for (std::size_t passed = home(record.address()); passed != line; passed = after(passed))
    --lines_[passed].passed;
  record = {};
  --used_;
}

bool PackedShard::grow() noexcept {
  const std::size_t wider = count_ == 0 ? kFirstLines : count_ + (count_ + 1) / 2;
  auto* fresh = static_cast<Line*>(std::aligned_alloc(alignof(Line), wider * sizeof(Line)));
  if (fresh == nullptr)
    return false;
  for (std::size_t each = 0; each < wider; ++each)
    new (&fresh[each]) Line;
  Line* old = lines_;
  const std::size_t old_count = count_;
  lines_ = fresh;
  count_ = wider;
  for (std::size_t each = 0; each < old_count; ++each) {
    for (const PackedRecord record : old[each].records) {
      if (!record.empty())
        place(record);
    }
  }
  std::free(old);
  return true;
}

void PackedShard::place_newest() noexcept {
  if (!newest_.empty())
    place(newest_);
  newest_ = {};
}

bool PackedShard::insert(PackedRecord record) noexcept {
  if ((used_ + 1) * kOfParts > count_ * kRecordsPerLine * kFullPart && !grow())
    return false;
  place_newest();
  newest_ = record;
  ++used_;
  __builtin_prefetch(&lines_[home(record.address())], 1);
  return true;
}

bool PackedShard::take(std::uint64_t address, PackedRecord& taken) noexcept {
  if (newest_.is(address)) {
    taken = newest_;
    newest_ = {};
    --used_;
    return true;
  }
  std::size_t line = 0;
  PackedRecord* found = search(address, line);
  if (found == nullptr)
    return false;
  taken = *found;
  erase(*found, line);
  return true;
}

bool PackedShard::find(std::uint64_t address, PackedRecord& found) noexcept {
  place_newest();
  std::size_t line = 0;
  const PackedRecord* known = search(address, line);
  if (known != nullptr)
    found = *known;
  return known != nullptr;
}

} // namespace aliquot::limiter
