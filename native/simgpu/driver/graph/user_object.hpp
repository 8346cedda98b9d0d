// User objects: the client's resources, counted by the driver and given back by a callback once nothing holds
// them. A graph holds references, so do its clones and what is instantiated from it, until they have run.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "aliquot/cuda_abi.h"

namespace aliquot::simgpu::driver {

class UserObject {
 public:
  UserObject(void* data, CUhostFn destroy, std::uint64_t count)
      : data_(data), destroy_(destroy), count_(count), callers_(count) {}

  // References of the caller's own. False where that many are not there to be given, or cannot be counted.
  bool retain(std::uint64_t count);
  bool release(std::uint64_t count);
  // References of graphs; with `move`, taken from the caller's.
  bool retain_for_graph(std::uint64_t count, bool move);
  void release_of_graph(std::uint64_t count);

  void* handle = nullptr;

 private:
  bool drop_locked(std::uint64_t count);
  void finish();

  void* const data_;
  const CUhostFn destroy_;
  std::mutex mutex_;      // guards the counts
  std::uint64_t count_;   // all references
  std::uint64_t callers_; // those that are not a graph's
};

// The references that one graph, or one executable graph, holds. Copied with it, given back with it.
class ObjectReferences {
 public:
  ObjectReferences() = default;
  ObjectReferences(const ObjectReferences& other) { add(other); }
  ObjectReferences& operator=(const ObjectReferences&) = delete;
  ~ObjectReferences();

  void add(const ObjectReferences& other);
  bool retain(const std::shared_ptr<UserObject>& object, unsigned count, bool move);
  bool release(const std::shared_ptr<UserObject>& object, unsigned count);

 private:
  std::map<std::shared_ptr<UserObject>, std::uint64_t> held_;
};

} // namespace aliquot::simgpu::driver
