// The turns of one card's engine, as this process takes them.
//
// One word in the region names the holder and counts turns. It is handed from holder to waiter directly, in
// the order of slots, so that nobody is passed over; nobody waits for a process that is dead or stopped,
// because a waiter that has seen the same turn for long looks at its holder and takes the turn away.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "native/simgpu/machine/layout.hpp"

namespace aliquot::simgpu::machine {

class Journal;

class Engine {
 public:
  // `unit`: a card's own engine or that of one of its instances.
  Engine(MachineRegion& region, Journal& journal, std::uint32_t unit, std::uint32_t slot,
         std::uint64_t identity, std::uint64_t default_slice_ns) noexcept;

  ~Engine();                                   // a turn that is still held passes on
  void disown() noexcept { disowned_ = true; } // in a forked child: the turn is its parent's
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  bool acquire(const std::atomic<bool>& give_up);
  bool should_yield() noexcept;
  void release();

 private:
  bool take_turn(const std::atomic<bool>& give_up) noexcept;
  bool try_free_engine() noexcept;
  bool overlaps() const noexcept;
  std::uint64_t slice_ns() const noexcept;
  void begin_run(std::uint64_t now_ns, bool extends) noexcept;
  void take_overlapping_turn() noexcept;
  bool wait_in_line(const std::atomic<bool>& give_up) noexcept;
  void take_from_unfit_holder(std::uint64_t word, std::uint64_t waited_ns) noexcept;
  bool unfit(std::uint64_t word, std::uint64_t waited_ns) const noexcept;
  void accept(std::uint64_t word) noexcept;
  void pass_turn() noexcept;
  void join() noexcept;
  std::uint64_t fair_slice(std::uint64_t now_ns) const noexcept;
  bool hand_over(std::uint64_t word, std::uint32_t& next) noexcept;
  bool fit(std::uint32_t slot, std::uint64_t now_ns) noexcept;
  std::uint32_t pick_next(std::uint32_t after) noexcept;
  bool others_wait() const noexcept;
  void settle(std::uint64_t now_ns) noexcept;
  void flush_run() noexcept;
  void raise_hand(bool up) noexcept;
  void ring(std::uint32_t slot) noexcept;

  EngineState& state_;
  MachineRegion& region_;
  Usage& usage_;
  const CardSettings& settings_;
  Journal& journal_;
  const std::uint32_t unit_, slot_;
  const std::uint64_t identity_, default_slice_ns_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::uint32_t holders_ = 0; // threads of this process that run under the turn
  bool disowned_ = false;
  bool queueing_ = false; // one of them waits in line for all

  long switches_at_hand_over_ = 0;
  bool run_overlaps_ = false;            // the open run is of an overlapping turn
  std::atomic<bool> overlapping_{false}; // this turn is one of several at a time (MPS)
  std::atomic<std::uint64_t> turn_{0};   // owner word of our turn
  std::atomic<std::uint64_t> slice_end_{0};
  std::atomic<std::uint64_t> accounted_{0}; // busy time is booked up to here
};

// Writes the open interval of a dead process into the card's record.
void bury_run(Journal& journal, std::uint32_t unit, const Usage& usage, std::uint64_t identity) noexcept;

} // namespace aliquot::simgpu::machine
