// The state of an event that several processes share: who recorded it last, and whether that was reached.
//
// Lies in a file that the others map (core/process_file.hpp); one file holds many events, as descriptors are
// few. Each recording has a ticket. What is written there is not trusted, and any process may be killed at
// any instruction: a recording whose process is dead counts as reached, so that nobody waits for it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "native/simgpu/driver/core/process_file.hpp"

namespace aliquot::simgpu::driver {

// As many recordings of one event may be under way at once without an older one being taken for reached.
inline constexpr std::uint64_t kSharedRecords = 6;

struct alignas(128) SharedEventState {
  std::atomic<std::uint64_t> id;       // of the event that lies here; 0: none
  std::atomic<std::uint64_t> latest;   // ticket of the last recording; 0: never recorded
  std::atomic<std::uint32_t> progress; // changes when a recording is reached; a futex
  struct Record {
    std::atomic<std::uint64_t> state;    // ticket << 1, and whether it was reached
    std::atomic<std::uint64_t> recorder; // the machine's identity of the process; written first
  } record[kSharedRecords];
};
static_assert(sizeof(SharedEventState) == 128);

struct SharedEventName {
  ProcessFile file;
  std::uint64_t offset = 0, id = 0;
};

class SharedEventFile;

class SharedEvent {
 public:
  // A fresh one of this process, whose identity on the machine is `self`. Null where the host gives no
  // memory.
  static std::shared_ptr<SharedEvent> make(std::uint64_t self);
  // One of another process; null where it is gone.
  static std::shared_ptr<SharedEvent> open(const SharedEventName& name, std::uint64_t self);
  ~SharedEvent();
  SharedEvent(const SharedEvent&) = delete;
  SharedEvent& operator=(const SharedEvent&) = delete;

  SharedEventName name() const noexcept;
  std::uint64_t begin_record() noexcept; // its ticket
  void reach(std::uint64_t ticket) noexcept;
  std::uint64_t latest() const noexcept;

  SharedEvent(std::shared_ptr<SharedEventFile> file, SharedEventState& state, std::uint64_t id,
              std::uint64_t self, bool own) noexcept
      : file_(std::move(file)), state_(state), id_(id), self_(self), own_(own) {}

 private:
  friend class SharedEventWait;

  const std::shared_ptr<SharedEventFile> file_;
  SharedEventState& state_;
  const std::uint64_t id_, self_;
  const bool own_;
};

// One wait for one recording.
class SharedEventWait {
 public:
  SharedEventWait(std::shared_ptr<SharedEvent> event, std::uint64_t ticket) noexcept;
  // Reached, given up by a dead process, or replaced long ago.
  bool over() noexcept;
  // Sleeps until something was reached, or for `milliseconds`.
  void sleep(unsigned milliseconds) noexcept;

 private:
  const std::shared_ptr<SharedEvent> event_;
  const std::uint64_t ticket_;
  std::uint64_t since_ns_ = 0, looked_ns_ = 0;
};

} // namespace aliquot::simgpu::driver
