// Events shared between processes: their handles, and the commands that record them and wait for them.
#include "native/simgpu/driver/interprocess_event.hpp"

#include "native/simgpu/driver/core/poller.hpp"
#include "native/simgpu/driver/ipc_handle.hpp"

namespace aliquot::simgpu::driver {
namespace {

constexpr unsigned kSleepMilliseconds = 10; // then it is looked whether the recorder still lives

class SharedRecordCommand final : public Command {
 public:
  SharedRecordCommand(std::shared_ptr<SharedEvent> event, std::uint64_t ticket)
      : event_(std::move(event)), ticket_(ticket) {}
  Outcome run(Stream&) noexcept override {
    event_->reach(ticket_);
    Poller::instance().poke();
    return Outcome::Done;
  }
  void skip() noexcept override { event_->reach(ticket_); }

 private:
  const std::shared_ptr<SharedEvent> event_;
  const std::uint64_t ticket_;
};

class SharedWaitCommand final : public Command {
 public:
  SharedWaitCommand(std::shared_ptr<SharedEvent> event, std::uint64_t ticket)
      : wait_(std::move(event), ticket) {}
  Outcome run(Stream& stream) noexcept override try {
    if (wait_.over())
      return Outcome::Done;
    Poller::instance().watch(stream.shared_from_this(), [this, &context = stream.context()] {
      return context.failed() || wait_.over();
    });
    return Outcome::Detached;
  } catch (...) {
    return Outcome::Yielded; // no memory now; later
  }

 private:
  SharedEventWait wait_;
};

} // namespace

void submit_shared_record(const std::shared_ptr<SharedEvent>& event, const StreamPtr& stream,
                          std::vector<Dependency> waits_for) {
  auto command = std::make_unique<SharedRecordCommand>(event, event->begin_record());
  command->waits_for = std::move(waits_for);
  Executor::instance().submit(stream, std::move(command));
  Executor::instance().run_light(stream);
}

void submit_shared_wait(const std::shared_ptr<SharedEvent>& event, const StreamPtr& stream) {
  Executor::instance().submit(stream, std::make_unique<SharedWaitCommand>(event, event->latest()));
  Executor::instance().run_light(stream);
}

CUresult query_shared(const std::shared_ptr<SharedEvent>& event) {
  return SharedEventWait(event, event->latest()).over() ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult synchronize_shared(const std::shared_ptr<SharedEvent>& event, const ContextPtr& context) {
  SharedEventWait wait(event, event->latest());
  while (!wait.over() && !Executor::instance().shutting_down())
    wait.sleep(kSleepMilliseconds);
  return context->failure();
}

} // namespace aliquot::simgpu::driver

using namespace aliquot::simgpu::driver;

extern "C" {

ALIQUOT_EXPORT CUresult cuIpcGetEventHandle(CUipcEventHandle* out, CUevent event_handle) {
  return with_driver([&](Driver& driver) {
    if (out == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const auto event = driver.events.find(event_handle);
    if (!event || !event->shared)
      return CUDA_ERROR_INVALID_HANDLE;
    const SharedEventName name = event->shared->name();
    IpcHandle handle;
    handle.kind = IpcKind::Event;
    handle.file = name.file;
    handle.owner = driver.machine->identity();
    handle.offset = name.offset;
    handle.id = name.id;
    handle.card = event->context->device().card;
    pack(handle, out->reserved);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuIpcOpenEventHandle(CUevent* out, CUipcEventHandle from) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    if (out == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    IpcHandle handle;
    if (!unpack(from.reserved, IpcKind::Event, handle))
      return CUDA_ERROR_INVALID_HANDLE;
    auto shared = SharedEvent::open({handle.file, handle.offset, handle.id}, driver.machine->identity());
    if (!shared)
      return CUDA_ERROR_INVALID_HANDLE;
    const auto event =
        std::make_shared<Event>(context, unsigned{CU_EVENT_INTERPROCESS} | CU_EVENT_DISABLE_TIMING);
    event->shared = std::move(shared);
    *out = static_cast<CUevent>(driver.events.insert(event));
    return CUDA_SUCCESS;
  });
}

} // extern "C"
