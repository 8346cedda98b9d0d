#include "native/simgpu/driver/core/shared_event.hpp"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <map>
#include <mutex>
#include <vector>

#include "native/simgpu/driver/core/event.hpp"
#include "native/simgpu/machine/process_identity.hpp"

namespace aliquot::simgpu::driver {

namespace {
constexpr std::uint64_t kFileBytes = 64 << 10;
constexpr std::uint64_t kEventsPerFile = kFileBytes / sizeof(SharedEventState);
// How often a wait looks whether the recorder still lives.
constexpr std::uint64_t kLookEveryNs = 10'000'000;
// A recorder needs nanoseconds from taking a ticket to saying whose it is. One that takes this long is dead.
constexpr std::uint64_t kPatienceNs = 100'000'000;
} // namespace

// A mapped file of events; in the process that made it, with a list of what is free.
class SharedEventFile {
 public:
  SharedEventFile(std::shared_ptr<BackingFile> file_, void* at_) noexcept
      : file(std::move(file_)), at(static_cast<std::uint8_t*>(at_)) {}
  ~SharedEventFile() { munmap(at, kFileBytes); }
  SharedEventFile(const SharedEventFile&) = delete;
  SharedEventFile& operator=(const SharedEventFile&) = delete;

  static std::shared_ptr<SharedEventFile> map(std::shared_ptr<BackingFile> file) {
    if (!file || file->bytes() != kFileBytes)
      return nullptr;
    void* at = mmap(nullptr, kFileBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file->fd(), 0);
    return at == MAP_FAILED ? nullptr : std::make_shared<SharedEventFile>(std::move(file), at);
  }

  SharedEventState& state(std::uint64_t offset) const noexcept {
    return *reinterpret_cast<SharedEventState*>(at + offset);
  }

  const std::shared_ptr<BackingFile> file;
  std::uint8_t* const at;
  std::vector<std::uint64_t> free; // offsets; guarded by SharedEventFiles
};

namespace {

// The files that this process has: its own and those of others.
class SharedEventFiles {
 public:
  static SharedEventFiles& instance() {
    static auto* made = new SharedEventFiles; // never destroyed: threads may be inside at exit
    return *made;
  }

  // A free place, zeroed.
  std::shared_ptr<SharedEventFile> take(std::uint64_t& offset) {
    const std::lock_guard guard(mutex_);
    for (const auto& each : own_)
      if (!each->free.empty())
        return take_from(each, offset);
    const auto made = SharedEventFile::map(BackingFile::make(kFileBytes));
    if (!made)
      return nullptr;
    for (std::uint64_t i = kEventsPerFile; i-- > 0;)
      made->free.push_back(i * sizeof(SharedEventState));
    own_.push_back(made);
    return take_from(made, offset);
  }

  void give_back(SharedEventFile& file, SharedEventState& state) noexcept {
    const std::lock_guard guard(mutex_);
    state.id.store(0);
    // Its list once held all places, so there is room.
    file.free.push_back(static_cast<std::uint64_t>(reinterpret_cast<std::uint8_t*>(&state) - file.at));
  }

  // A file of another process is mapped once, for as long as one of its events is open.
  std::shared_ptr<SharedEventFile> open(const ProcessFile& name) {
    const std::lock_guard guard(mutex_);
    auto& known = others_[name.inode];
    auto file = known.lock();
    if (!file) {
      file = SharedEventFile::map(open_file(name));
      known = file;
    }
    std::erase_if(others_, [](const auto& each) { return each.second.expired(); });
    return file;
  }

 private:
  static std::shared_ptr<SharedEventFile> take_from(const std::shared_ptr<SharedEventFile>& file,
                                                    std::uint64_t& offset) {
    offset = file->free.back();
    file->free.pop_back();
    SharedEventState& state = file->state(offset);
    state.latest.store(0);
    for (auto& each : state.record)
      each.state.store(0);
    return file;
  }

  std::mutex mutex_;
  std::vector<std::shared_ptr<SharedEventFile>> own_;
  std::map<std::uint64_t, std::weak_ptr<SharedEventFile>> others_;
};

long futex(std::atomic<std::uint32_t>& word, int operation, std::uint32_t value,
           const timespec* timeout) noexcept {
  const int saved = errno;
  const long result = syscall(SYS_futex, &word, operation, value, timeout, nullptr, 0);
  errno = saved;
  return result;
}

} // namespace

std::shared_ptr<SharedEvent> SharedEvent::make(std::uint64_t self) {
  static std::atomic<std::uint64_t> next_id{1};
  std::uint64_t offset = 0;
  auto file = SharedEventFiles::instance().take(offset);
  if (!file)
    return nullptr;
  SharedEventState& state = file->state(offset);
  const std::uint64_t id = next_id.fetch_add(1);
  state.id.store(id);
  return std::make_shared<SharedEvent>(std::move(file), state, id, self, true);
}

std::shared_ptr<SharedEvent> SharedEvent::open(const SharedEventName& name, std::uint64_t self) {
  if (name.offset % sizeof(SharedEventState) != 0 || name.offset >= kFileBytes || name.id == 0)
    return nullptr;
  auto file = SharedEventFiles::instance().open(name.file);
  if (!file)
    return nullptr;
  SharedEventState& state = file->state(name.offset);
  if (state.id.load() != name.id)
    return nullptr;
  return std::make_shared<SharedEvent>(std::move(file), state, name.id, self, false);
}

SharedEvent::~SharedEvent() {
  if (own_)
    SharedEventFiles::instance().give_back(*file_, state_);
}

SharedEventName SharedEvent::name() const noexcept {
  const auto* at = reinterpret_cast<const std::uint8_t*>(&state_);
  return {name_of(*file_->file), static_cast<std::uint64_t>(at - file_->at), id_};
}

std::uint64_t SharedEvent::begin_record() noexcept {
  const std::uint64_t ticket = state_.latest.fetch_add(1) + 1;
  auto& record = state_.record[ticket % kSharedRecords];
  record.recorder.store(self_);
  record.state.store(ticket << 1);
  return ticket;
}

void SharedEvent::reach(std::uint64_t ticket) noexcept {
  std::uint64_t under_way = ticket << 1;
  state_.record[ticket % kSharedRecords].state.compare_exchange_strong(under_way, under_way | 1);
  state_.progress.fetch_add(1);
  futex(state_.progress, FUTEX_WAKE, INT_MAX, nullptr);
}

std::uint64_t SharedEvent::latest() const noexcept {
  return state_.id.load() == id_ ? state_.latest.load() : 0;
}

SharedEventWait::SharedEventWait(std::shared_ptr<SharedEvent> event, std::uint64_t ticket) noexcept
    : event_(std::move(event)), ticket_(ticket), since_ns_(now_ns()), looked_ns_(since_ns_) {}

bool SharedEventWait::over() noexcept {
  const SharedEventState& state = event_->state_;
  if (ticket_ == 0 || state.id.load() != event_->id_)
    return true; // never recorded; or destroyed by its owner
  const auto& record = state.record[ticket_ % kSharedRecords];
  const std::uint64_t seen = record.state.load();
  if (seen >> 1 > ticket_)
    return true;
  const std::uint64_t now = now_ns();
  if (seen >> 1 < ticket_)
    return now - since_ns_ > kPatienceNs;
  if ((seen & 1) != 0)
    return true;
  if (now - looked_ns_ < kLookEveryNs)
    return false;
  looked_ns_ = now;
  return machine::life_of(record.recorder.load()) == machine::Life::Dead;
}

void SharedEventWait::sleep(unsigned milliseconds) noexcept {
  SharedEventState& state = event_->state_;
  const std::uint32_t before = state.progress.load();
  if (over())
    return;
  const timespec time{milliseconds / 1000, static_cast<long>(milliseconds % 1000) * 1000000};
  futex(state.progress, FUTEX_WAIT, before, &time);
}

} // namespace aliquot::simgpu::driver
