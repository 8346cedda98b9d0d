// A device as this process sees it: an ordinal, a card of the machine, and what the process has on it.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "native/simgpu/driver/core/engine.hpp"
#include "native/simgpu/driver/core/heap.hpp"
#include "native/simgpu/machine/machine.hpp"

namespace aliquot::simgpu::driver {

class Context;
class Pool;

// The primary context has one handle for the life of the process; what is behind it comes and goes.
struct PrimaryContext {
  // Guards the rest; taken before any context's. Recursive, as destructors of context-local storage call in.
  std::recursive_mutex mutex;
  void* handle = nullptr;
  unsigned retains = 0;
  unsigned flags = 0;
  bool active = false;
};

class Device {
 public:
  Device(int ordinal_, std::uint32_t card_, const machine::Card& facts_, AddressSpace& space,
         const std::shared_ptr<machine::Machine>& machine)
      : ordinal(ordinal_), card(card_), facts(facts_), model(*facts_.model),
        heap(space, machine, card_, false), engine(machine, card_) {}

  std::uint32_t capability() const noexcept { return model.compute_major * 10 + model.compute_minor; }

  const int ordinal;        // CUdevice
  const std::uint32_t card; // index in the machine
  const machine::Card& facts;
  const machine::CardModel& model;
  Heap heap;
  CardEngine engine;
  PrimaryContext primary;

  std::mutex pool_mutex; // guards the two below
  std::shared_ptr<Pool> default_pool, current_pool;
};

} // namespace aliquot::simgpu::driver
