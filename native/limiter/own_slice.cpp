#include "native/limiter/own_slice.hpp"

#include <atomic>

#include "native/common/log.hpp"
#include "native/common/spin_lock.hpp"

namespace aliquot::limiter {
namespace {

std::atomic<SliceRegion*> region{nullptr};
std::atomic<bool> looked{false};
common::SpinLock looking;

SliceRegion* look(SliceRegion::Access access) noexcept {
  const char* folder = slice_folder();
  if (folder == nullptr) {
    common::log_line(common::LogLevel::Error,
                     "this program was started with the limiter but on no slice, so it gets no GPU; "
                     "start it with `aliquot run`");
    return nullptr;
  }
  const char* problem = "there is not enough memory";
  SliceRegion* opened = SliceRegion::open(folder, access, problem);
  if (opened == nullptr) {
    common::log_line(common::LogLevel::Error, "the slice %s cannot be used: %s", folder, problem);
  }
  return opened;
}

} // namespace

SliceRegion* slice_region(SliceRegion::Access access) noexcept {
  if (looked.load(std::memory_order_acquire))
    return region.load(std::memory_order_relaxed);
  looking.lock();
  if (!looked.load(std::memory_order_relaxed)) {
    region.store(look(access), std::memory_order_relaxed);
    looked.store(true, std::memory_order_release);
  }
  looking.unlock();
  return region.load(std::memory_order_relaxed);
}

} // namespace aliquot::limiter
