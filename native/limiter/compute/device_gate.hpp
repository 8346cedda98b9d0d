// Admission to one device: what may go to the driver now, under the turn that the arbiter lends, or under a
// pace of this process' own where there is no arbiter. README.md states the rules.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>

#include "aliquot/slice_layout.hpp"
#include "native/limiter/compute/arbiter_link.hpp"
#include "native/limiter/compute/lanes.hpp"
#include "native/limiter/compute/pace.hpp"
#include "native/limiter/compute/price_table.hpp"
#include "native/limiter/compute/siblings.hpp"
#include "native/limiter/compute/thread_state.hpp"

namespace aliquot::limiter::compute {

class Gate;

enum class Mode : std::uint8_t { Free, Paced, Turns };

struct Verdict {
  enum class Kind : std::uint8_t { Pass, AwaitTurn, AwaitWork, AwaitTime } kind;
  std::uint64_t until = 0; // CLOCK_MONOTONIC, when to look again; AwaitTurn: the turn that is over
};

class DeviceGate {
 public:
  void start(Gate& gate, unsigned device) noexcept;

  // Cheap enough to be asked now and then; does not change within a call.
  Mode mode(std::uint64_t now) const noexcept;
  const layout::DeviceGrant& grant() const noexcept { return *grant_; }

  // Admits the work, charges it and gives the thread a lease, or says what to wait for.
  Verdict admit(ThreadState& thread, const Work& work, const Quote& quote, Lane& lane, std::uint64_t now,
                Pending& pending) noexcept;
  // Before the driver's call, for work that is to be measured.
  void begin_measuring(Pending& pending) noexcept;
  // After it.
  void settle(const Work& work, Pending& pending, bool succeeded) noexcept;
  void note_held_back(std::uint64_t ns) noexcept { held_back_.fetch_add(ns, std::memory_order_relaxed); }

  // Null where there is no memory for it.
  Lane* find_lane(const ThreadState& thread, CUcontext context, CUstream stream, bool waits) noexcept;
  // The thread's own call has waited for the stream, or for the whole context where that is null.
  void drained(const ThreadState& thread, CUcontext context, CUstream stream) noexcept;
  void forget_thread(const ThreadState& thread) noexcept;
  void close_stream(CUcontext context, CUstream stream) noexcept;

  // A context may be about to end: nobody touches its events meanwhile.
  std::mutex& mutex() noexcept { return mutex_; }
  void forget_context_locked(CUcontext context) noexcept { lanes_.forget_context(context); }

  // The watcher's look: sends what is to be said, and answers when it wants to look again.
  std::uint64_t watch(std::uint64_t now) noexcept;
  // Whether the arbiter waits for a word of this process.
  bool owes() noexcept;
  void publish() noexcept;

  bool used() const noexcept { return used_.load(std::memory_order_relaxed); }

 private:
  struct Terms; // of the grant, read once

  Verdict admit_in_turn(const Terms& terms, ThreadState& thread, const Quote& quote,
                        std::uint64_t now) noexcept;
  Verdict admit_at_pace(const Terms& terms, ThreadState& thread, const Quote& quote,
                        std::uint64_t now) noexcept;
  Verdict closed(const Terms& terms, std::uint64_t now) noexcept;
  void count_in(const Terms& terms) noexcept;
  Terms read_grant(std::uint64_t now) noexcept;
  void pass(const Terms& terms, const Work& work, const Quote& quote, Lane& lane, std::uint64_t now,
            Pending& pending) noexcept;
  bool may_escape(std::uint64_t now) noexcept;
  void poll(std::uint64_t now, bool ask_streams) noexcept;
  // What a marker told: when it passed, when it was recorded, under which turn, and what ended with it.
  struct End {
    std::uint64_t at, recorded, turn, sum;
  };
  // Of one look, without a place on the heap; where there are more, the last ones are one.
  class Ends {
   public:
    void add(const End& end) noexcept;
    void sort() noexcept; // by when they passed
    End* begin() noexcept { return ends_.data(); }
    End* end() noexcept { return ends_.data() + count_; }

   private:
    std::array<End, 32> ends_;
    std::size_t count_ = 0;
  };
  std::uint64_t passed(CUcontext context, const Marker& marker) noexcept;
  void learn_from(const Marker& marker, std::uint64_t at, std::uint64_t now) noexcept;
  bool was_undisturbed(const Marker& marker, std::uint64_t at) const noexcept;
  void note_progress(std::uint64_t finished, Ends& seen, std::uint64_t now) noexcept;
  void note_end(const End& end) noexcept;
  bool without_gap(const End& end) const noexcept;
  void note_backlog(const End& end, bool busy) noexcept;
  void note_start(std::uint64_t started) noexcept;
  std::uint64_t in_flight() const noexcept;
  std::uint64_t left_in_flight(std::uint64_t now) const noexcept;
  std::uint64_t drain_at(std::uint64_t now) const noexcept;
  std::uint64_t look_at(std::uint64_t expected, std::uint64_t now) const noexcept;
  void take_back(ThreadState& thread) noexcept;
  void lend(const Terms& terms, ThreadState& thread, std::uint64_t credit) const noexcept;
  std::uint64_t lent_to_others(const ThreadState& thread) const noexcept;
  void publish_locked() noexcept;
  std::uint64_t watch_turn(const Terms& terms, std::uint64_t now) noexcept;
  std::uint64_t watch_ending(std::uint64_t now) noexcept;
  std::uint64_t worked() noexcept;
  std::uint64_t watch_late_work(std::uint64_t now) noexcept;
  std::uint64_t watch_idleness(const Terms& terms, std::uint64_t now) noexcept;
  void say_running(std::uint64_t turn, std::uint64_t left, std::uint64_t now) noexcept;

  Gate* gate_ = nullptr;
  unsigned device_ = 0;
  const layout::DeviceGrant* grant_ = nullptr;
  const layout::DeviceLimit* limit_ = nullptr;
  layout::DeviceWork* published_ = nullptr;
  std::atomic<bool> used_{false};
  std::atomic<std::uint64_t> held_back_{0};

  std::mutex mutex_; // guards all that follows
  Lanes lanes_;
  Pace pace_;
  Siblings siblings_;
  double correction_ = 1.0;                         // what prices are worth, by what turns really took
  std::uint64_t backlog_at_ = 0, backlog_turn_ = 0; // of the last marker
  std::uint64_t backlog_wall_ = 0, backlog_sum_ = 0;
  std::uint64_t counted_ = 0; // of lanes_.finished(), in gpu_ns_
  double gpu_ns_ = 0, worked_said_ = 0;
  std::uint64_t progress_at_ = 0; // the work in flight runs since then, as far as is known
  std::uint64_t polled_at_ = 0;   // when all of it was last looked at
  std::uint64_t last_end_ = 0;
  std::uint64_t marked_end_ = 0; // the last one that a marker told
  std::uint64_t cold_at_ = 0,
                cold_begins_ = 0; // the first work after a gap was admitted, and might begin; 0: it has ended
  std::uint64_t lead_ = 20'000;   // from admission to the device, in ns: what half of the launches take
  std::uint64_t turn_seen_ = 0, turn_seen_at_ = 0;
  std::uint64_t admitted_turn_ = 0;                   // something was admitted in it
  std::uint64_t full_turn_ = 0;                       // what comes next does not fit into it
  std::uint64_t released_turn_ = 0, released_at_ = 0; // we said that we are done with it
  std::uint64_t ended_turn_ = 0;                      // leases of it are void
  std::uint64_t wanted_turn_ = ~std::uint64_t{0}, wanted_at_ = 0;
  std::uint64_t running_at_ = 0;
  std::uint64_t late_turn_ = 0, stated_end_ = 0; // Closed was said of it, and work of it may still run
  bool said_late_ = false;                       // and outlasted that end
  bool rings_ = false;                           // the watcher is to look
  std::uint32_t link_generation_ = 0;
  std::uint64_t open_turn_ = 0;   // the last word that was open
  bool wants_ = false;            // said under a word that is over
  bool counted_in_ = false;       // the arbiter waits for our Closed or Idle
  bool unknown_ = false;          // something of unknown price is in flight
  bool vague_ = false;            // or something whose price is only an average
  std::uint64_t loner_until_ = 0; // until then one that has to go alone waits for all others' work to end
  std::uint64_t escapes_ = 0, escaped_at_ = 0;
};

} // namespace aliquot::limiter::compute
