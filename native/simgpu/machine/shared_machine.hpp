// The Machine over its shared region.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "native/simgpu/machine/engine.hpp"
#include "native/simgpu/machine/faults.hpp"
#include "native/simgpu/machine/fork_guard.hpp"
#include "native/simgpu/machine/host_budget.hpp"
#include "native/simgpu/machine/imports.hpp"
#include "native/simgpu/machine/journal.hpp"
#include "native/simgpu/machine/machine.hpp"
#include "native/simgpu/machine/mig.hpp"
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
  Mig& mig() noexcept override { return mig_; }
  Faults& faults() noexcept override { return faults_; }
  ComputeMode compute_mode(std::uint32_t card) const noexcept override;
  void set_compute_mode(std::uint32_t card, ComputeMode mode) noexcept override;
  bool mps_enabled(std::uint32_t card) const noexcept override;
  void set_mps(std::uint32_t card, bool enabled) noexcept override;
  std::uint64_t slice_ns(std::uint32_t card) const noexcept override;
  void set_slice_ns(std::uint32_t card, std::uint64_t ns) noexcept override;
  bool use_instance(std::uint32_t card, const ComputeInstance& instance) override;
  Status open_context(std::uint32_t card) noexcept override;
  void close_context(std::uint32_t card) noexcept override;
  std::uint32_t unit(std::uint32_t card) const noexcept override {
    return card < places_.size() ? places_[card].engine_unit : 0;
  }
  Status reserve(std::uint32_t card, std::uint64_t bytes) noexcept override;
  void release(std::uint32_t card, std::uint64_t bytes) noexcept override;
  Status reserve_overhead(std::uint32_t card, std::uint64_t bytes) noexcept override;
  void release_overhead(std::uint32_t card, std::uint64_t bytes) noexcept override;
  std::uint64_t context_bytes(std::uint32_t card) const noexcept override;
  void set_context_bytes(std::uint32_t card, std::uint64_t bytes) noexcept override;
  VramInfo vram(std::uint32_t card) noexcept override;
  std::uint64_t identity() const noexcept override { return identity_; }
  bool import(std::uint32_t card, std::uint64_t owner, std::uint64_t key,
              std::uint64_t bytes) noexcept override;
  void unimport(std::uint64_t owner, std::uint64_t key) noexcept override;
  bool engine_acquire(std::uint32_t card, const std::atomic<bool>& give_up) noexcept override;
  bool engine_should_yield(std::uint32_t card) noexcept override;
  void engine_release(std::uint32_t card) noexcept override;
  void report_kernel_fault(std::uint32_t card, std::uint32_t xid) noexcept override;
  void count_launch(std::uint32_t card) noexcept override;
  void count_copy(std::uint32_t card, Copy direction, std::uint64_t bytes) noexcept override;
  std::vector<ProcessRecord> processes() override;
  std::uint32_t utilisation_percent(std::uint32_t card) noexcept override;
  std::uint64_t busy_ns(std::uint32_t card) noexcept override;
  std::vector<ProcessRecord> departed() override;
  std::vector<BusyInterval> busy_intervals(std::uint32_t card) override;
  RecordBatch read_record(std::uint32_t card, RecordPosition& position, std::size_t most) override;
  std::uint32_t process_utilisation_percent(std::uint32_t card, std::int32_t pid) noexcept override;
  HostBudget host_budget() override;
  const std::string& setting() const noexcept override { return setting_; }

 private:
  // Where this process' part of a card lies: the card itself, or one of its instances.
  struct Place {
    std::uint32_t memory_unit = 0, engine_unit = 0;
    std::uint64_t memory_bytes = 0;
    std::uint64_t client_limit = ~std::uint64_t{0}; // of memory, under MPS
    unsigned contexts = 0;                          // guarded by contexts_mutex_
  };
  bool usable(std::uint32_t card) const noexcept;
  bool may_have_context(std::uint32_t card) const noexcept;
  bool take_vram(std::uint32_t card, std::uint64_t bytes) noexcept;
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
  bool used(std::uint32_t slot, std::uint32_t unit) const noexcept;
  std::uint32_t units() const noexcept;
  ProcessRecord record(std::uint32_t slot, std::uint64_t identity, std::uint32_t unit) const;

  const ForkGuard guard_;
  const Mapping machine_map_, host_map_;
  MachineRegion& region_;
  HostRegion* const host_; // null: not kept
  const std::string setting_;
  const BudgetLimits limits_;
  std::vector<Card> cards_;
  Mig mig_;
  Faults faults_;
  std::vector<Place> places_; // by card
  Journal journal_;
  std::mutex contexts_mutex_;

  std::uint64_t identity_ = 0; // 0: not attached
  std::uint32_t slot_ = 0, host_slot_ = 0;
  bool host_attached_ = false;
  std::vector<std::unique_ptr<Engine>> engines_;
  std::optional<Imports> imports_;

  std::mutex reserving_;   // an account takes one request at a time per process
  HostMemory host_memory_; // as last read; both under reserving_
  std::uint64_t host_memory_read_ = 0;
  std::atomic<std::uint64_t> last_reap_{0}, last_complaint_{0};
};

} // namespace aliquot::simgpu::machine
