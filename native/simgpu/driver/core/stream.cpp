#include "native/simgpu/driver/core/stream.hpp"

#include <chrono>

#include "aliquot/cuda_abi.h"
#include "native/simgpu/driver/core/context.hpp"

namespace aliquot::simgpu::driver {
namespace {

std::uint64_t next_stream_id() noexcept {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

} // namespace

Stream::Stream(const std::shared_ptr<Context>& context, Kind kind, unsigned flags, int priority)
    : context_(*context), kept_(kind == Kind::Legacy ? nullptr : context), kind_(kind), flags_(flags),
      priority_(priority), id_(next_stream_id()) {}

std::shared_ptr<Context> Stream::shared_context() const noexcept {
  return context_.shared_from_this();
}

std::shared_ptr<Stream> Stream::shared() noexcept {
  return kind_ == Kind::Legacy ? context_.legacy_stream() : shared_from_this();
}

bool Stream::blocking() const noexcept {
  return kind_ != Kind::Legacy && (flags_ & CU_STREAM_NON_BLOCKING) == 0;
}

void Stream::doze(std::uint64_t sequence) noexcept {
  std::unique_lock lock(mutex_);
  if (completed() >= sequence)
    return;
  ++sleepers_;
  progress_.wait_for(lock, std::chrono::microseconds(300));
  --sleepers_;
}

} // namespace aliquot::simgpu::driver
