// The Machine over its shared region.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "native/simgpu/machine/engine.hpp"
#include "native/simgpu/machine/fork_guard.hpp"
#include "native/simgpu/machine/host_budget.hpp"
#include "native/simgpu/machine/machine.hpp"
#include "native/simgpu/machine/region.hpp"

namespace aliquot::simgpu::machine {

class SharedMachine final : public Machine {
 public:
  // `host` may be empty: then the account over all homes is not kept.
  SharedMachine(Mapping machine, Mapping host, const std::string& home, std::string setting,
                const std::vector<const CardModel*>& models);
  ~SharedMachine() override;

  // Takes a slot. False if there is none.
  bool attach();

  const std::vector<Card>& cards() const noexcept override { return cards_; }
  Status reserve(std::uint32_t card, std::uint64_t bytes) noexcept override;
  void release(std::uint32_t card, std::uint64_t bytes) noexcept override;
  VramInfo vram(std::uint32_t card) noexcept override;
  bool engine_acquire(std::uint32_t card, const std::atomic<bool>& give_up) noexcept override;
  bool engine_should_yield(std::uint32_t card) noexcept override;
  void engine_release(std::uint32_t card) noexcept override;
  void count_launch(std::uint32_t card) noexcept override;
  void count_copy(std::uint32_t card, Copy direction, std::uint64_t bytes) noexcept override;
  std::vector<ProcessRecord> processes() override;
  std::uint32_t utilisation_percent(std::uint32_t card) noexcept override;
  std::uint64_t busy_ns(std::uint32_t card) noexcept override;
  std::vector<ProcessRecord> departed() override;
  std::vector<BusyInterval> busy_intervals(std::uint32_t card) override;
  std::uint32_t process_utilisation_percent(std::uint32_t card, std::int32_t pid) noexcept override;
  HostBudget host_budget() override;
  const std::string& setting() const noexcept override { return setting_; }

 private:
  bool usable(std::uint32_t card) const noexcept;
  bool fits_host(std::uint64_t bytes) noexcept;
  void refuse_budget(std::uint64_t bytes, std::uint64_t limit, std::uint64_t held,
                     const char* whose) noexcept;
  bool may_complain() noexcept;
  bool host_has_free(std::uint64_t bytes) noexcept;
  void give_host(std::uint64_t bytes) noexcept;
  void reap() noexcept;
  void reap_host() noexcept;
  void reap_now_and_then() noexcept;
  void bury(std::uint32_t slot, std::uint64_t identity) noexcept;
  void clear_slot(std::uint32_t slot) noexcept;
  bool used(std::uint32_t slot, std::uint32_t card) const noexcept;
  ProcessRecord record(std::uint32_t slot, std::uint64_t identity, std::uint32_t card) const noexcept;

  const ForkGuard guard_;
  const Mapping machine_map_, host_map_;
  MachineRegion& region_;
  HostRegion* const host_; // null: not kept
  const std::string setting_;
  const BudgetLimits limits_;
  std::vector<Card> cards_;

  std::uint64_t identity_ = 0; // 0: not attached
  std::uint32_t slot_ = 0, host_slot_ = 0;
  bool host_attached_ = false;
  std::vector<std::unique_ptr<Engine>> engines_;

  std::mutex reserving_;   // an account takes one request at a time per process
  HostMemory host_memory_; // as last read; both under reserving_
  std::uint64_t host_memory_read_ = 0;
  std::atomic<std::uint64_t> last_reap_{0}, last_complaint_{0};
};

} // namespace aliquot::simgpu::machine
