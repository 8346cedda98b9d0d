#include "native/simgpu/driver/core/marker_command.hpp"

#include "native/simgpu/driver/core/executor.hpp"

namespace aliquot::simgpu::driver {

Outcome HostFunctionCommand::run(Stream& stream) noexcept try {
  Executor::instance().post_host_task([this, owner = stream.shared()] {
    function_(data_);
    Executor::instance().finish_detached(owner);
  });
  return Outcome::Detached;
} catch (...) {
  return Outcome::Yielded; // no memory now; later
}

Outcome RecordCommand::run(Stream&) noexcept {
  skip();
  return Outcome::Done;
}

void RecordCommand::skip() noexcept {
  record_->reached_ns.store(now_ns(), std::memory_order_release);
}

void submit_record(Event& event, const std::shared_ptr<Stream>& stream) {
  auto fresh = std::make_shared<EventRecord>();
  fresh->stream = stream;
  fresh->sequence = Executor::instance().submit(stream, std::make_unique<RecordCommand>(fresh));
  event.set_record(fresh);
  Executor::instance().run_light(stream);
}

} // namespace aliquot::simgpu::driver
