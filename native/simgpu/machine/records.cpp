#include "native/simgpu/machine/records.hpp"

#include <algorithm>
#include <cstring>
#include <set>
#include <tuple>

namespace aliquot::simgpu::machine {
namespace {

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint64_t kLow = 0xffffffff;

void bucket_add(Word& bucket, std::uint64_t number, std::uint64_t ns) noexcept {
  std::uint64_t now = bucket.load(std::memory_order_relaxed), wanted;
  do {
    const std::uint64_t held = now >> 32 == (number & kLow) ? now & kLow : 0;
    wanted = (number & kLow) << 32 | std::min(held + ns, kBucketNs);
  } while (!bucket.compare_exchange_weak(now, wanted, std::memory_order_relaxed));
}

// Text in a departed record takes whole words.
template <std::size_t Size>
void pack(const char (&text)[Size], std::uint64_t* words) noexcept {
  static_assert(Size % 8 == 0);
  std::memcpy(words, text, Size);
}

template <std::size_t Size>
void unpack(const std::uint64_t* words, char (&text)[Size]) noexcept {
  std::memcpy(text, words, Size);
  text[Size - 1] = '\0';
}

} // namespace

void busy_clear(Busy& busy) noexcept {
  for (Word& bucket : busy.bucket)
    bucket.store(0, std::memory_order_relaxed);
}

void busy_add(Busy& busy, std::uint64_t start_ns, std::uint64_t end_ns) noexcept {
  if (end_ns <= start_ns)
    return;
  const std::uint64_t window = kBucketNs * (kBuckets - 1);
  std::uint64_t from = std::max(start_ns, end_ns > window ? end_ns - window : 0);
  while (from < end_ns) {
    const std::uint64_t number = from / kBucketNs;
    const std::uint64_t to = std::min(end_ns, (number + 1) * kBucketNs);
    bucket_add(busy.bucket[number % kBuckets], number, to - from);
    from = to;
  }
}

std::uint64_t busy_last_second(const Busy& busy, std::uint64_t now_ns) noexcept {
  const std::uint64_t last = now_ns / kBucketNs;
  const std::uint64_t full = kSecond / kBucketNs;
  std::uint64_t sum = 0;
  for (std::uint64_t back = 0; back <= full && back <= last; ++back) {
    const std::uint64_t number = last - back;
    const std::uint64_t bucket = busy.bucket[number % kBuckets].load(std::memory_order_relaxed);
    if (bucket >> 32 != (number & kLow))
      continue;
    std::uint64_t ns = std::min(bucket & kLow, kBucketNs);
    if (back == full) // only the part of the oldest bucket that is within the second
      ns = ns * (kBucketNs - now_ns % kBucketNs) / kBucketNs;
    sum += ns;
  }
  return std::min(sum, kSecond);
}

void sort_and_drop_doubles(std::vector<BusyInterval>& intervals) {
  auto order = [](const BusyInterval& a, const BusyInterval& b) {
    return std::tie(a.start_ns, a.identity) < std::tie(b.start_ns, b.identity);
  };
  auto same = [](const BusyInterval& a, const BusyInterval& b) {
    return a.start_ns == b.start_ns && a.identity == b.identity && a.unit == b.unit;
  };
  std::sort(intervals.begin(), intervals.end(), order);
  intervals.erase(std::unique(intervals.begin(), intervals.end(), same), intervals.end());
}

void push_departed(MachineRegion& region, std::uint64_t identity, const ProcessRecord& record) noexcept {
  std::array<std::uint64_t, kDepartedWords> words{identity,
                                                  record.start_time,
                                                  record.card,
                                                  record.peak_vram_bytes,
                                                  record.busy_ns,
                                                  record.launches,
                                                  record.copied_to_device,
                                                  record.copied_to_host,
                                                  record.copied_on_device,
                                                  static_cast<std::uint64_t>(record.pid)};
  words[22] = std::uint64_t{record.gpu_instance} << 32 | record.compute_instance;
  pack(record.command, &words[10]);
  pack(record.slice, &words[14]);
  const std::uint64_t index = region.departures.fetch_add(1);
  write_record(region.departed[index % kDeparted], index + 1, words);
}

std::vector<ProcessRecord> read_departed(const MachineRegion& region) {
  std::vector<ProcessRecord> records;
  std::set<std::pair<std::uint64_t, std::uint64_t>> seen; // identity and unit: burials may be double
  const std::uint64_t end = region.departures.load();
  const std::uint64_t count = std::min<std::uint64_t>(end, kDeparted);
  for (std::uint64_t index = end - count; index != end; ++index) {
    std::array<std::uint64_t, kDepartedWords> words;
    if (!read_record(region.departed[index % kDeparted], words) ||
        !seen.emplace(words[0], words[2] << 32 ^ words[22]).second)
      continue;
    ProcessRecord record;
    record.start_time = words[1];
    record.card = static_cast<std::uint32_t>(words[2]);
    record.peak_vram_bytes = words[3];
    record.busy_ns = words[4];
    record.launches = words[5];
    record.copied_to_device = words[6];
    record.copied_to_host = words[7];
    record.copied_on_device = words[8];
    record.pid = static_cast<std::int32_t>(words[9]);
    record.gpu_instance = static_cast<std::uint32_t>(words[22] >> 32);
    record.compute_instance = static_cast<std::uint32_t>(words[22]);
    record.identity = words[0];
    unpack(&words[10], record.command);
    unpack(&words[14], record.slice);
    records.push_back(record);
  }
  return records;
}

} // namespace aliquot::simgpu::machine
