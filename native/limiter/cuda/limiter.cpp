#include "native/limiter/cuda/limiter.hpp"

#include <cstring>
#include <new>
#include <pthread.h>

#include "native/common/log.hpp"
#include "native/common/spin_lock.hpp"
#include "native/limiter/cuda/driver.hpp"
#include "native/limiter/own_slice.hpp"

namespace aliquot::limiter {
namespace {

common::SpinLock* attaching() noexcept {
  static common::SpinLock lock;
  return &lock;
}

// The device of a context never changes, so each thread remembers the one that it asked for last.
struct RememberedPlace {
  CUcontext context;
  unsigned device;
  std::uint32_t epoch;
};
constinit thread_local RememberedPlace remembered
    [[gnu::tls_model("initial-exec")]] = {nullptr, kNoDevice, 0};

// A forked child is another process: it has none of its parent's memory on the device, and no slot.
void forget_parent() noexcept {
  detail::limiter.store(nullptr, std::memory_order_relaxed);
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
}

constinit thread_local bool InsideDriver::inside_ [[gnu::tls_model("initial-exec")]] = false;

Limiter* attach_limiter() noexcept {
  if (Limiter* known = limiter())
    return known;
  attaching()->lock();
  Limiter* made = limiter();
  if (made == nullptr) {
    made = make_limiter();
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
  }
}

unsigned Limiter::device_of(CUdevice ordinal) const noexcept {
  if (ordinal < 0 || ordinal >= kMaxOrdinals)
    return kNoDevice;
  const unsigned known = device_of_[ordinal].load(std::memory_order_relaxed);
  return known == 0 ? kNoDevice : known - 1;
}

bool Limiter::current_place(Place& place) noexcept {
  CUcontext context = nullptr;
  if (driver().cuCtxGetCurrent(&context) != CUDA_SUCCESS || context == nullptr)
    return false;
  const std::uint32_t epoch = context_epoch_.load(std::memory_order_relaxed);
  if (remembered.context != context || remembered.epoch != epoch) {
    CUdevice ordinal = -1;
    if (driver().cuCtxGetDevice(&ordinal) != CUDA_SUCCESS)
      return false;
    remembered = {context, device_of(ordinal), epoch};
  }
  place = {context, remembered.device};
  return true;
}

bool Limiter::reserve(unsigned device, std::uint64_t bytes) noexcept {
  return ledger_.reserve(device, bytes) || (pools.settle_all() && ledger_.reserve(device, bytes));
}

void Limiter::release(const BytesByDevice& bytes) noexcept {
  for (unsigned device = 0; device < bytes.size(); ++device) {
    if (bytes[device] != 0)
      release(device, bytes[device]);
  }
}

VramUse Limiter::use(unsigned device) noexcept {
  pools.settle_all();
  return ledger_.use(device);
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
