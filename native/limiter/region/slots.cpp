#include "native/limiter/region/slots.hpp"

#include <cstdio>
#include <cstring>
#include <ctime>
#include <unistd.h>

#include "native/common/process_status.hpp"
#include "native/limiter/region/process_identity.hpp"

namespace aliquot::limiter {
namespace {

// The number by which owner words name a pid namespace; 0 where there is no room left, which only means that
// nobody but the agent can tell whether such a process lives.
std::uint32_t namespace_number(layout::Account& account, std::uint64_t inode) noexcept {
  if (inode == 0)
    return 0;
  for (std::uint32_t i = 0; i < layout::kMaxPidNamespaces; ++i) {
    std::uint64_t known = account.pid_namespaces[i].load(std::memory_order_acquire);
    if (known == 0 && account.pid_namespaces[i].compare_exchange_strong(known, inode))
      return i + 1;
    if (known == inode)
      return i + 1;
  }
  return 0;
}

std::uint64_t realtime_ns() noexcept {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(now.tv_nsec);
}

void read_command(std::uint8_t (&to)[32]) noexcept {
  char name[sizeof to] = {};
  common::read_command_name(::getpid(), name);
  std::memcpy(to, name, sizeof to);
}

// The counters go on from where the slot's last process left them; what it held does not.
void begin(layout::Process& slot) noexcept {
  for (layout::DeviceAccount& device : slot.devices) {
    device.granted.store(0, std::memory_order_relaxed);
    device.held.store(0, std::memory_order_relaxed);
    device.asking.store(0, std::memory_order_relaxed);
    device.peak.store(0, std::memory_order_relaxed);
  }
  std::memcpy(static_cast<void*>(&slot.at_attach), static_cast<const void*>(&slot.counters),
              sizeof slot.counters);
  slot.attached_unix_ns = realtime_ns();
  read_command(slot.command);
}

// Every slot that ever had an owner lies below slots_used, so it is raised first.
void cover(layout::Account& account, std::uint32_t index) noexcept {
  std::uint64_t used = account.slots_used.load(std::memory_order_relaxed);
  while (used <= index && !account.slots_used.compare_exchange_weak(used, index + 1)) {
  }
}

ClaimedSlot claim_free_slot(layout::Account& account, const OwnerWord& self) noexcept {
  OwnerWord claiming = self;
  claiming.claiming = true;
  for (std::uint32_t index = 0; index < layout::kMaxProcesses; ++index) {
    layout::Process& slot = account.processes[index];
    std::uint64_t nobody = 0;
    if (slot.owner.load(std::memory_order_relaxed) != 0)
      continue;
    cover(account, index);
    if (!slot.owner.compare_exchange_strong(nobody, claiming.pack()))
      continue;
    begin(slot);
    std::uint64_t expected = claiming.pack();
    if (slot.owner.compare_exchange_strong(expected, self.pack()))
      return {index, self.pack()};
  }
  return {};
}

// A slot under this process' own name can only be from before it replaced its program (execve keeps the pid).
void free_own_past(layout::Account& account, std::uint64_t self) noexcept {
  for (std::uint32_t index = 0; index < slots_used(account); ++index) {
    std::uint64_t word = account.processes[index].owner.load(std::memory_order_relaxed);
    if (word == self)
      account.processes[index].owner.compare_exchange_strong(word, 0);
  }
}

} // namespace

unsigned free_slots_of_dead(layout::Account& account, std::uint64_t mine) noexcept {
  const std::uint32_t here = OwnerWord::unpack(mine).pid_namespace;
  unsigned freed = 0;
  for (std::uint32_t index = 0; index < slots_used(account) && here != 0; ++index) {
    std::atomic<std::uint64_t>& word = account.processes[index].owner;
    std::uint64_t seen = word.load(std::memory_order_acquire);
    const OwnerWord owner = OwnerWord::unpack(seen);
    if (seen == 0 || seen == mine || owner.pid_namespace != here)
      continue;
    if (is_dead(owner.pid, owner.start_ticks) && word.compare_exchange_strong(seen, 0))
      ++freed;
  }
  return freed;
}

ClaimedSlot claim_slot(layout::Account& account) noexcept {
  const ProcessIdentity identity = identify_self();
  OwnerWord self;
  self.pid = identity.pid;
  self.start_ticks = identity.start_ticks;
  self.pid_namespace = namespace_number(account, identity.namespace_inode);
  free_own_past(account, self.pack());
  free_slots_of_dead(account, self.pack());
  return claim_free_slot(account, self);
}

} // namespace aliquot::limiter
