// A device as this process sees it: an ordinal, a card of the machine, and what the process has on it.
#pragma once

#include <atomic>
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
  // `facts` and `model` are those of the card, or of the instance of it that this process uses (MIG).
  Device(int ordinal_, std::uint32_t card_, machine::Card facts_, const machine::CardModel& model_,
         AddressSpace& space, const std::shared_ptr<machine::Machine>& machine)
      : ordinal(ordinal_), card(card_), facts(std::move(facts_)), model(model_),
        heap(space, machine, card_, false), engine(machine, card_), machine_(machine) {}

  // No allocation of so many bytes can succeed: there is no such card, or it was told to fail this one.
  bool refuses(std::uint64_t bytes) noexcept;
  // The card's faults since `seen` that end a context of this process: the first one's error, or SUCCESS.
  // `seen` moves on. One load where there is nothing new.
  int fatal_since(std::atomic<std::uint64_t>& seen) const noexcept;
  std::uint64_t last_fatal() const noexcept;

  std::uint32_t capability() const noexcept { return model.compute_major * 10 + model.compute_minor; }

  const int ordinal;        // CUdevice
  const std::uint32_t card; // index in the machine
  const machine::Card facts;
  const machine::CardModel model;
  Heap heap;
  CardEngine engine;
  PrimaryContext primary;

  std::mutex pool_mutex; // guards the two below
  std::shared_ptr<Pool> default_pool, current_pool;

 private:
  const std::shared_ptr<machine::Machine> machine_;
};

} // namespace aliquot::simgpu::driver
