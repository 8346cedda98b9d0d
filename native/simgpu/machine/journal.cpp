#include "native/simgpu/machine/journal.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "native/simgpu/machine/clock.hpp"
#include "native/simgpu/machine/home.hpp"
#include "native/simgpu/machine/slots.hpp"

namespace aliquot::simgpu::machine {
namespace {

// At 2 ms a turn the four segments hold 17 minutes of the busiest switching, in 32 MiB a card.
constexpr std::uint64_t kSegmentBytes = 8ULL << 20;
constexpr std::uint64_t kKeptSegments = 4;

enum class Kind : std::uint32_t { Interval = 0x41524931, Command = 0x41524331, Slice = 0x41525331 };

struct Entry {
  Kind kind;
  std::uint32_t unit;
  std::uint64_t identity;
  std::uint64_t words[5]; // start, end, busy, flags; or text
  std::uint64_t check;
};
static_assert(sizeof(Entry) == 64);
constexpr std::size_t kTextBytes = sizeof(Entry::words);

std::uint64_t check_of(const Entry& entry) noexcept {
  std::uint64_t words[7], sum = 0x9e3779b97f4a7c15ULL;
  std::memcpy(words, &entry, sizeof words);
  for (const std::uint64_t word : words)
    sum = (sum ^ word) * 0xd6e8feb86659fd93ULL ^ sum >> 29;
  return sum;
}

std::uint64_t file_size(int fd) noexcept {
  struct stat info;
  return ::fstat(fd, &info) == 0 ? static_cast<std::uint64_t>(info.st_size) : 0;
}

// Makes the file where it is missing: under another name first, so that nobody who shares the machine meets
// it before he may write to it.
int open_to_append(const std::string& path) {
  constexpr int kAppending = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
  const int there = ::open(path.c_str(), kAppending);
  if (there >= 0 || errno != ENOENT)
    return there;
  const std::string fresh = path + "." + std::to_string(::getpid());
  ::unlink(fresh.c_str()); // of one who had this pid and died here
  const int made = ::open(fresh.c_str(), kAppending | O_CREAT | O_EXCL, 0600);
  const bool linked = made >= 0 && share_file(path.substr(0, path.rfind('/')), made) &&
                      ::link(fresh.c_str(), path.c_str()) == 0;
  ::unlink(fresh.c_str());
  if (linked)
    return made;
  if (made >= 0)
    ::close(made);
  return ::open(path.c_str(), kAppending); // somebody else was quicker
}

} // namespace

Journal::Journal(MachineRegion& region, std::string machine_path)
    : region_(region), stem_(std::move(machine_path)) {}

Journal::~Journal() {
  for (const Segment& segment : segments_)
    if (segment.fd >= 0)
      ::close(segment.fd);
}

void Journal::disown() noexcept {
  for (Segment& segment : segments_)
    segment.fd = -1; // the child may have closed it, and opened something else there
}

// So that a region that is made anew does not go on with the record of the old one.
std::uint64_t Journal::serial() const noexcept {
  std::uint64_t now = region_.serial.load();
  if (now == 0) {
    const std::uint64_t mine = (monotonic_ns() << 20 ^ static_cast<std::uint64_t>(::getpid())) | 1;
    if (region_.serial.compare_exchange_strong(now, mine))
      return mine;
  }
  return now;
}

std::string Journal::path_of(std::uint32_t card, std::uint64_t segment) const {
  char name[80];
  std::snprintf(name, sizeof name, ".record-%016llx-%u.%llu", static_cast<unsigned long long>(serial()), card,
                static_cast<unsigned long long>(segment));
  return stem_ + name;
}

// A program may close descriptors that it does not know, and open others under their numbers.
bool Journal::usable(Segment& segment, std::uint64_t number) const noexcept {
  struct stat info;
  return segment.fd >= 0 && segment.number == number && ::fstat(segment.fd, &info) == 0 &&
         info.st_ino == segment.inode && info.st_dev == segment.device;
}

bool Journal::open_segment(std::uint32_t card, Segment& segment) noexcept try {
  const std::uint64_t number = region_.record[card].segment.load();
  if (usable(segment, number))
    return true;
  if (segment.fd >= 0 && usable(segment, segment.number))
    ::close(segment.fd);
  segment = {};
  segment.fd = open_to_append(path_of(card, number));
  struct stat info;
  if (segment.fd < 0 || ::fstat(segment.fd, &info) != 0 || !S_ISREG(info.st_mode))
    return false;
  segment.number = number;
  segment.inode = info.st_ino;
  segment.device = info.st_dev;
  return true;
} catch (...) { // no memory for a name: counted as an entry that is missing
  return false;
}

bool Journal::write_entry(std::uint32_t card, const void* entry) noexcept {
  Segment& segment = segments_[card];
  if (!open_segment(card, segment) ||
      ::write(segment.fd, entry, sizeof(Entry)) != static_cast<ssize_t>(sizeof(Entry))) {
    region_.record[card].missing.fetch_add(1);
    return false;
  }
  return true;
}

// The first who finds a segment full begins the next one and drops the oldest.
void Journal::roll(std::uint32_t card, std::uint64_t number) noexcept try {
  if (!region_.record[card].segment.compare_exchange_strong(number, number + 1))
    return;
  if (number + 1 >= kKeptSegments)
    ::unlink(path_of(card, number + 1 - kKeptSegments).c_str());
} catch (...) { // no memory for a name: one segment too many stays until `reset`
}

// Once a segment: what the process is called and which slice it belongs to, for when it has long gone.
void Journal::introduce(std::uint32_t card, std::uint64_t identity) noexcept {
  for (std::uint32_t slot = 0; slot < slot_count(region_.slots); ++slot) {
    if (live_identity(region_.slots, slot) != identity)
      continue;
    const SlotTable::Detail& detail = region_.slots.detail[slot];
    Entry entry{Kind::Command, card * kUnitsPerCard, identity, {}, 0};
    std::memcpy(entry.words, detail.command, std::min(kTextBytes - 1, sizeof detail.command - 1));
    entry.check = check_of(entry);
    write_entry(card, &entry);
    if (detail.slice[0] == '\0')
      return;
    for (std::size_t part = 0; part < 2; ++part) {
      Entry text{Kind::Slice, static_cast<std::uint32_t>(part), identity, {}, 0};
      std::memcpy(text.words, detail.slice + part * 32, 32);
      text.check = check_of(text);
      write_entry(card, &text);
    }
    return;
  }
}

void Journal::append(const BusyInterval& interval) noexcept {
  const std::uint32_t card = interval.unit / kUnitsPerCard;
  if (card >= kMaxCards)
    return;
  const std::lock_guard lock(mutex_);
  Segment& segment = segments_[card];
  if (open_segment(card, segment) && segment.introduced != interval.identity) {
    segment.introduced = interval.identity;
    introduce(card, interval.identity);
  }
  Entry entry{Kind::Interval,
              interval.unit,
              interval.identity,
              {interval.start_ns, interval.end_ns, interval.busy_ns, interval.flags, 0},
              0};
  entry.check = check_of(entry);
  if (write_entry(card, &entry) && file_size(segment.fd) >= kSegmentBytes)
    roll(card, segment.number);
}

RecordBatch Journal::read(std::uint32_t card, RecordPosition& position, std::size_t most) const {
  RecordBatch batch;
  const std::uint64_t last = region_.record[card].segment.load();
  batch.missing = region_.record[card].missing.load();
  const std::uint64_t first = last >= kKeptSegments ? last + 1 - kKeptSegments : 0;
  if (position.segment < first || position.segment > last) {
    batch.gap = position.segment != 0 || position.offset != 0;
    position = {first, 0};
  }
  std::vector<Entry> entries(std::min<std::size_t>(most, 4096));
  while (batch.intervals.size() < most) {
    const int fd =
        ::open(path_of(card, position.segment).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    const ssize_t got = fd >= 0 ? ::pread(fd, entries.data(), entries.size() * sizeof(Entry),
                                          static_cast<off_t>(position.offset))
                                : 0;
    if (fd >= 0)
      ::close(fd);
    const std::size_t count = got > 0 ? static_cast<std::size_t>(got) / sizeof(Entry) : 0;
    if (count == 0) {
      if (position.segment >= last)
        break;
      position = {position.segment + 1, 0};
      continue;
    }
    position.offset += count * sizeof(Entry);
    for (std::size_t i = 0; i < count; ++i) {
      const Entry& entry = entries[i];
      if (entry.check != check_of(entry)) {
        ++batch.damaged;
        continue;
      }
      const char* text = reinterpret_cast<const char*>(entry.words);
      if (entry.kind == Kind::Interval && entry.unit / kUnitsPerCard == card)
        batch.intervals.push_back(
            {entry.identity, entry.words[0], entry.words[1], entry.words[2], entry.unit, entry.words[3]});
      else if (entry.kind == Kind::Command)
        batch.names[entry.identity].command.assign(text, ::strnlen(text, kTextBytes));
      else if (entry.kind == Kind::Slice && entry.unit == 0)
        batch.names[entry.identity].slice.assign(text, ::strnlen(text, 32));
      else if (entry.kind == Kind::Slice && entry.unit == 1)
        batch.names[entry.identity].slice.append(text, ::strnlen(text, 32));
    }
  }
  return batch;
}

} // namespace aliquot::simgpu::machine
