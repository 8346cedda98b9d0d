#include "native/limiter/cuda/limiter.hpp"

#include <cstring>
#include <new>
#include <pthread.h>

#include "native/common/log.hpp"
#include "native/common/spin_lock.hpp"
#include "native/limiter/compute/gate.hpp"
#include "native/limiter/cuda/driver.hpp"
#include "native/limiter/own_slice.hpp"

namespace aliquot::limiter {
namespace {

common::SpinLock* attaching() noexcept {
  static common::SpinLock lock;
  return &lock;
}

// A forked child is another process: it has none of its parent's memory on the device, and no slot.
void forget_parent() noexcept {
  detail::limiter.store(nullptr, std::memory_order_relaxed);
  compute::forget_gate_in_child();
  new (attaching()) common::SpinLock;
}

Limiter* make_limiter() noexcept {
  SliceRegion* region = slice_region(SliceRegion::Access::Account);
  if (region == nullptr)
    return nullptr;
  static const bool watched = pthread_atfork(nullptr, nullptr, forget_parent) == 0;
  Ledger* ledger = watched ? Ledger::attach(*region) : nullptr;
  if (ledger == nullptr) {
    common::log_line(common::LogLevel::Error, "the slice has no room for another process (%u at most)",
                     layout::kMaxProcesses);
    return nullptr;
  }
  return new (std::nothrow) Limiter(*region, *ledger);
}

bool read_uuid(CUdevice ordinal, CUuuid& uuid) noexcept {
  return driver().cuDeviceGetUuid_v2(&uuid, ordinal) == CUDA_SUCCESS ||
         driver().cuDeviceGetUuid(&uuid, ordinal) == CUDA_SUCCESS;
}

void identify(DeviceFigure& figure, unsigned device, CUdevice ordinal) noexcept {
  CUuuid uuid{};
  std::uint8_t bytes[sizeof uuid.bytes];
  if (!read_uuid(ordinal, uuid))
    return;
  std::memcpy(bytes, uuid.bytes, sizeof bytes);
  figure.identify(device, bytes);
}

// Entries that name a card by its UUID are found by it; the others are the visible cards in their order.
unsigned find_device(const SliceRegion& region, CUdevice ordinal) noexcept {
  CUuuid uuid{};
  const bool known = read_uuid(ordinal, uuid);
  for (unsigned i = 0; i < region.device_count(); ++i) {
    const layout::DeviceLimit& entry = region.limits().devices[i];
    if (entry.known_by == layout::kKnownByUuid) {
      if (known && std::memcmp(entry.uuid, uuid.bytes, sizeof entry.uuid) == 0)
        return i;
    } else if (i == static_cast<unsigned>(ordinal)) {
      return i;
    }
  }
  return kNoDevice;
}

} // namespace

namespace detail {
std::atomic<Limiter*> limiter{nullptr};
constinit thread_local RememberedPlace remembered [[gnu::tls_model("initial-exec")]];
} // namespace detail

constinit thread_local bool InsideDriver::inside_ [[gnu::tls_model("initial-exec")]] = false;

Limiter* attach_limiter() noexcept {
  if (Limiter* known = limiter())
    return known;
  attaching()->lock();
  Limiter* made = limiter();
  if (made == nullptr) {
    made = make_limiter();
    if (made != nullptr)
      compute::make_gate(*made, made->ledger().slot());
    detail::limiter.store(made, std::memory_order_release);
  }
  attaching()->unlock();
  return made;
}

void Limiter::map_devices() noexcept {
  int count = 0;
  if (driver().cuDeviceGetCount(&count) != CUDA_SUCCESS)
    return;
  for (CUdevice ordinal = 0; ordinal < count && ordinal < kMaxOrdinals; ++ordinal) {
    const unsigned device = find_device(region_, ordinal);
    device_of_[ordinal].store(device == kNoDevice ? 0 : static_cast<std::uint8_t>(device + 1),
                              std::memory_order_relaxed);
    if (device == kNoDevice)
      continue;
    ordinal_of_[device].store(ordinal + 1, std::memory_order_relaxed);
    identify(overhead.figure(), device, ordinal);
  }
}

CUdevice Limiter::ordinal_of(unsigned device) const noexcept {
  return device < layout::kMaxDevices ? ordinal_of_[device].load(std::memory_order_relaxed) - 1 : -1;
}

unsigned Limiter::device_of(CUdevice ordinal) const noexcept {
  if (ordinal < 0 || ordinal >= kMaxOrdinals)
    return kNoDevice;
  const unsigned known = device_of_[ordinal].load(std::memory_order_relaxed);
  return known == 0 ? kNoDevice : known - 1;
}

bool Limiter::meet_context(CUcontext context, Place& place) noexcept {
  const std::uint32_t epoch = context_epoch_.load(std::memory_order_relaxed);
  CUdevice ordinal = -1;
  if (driver().cuCtxGetDevice(&ordinal) != CUDA_SUCCESS)
    return false;
  place = {context, device_of(ordinal)};
  detail::remembered = {place, epoch};
  overhead.met_context(place.device);
  return true;
}

bool Limiter::reserve_what_came_back(unsigned device, std::uint64_t bytes) noexcept {
  bool refunded = settle_books();
  refunded = (overhead.has_shrunk() && overhead.shrink()) || refunded;
  return refunded && ledger_.reserve(device, bytes);
}

void Limiter::refund(const Allocation& allocation) noexcept {
  switch (allocation.charge) {
  case Charge::Pool:
    pools.settle(reinterpret_cast<CUmemoryPool>(allocation.owner));
    return;
  case Charge::Small:
    // Its block may be shared with what the driver placed there itself, of which only the driver's figure
    // tells.
    if (!small_blocks.leave(allocation.key, allocation.bytes, overhead.is_exact()))
      return;
    if (overhead.is_exact())
      overhead.may_have_shrunk(allocation.device);
    else
      release(allocation.device, kBlockBytes);
    return;
  case Charge::Rounded:
    overhead.keep_until_free(allocation.device, allocation.bytes);
    return;
  case Charge::Managed:
    overhead.add_managed(allocation.device, -static_cast<std::int64_t>(allocation.bytes));
    [[fallthrough]];
  case Charge::Context:
  case Charge::Single:
    release(allocation.device, allocation.bytes);
  }
}

// Records are few or many; their sums are refunded once the table is free again.
void Limiter::refund_context(CUcontext context) noexcept {
  const auto owner = reinterpret_cast<std::uint64_t>(context);
  BytesByDevice rounded{}, other{};
  const auto add = [&](const Allocation& gone) {
    if (gone.charge == Charge::Rounded)
      rounded[gone.device % rounded.size()] += gone.bytes;
    else if (gone.charge == Charge::Small)
      refund(gone);
    else
      other[gone.device % other.size()] += gone.bytes;
    if (gone.charge == Charge::Managed)
      overhead.add_managed(gone.device, -static_cast<std::int64_t>(gone.bytes));
  };
  forget_contexts();
  memory.take_all(owner, add);
  handles.take_all(owner, add);
  shared.context_gone(owner);
  for (unsigned device = 0; device < other.size(); ++device) {
    if (other[device] != 0)
      release(device, other[device]);
    if (rounded[device] != 0)
      overhead.keep_until_free(device, rounded[device]);
  }
}

CUresult Limiter::refuse(unsigned device, std::uint64_t bytes) noexcept {
  static common::LogThrottle throttle;
  counters().refused.fetch_add(1, std::memory_order_relaxed);
  std::uint64_t held_back = 0;
  if (throttle.allow(held_back)) {
    const VramUse now = device == kNoDevice ? VramUse{} : ledger_.use(device);
    common::log_line(
        common::LogLevel::Warning,
        "out of memory: %llu bytes asked for, the slice holds %llu of the %llu that it is allowed%s",
        static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(now.used),
        static_cast<unsigned long long>(now.limit), held_back != 0 ? " (and others like it)" : "");
  }
  return CUDA_ERROR_OUT_OF_MEMORY;
}

bool Reservation::resize(std::uint64_t bytes) noexcept {
  if (bytes > bytes_ && !limiter_.reserve(device_, bytes - bytes_))
    return false;
  if (bytes < bytes_)
    limiter_.release(device_, bytes_ - bytes);
  bytes_ = bytes;
  return true;
}

} // namespace aliquot::limiter
