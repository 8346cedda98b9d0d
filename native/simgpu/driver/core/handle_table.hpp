// Handles that are never dereferenced: what a client holds is a number, looked up in a table.
//
// A handle carries the kind of its object and a generation, so a freed, forged or foreign handle is told from
// a live one without touching memory it points to. Handles are non-canonical addresses with the low bits
// clear: a client that dereferences one faults at once, and one that keeps tags in the low bits may do so.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

namespace aliquot::simgpu::driver {

enum class HandleKind : std::uint16_t {
  Context = 0x5a01,
  Stream,
  Event,
  Module,
  Function,
  Library,
  Kernel,
  Pool,
  Linker,
  GreenContext,
  ResourceDescriptor,
  Graph,
  GraphNode,
  GraphExec,
  UserObject,
  PhysicalMemory,
  Array,
  MipmappedArray,
};

inline HandleKind kind_of(const void* handle) noexcept {
  return static_cast<HandleKind>(reinterpret_cast<std::uintptr_t>(handle) >> 48);
}

// Held for a few instructions; never across a call out.
class SpinLock {
 public:
  void lock() noexcept {
    while (held_.exchange(true, std::memory_order_acquire)) {
      while (held_.load(std::memory_order_relaxed)) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
      }
    }
  }
  void unlock() noexcept { held_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> held_{false};
};

// Thread-safe. `insert` may throw std::bad_alloc; lookups never throw.
template <class T>
class HandleTable {
 public:
  explicit HandleTable(HandleKind kind) noexcept : kind_(kind) {}
  HandleTable(const HandleTable&) = delete;
  HandleTable& operator=(const HandleTable&) = delete;

  void* insert(std::shared_ptr<T> object) {
    const std::uint32_t index = take_index();
    Slot& slot = slot_at(index);
    const std::lock_guard guard(slot.lock);
    slot.live = true;
    slot.object = std::move(object);
    return encode(index, slot.generation);
  }

  // Null where the handle is not, or no longer, live, and where its object was parked by `replace`.
  std::shared_ptr<T> find(const void* handle) const noexcept {
    Slot* slot = slot_of(handle);
    if (slot == nullptr)
      return nullptr;
    const std::lock_guard guard(slot->lock);
    return matches(*slot, handle) ? slot->object : nullptr;
  }

  bool live(const void* handle) const noexcept {
    Slot* slot = slot_of(handle);
    if (slot == nullptr)
      return false;
    const std::lock_guard guard(slot->lock);
    return matches(*slot, handle);
  }

  // Puts another object, or none, behind a live handle; the handle stays the same. Returns the old one.
  std::shared_ptr<T> replace(const void* handle, std::shared_ptr<T> object) noexcept {
    Slot* slot = slot_of(handle);
    if (slot == nullptr)
      return nullptr;
    const std::lock_guard guard(slot->lock);
    if (matches(*slot, handle))
      slot->object.swap(object);
    return object;
  }

  // Ends the handle; null where it was not live, so that of two racing frees one alone succeeds.
  std::shared_ptr<T> erase(const void* handle) {
    Slot* slot = slot_of(handle);
    if (slot == nullptr)
      return nullptr;
    std::shared_ptr<T> object;
    {
      const std::lock_guard guard(slot->lock);
      if (!matches(*slot, handle))
        return nullptr;
      object = std::move(slot->object);
      slot->object = nullptr;
      slot->live = false;
      slot->generation = (slot->generation + 1) & kGenerationMask;
    }
    const std::lock_guard guard(mutex_);
    free_.push_back(index_of(handle));
    return object;
  }

  // The live handles whose object fits. For rare use: looks at every slot.
  template <class Fits>
  std::vector<void*> handles_where(Fits fits) {
    std::vector<void*> handles;
    std::uint32_t count = 0;
    {
      const std::lock_guard guard(mutex_);
      count = next_;
    }
    for (std::uint32_t index = 0; index < count; ++index) {
      Slot& slot = slot_at(index);
      const std::lock_guard guard(slot.lock);
      if (slot.live && slot.object && fits(*slot.object))
        handles.push_back(encode(index, slot.generation));
    }
    return handles;
  }

 private:
  static constexpr std::uint32_t kIndexBits = 24, kGenerationBits = 20, kChunkBits = 10;
  static constexpr std::uint32_t kIndexMask = (1u << kIndexBits) - 1;
  static constexpr std::uint32_t kGenerationMask = (1u << kGenerationBits) - 1;
  static constexpr std::uint32_t kChunkSize = 1u << kChunkBits;
  // A freed index rests until this many others were freed, so that stale handles meet a reused one late.
  static constexpr std::size_t kRest = 256;

  struct Slot {
    SpinLock lock;
    bool live = false;
    std::uint32_t generation = 0;
    std::shared_ptr<T> object;
  };
  struct Chunk {
    Slot slots[kChunkSize];
  };

  static std::uint32_t index_of(const void* handle) noexcept {
    return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(handle) >> 4) & kIndexMask;
  }
  static std::uint32_t generation_of(const void* handle) noexcept {
    return static_cast<std::uint32_t>(reinterpret_cast<std::uintptr_t>(handle) >> 28) & kGenerationMask;
  }
  void* encode(std::uint32_t index, std::uint32_t generation) const noexcept {
    const auto value =
        static_cast<std::uint64_t>(kind_) << 48 | std::uint64_t{generation} << 28 | std::uint64_t{index} << 4;
    return reinterpret_cast<void*>(value);
  }
  static bool matches(const Slot& slot, const void* handle) noexcept {
    return slot.live && slot.generation == generation_of(handle);
  }

  Slot* slot_of(const void* handle) const noexcept {
    if (kind_of(handle) != kind_ || (reinterpret_cast<std::uintptr_t>(handle) & 15) != 0)
      return nullptr;
    const std::uint32_t index = index_of(handle);
    Chunk* chunk = chunks_[index >> kChunkBits].load(std::memory_order_acquire);
    return chunk == nullptr ? nullptr : &chunk->slots[index & (kChunkSize - 1)];
  }
  Slot& slot_at(std::uint32_t index) {
    return chunks_[index >> kChunkBits].load(std::memory_order_acquire)->slots[index & (kChunkSize - 1)];
  }

  std::uint32_t take_index() {
    const std::lock_guard guard(mutex_);
    if (free_.size() > kRest || (next_ > kIndexMask && !free_.empty())) {
      const std::uint32_t index = free_.front();
      free_.pop_front();
      return index;
    }
    if (next_ > kIndexMask)
      throw std::bad_alloc();
    auto& chunk = chunks_[next_ >> kChunkBits];
    if (chunk.load(std::memory_order_relaxed) == nullptr)
      chunk.store(new Chunk, std::memory_order_release);
    return next_++;
  }

  const HandleKind kind_;
  std::mutex mutex_; // guards free_ and next_
  std::deque<std::uint32_t> free_;
  std::uint32_t next_ = 0;
  mutable std::atomic<Chunk*> chunks_[1u << (kIndexBits - kChunkBits)] = {};
};

} // namespace aliquot::simgpu::driver
