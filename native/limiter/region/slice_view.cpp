#include "native/limiter/region/slice_view.hpp"

#include <algorithm>

#include "native/limiter/region/process_identity.hpp"
#include "native/limiter/region/shared_memory.hpp"
#include "native/limiter/region/slots.hpp"

namespace aliquot::limiter {
namespace {

std::uint32_t own_namespace(const layout::Account& account) noexcept {
  const std::uint64_t inode = identify_self().namespace_inode;
  for (std::uint32_t i = 0; inode != 0 && i < layout::kMaxPidNamespaces; ++i) {
    if (account.pid_namespaces[i].load(std::memory_order_acquire) == inode)
      return i + 1;
  }
  return 0;
}

// As tenants_of sees it: somebody may have died whom nobody has buried yet.
bool lives(const layout::Account& account, std::uint64_t word) noexcept {
  const OwnerWord owner = OwnerWord::unpack(word);
  return has_slot(account, word) &&
         (owner.pid_namespace != own_namespace(account) || !is_dead(owner.pid, owner.start_ticks));
}

} // namespace

unsigned tenants_of(const SliceRegion& region, unsigned device,
                    Tenant (&tenants)[layout::kMaxProcesses]) noexcept {
  const layout::Account& account = region.account();
  const std::uint32_t here = own_namespace(account);
  unsigned count = 0;
  for (std::uint32_t index = 0; index < slots_used(account) && device < layout::kMaxDevices; ++index) {
    const layout::Process& slot = account.processes[index];
    const std::uint64_t word = slot.owner.load();
    const OwnerWord owner = OwnerWord::unpack(word);
    if (!counts(word) || (owner.pid_namespace == here && is_dead(owner.pid, owner.start_ticks)))
      continue;
    const std::uint64_t held = std::min(slot.devices[device].held.load(), kMaxBytes);
    // A pid of another namespace means nothing here, and 0 is nobody's.
    tenants[count++] = {owner.pid_namespace == here ? owner.pid : 0, held};
  }
  return count;
}

VramUse vram_use(const SliceRegion& region, unsigned device) noexcept {
  Tenant tenants[layout::kMaxProcesses];
  VramUse use{region.vram_limit(device), 0};
  for (unsigned count = tenants_of(region, device, tenants); count > 0; --count)
    use.used += tenants[count - 1].held;
  use.used += orphaned_bytes(region.account(), device, lives);
  return use;
}

} // namespace aliquot::limiter
