// Memory nodes of graphs, which take device memory when their graph is launched. What the driver has reserved
// for all graphs of a device is charged, as long as it has it.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <utility>

#include "aliquot/cuda_abi.h"
#include "native/limiter/cuda/allocation_table.hpp"
#include "native/limiter/cuda/memory_call.hpp"

namespace aliquot::limiter {

class Limiter;

class GraphBook {
 public:
  explicit GraphBook(Limiter& limiter) noexcept : limiter_(limiter) {}

  // A node that allocates was made, or captured. Before the first of them nothing here costs anything.
  void expect_memory() noexcept { expects_memory_.store(true, std::memory_order_relaxed); }
  bool any() const noexcept { return expects_memory_.load(std::memory_order_relaxed); }
  // Learns what an executable graph allocates. False where there is no host memory to remember it by.
  bool learn(CUgraphExec exec, CUgraph graph) noexcept;
  void forget(CUgraphExec exec) noexcept;

  // Runs `call`, which launches (or uploads) the graph, within the limit.
  template <typename Call>
  CUresult launch(CUgraphExec exec, Call call) noexcept;

  // Brings the charge to what is reserved by now. True where anything was refunded.
  bool settle_all() noexcept;
  std::unique_lock<std::recursive_mutex> hold() noexcept { return std::unique_lock(mutex_); }

 private:
  // The pools', too, since room may be looked for there; theirs comes first, always.
  std::pair<std::unique_lock<std::recursive_mutex>, std::unique_lock<std::recursive_mutex>>
  hold_all() noexcept;
  CUresult reserve(const BytesByDevice& wanted, BytesByDevice& reserved) noexcept;
  void settle(unsigned device, std::uint64_t reserved_by_us) noexcept;

  Limiter& limiter_;
  std::recursive_mutex mutex_;
  std::atomic<bool> expects_memory_{false}, any_{false};
  std::map<CUgraphExec, BytesByDevice> wanted_;
  BytesByDevice charged_{};
};

template <typename Call>
CUresult GraphBook::launch(CUgraphExec exec, Call call) noexcept {
  if (!any_.load(std::memory_order_relaxed))
    return call();
  const MemoryCall under_way;
  const auto books = hold_all();
  const auto known = wanted_.find(exec);
  if (known == wanted_.end())
    return call();
  BytesByDevice reserved{};
  const CUresult admitted = reserve(known->second, reserved);
  if (admitted != CUDA_SUCCESS)
    return admitted;
  const CUresult answer = call();
  for (unsigned device = 0; device < reserved.size(); ++device)
    settle(device, reserved[device]);
  return answer;
}

} // namespace aliquot::limiter
