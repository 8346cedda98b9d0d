// Commands that move no data: a host function, the recording of an event, a wait.
#pragma once

#include <memory>

#include "aliquot/cuda_abi.h"
#include "native/simgpu/driver/core/event.hpp"
#include "native/simgpu/driver/core/stream.hpp"

namespace aliquot::simgpu::driver {

// Runs on the thread for host functions, and holds its stream until it is done.
class HostFunctionCommand final : public Command {
 public:
  HostFunctionCommand(CUhostFn function, void* data) : function_(function), data_(data) {}
  Outcome run(Stream& stream) noexcept override;
  bool light() const noexcept override { return false; }

 private:
  const CUhostFn function_;
  void* const data_;
};

class RecordCommand final : public Command {
 public:
  explicit RecordCommand(std::shared_ptr<EventRecord> record) : record_(std::move(record)) {}
  Outcome run(Stream& stream) noexcept override;
  void skip() noexcept override;

 private:
  const std::shared_ptr<EventRecord> record_;
};

// Holds what a stream waits for; nothing to run.
class WaitCommand final : public Command {
 public:
  Outcome run(Stream&) noexcept override { return Outcome::Done; }
};

// Puts a recording of `event` at the end of a stream.
void submit_record(Event& event, const std::shared_ptr<Stream>& stream);

} // namespace aliquot::simgpu::driver
