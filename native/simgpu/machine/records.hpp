// The device's own record of what happened: busy time in buckets, busy intervals, and processes that have
// left.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/simgpu/machine/layout.hpp"
#include "native/simgpu/machine/machine.hpp"

namespace aliquot::simgpu::machine {

void busy_clear(Busy& busy) noexcept;
void busy_add(Busy& busy, std::uint64_t start_ns, std::uint64_t end_ns) noexcept;

// Busy nanoseconds within the last second.
std::uint64_t busy_last_second(const Busy& busy, std::uint64_t now_ns) noexcept;

// A record is written once and read by anybody; a half-written one reads as absent.
template <std::size_t N>
void write_record(Record<N>& record, std::uint64_t sequence,
                  const std::array<std::uint64_t, N>& words) noexcept {
  record.sequence.store(0);
  for (std::size_t i = 0; i < N; ++i)
    record.words[i].store(words[i]);
  record.sequence.store(sequence);
}

template <std::size_t N>
bool read_record(const Record<N>& record, std::array<std::uint64_t, N>& words) noexcept {
  const std::uint64_t sequence = record.sequence.load();
  for (std::size_t i = 0; i < N; ++i)
    words[i] = record.words[i].load();
  return sequence != 0 && record.sequence.load() == sequence;
}

// Two processes that bury the same dead one both write its last interval.
void sort_and_drop_doubles(std::vector<BusyInterval>& intervals);

void push_departed(MachineRegion& region, std::uint64_t identity, const ProcessRecord& record) noexcept;
std::vector<ProcessRecord> read_departed(const MachineRegion& region);

} // namespace aliquot::simgpu::machine
