// Events: points in streams that can be waited for and timed.
#include "native/simgpu/driver/core/marker_command.hpp"
#include "native/simgpu/driver/entry.hpp"
#include "native/simgpu/driver/graph/capture.hpp"
#include "native/simgpu/driver/interprocess_event.hpp"

using namespace aliquot::simgpu::driver;

namespace {

CUresult record(CUevent handle, CUstream stream_handle, unsigned flags) {
  return with_capturable_stream(stream_handle, [&](Driver& driver, const StreamPtr& stream) {
    if (flags > CU_EVENT_RECORD_EXTERNAL)
      return CUDA_ERROR_INVALID_VALUE;
    const auto event = driver.events.find(handle);
    if (!event)
      return CUDA_ERROR_INVALID_HANDLE;
    if (&event->context->device() != &stream->context().device())
      return CUDA_ERROR_INVALID_HANDLE;
    const bool external = flags == CU_EVENT_RECORD_EXTERNAL;
    if (stream->capturing)
      return external ? capture(*stream, RecordWork{{event, handle}}) : capture_record(*stream, *event);
    // An external event record is a node of a graph: there is none outside of a capture.
    if (external)
      return CUDA_ERROR_INVALID_VALUE;
    if (event->shared)
      submit_shared_record(event->shared, stream, {});
    else
      submit_record(*event, stream);
    return CUDA_SUCCESS;
  });
}

CUresult destroy(CUevent handle) {
  return with_context([&](Driver& driver, const ContextPtr&) {
    return driver.events.erase(handle) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
  });
}

CUresult elapsed(float* milliseconds, CUevent start_handle, CUevent end_handle) {
  return with_context([&](Driver& driver, const ContextPtr&) {
    if (milliseconds == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const auto start = driver.events.find(start_handle), end = driver.events.find(end_handle);
    if (!start || !end)
      return CUDA_ERROR_INVALID_HANDLE;
    if (((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING) != 0)
      return CUDA_ERROR_INVALID_HANDLE;
    if (start->captured() || end->captured())
      return CUDA_ERROR_CAPTURED_EVENT;
    const auto from = start->record(), to = end->record();
    if (!from || !to)
      return CUDA_ERROR_INVALID_HANDLE;
    if (!from->reached() || !to->reached())
      return CUDA_ERROR_NOT_READY;
    const auto nanoseconds =
        static_cast<std::int64_t>(to->reached_ns.load()) - static_cast<std::int64_t>(from->reached_ns.load());
    *milliseconds = static_cast<float>(static_cast<double>(nanoseconds) * 1e-6);
    return CUDA_SUCCESS;
  });
}

// What was recorded in a capture never happens as such; and to ask an event while others capture is unsafe.
CUresult check_event_may_be_asked(const Event& event) {
  if (event.captured())
    return spoil_capture_of(event);
  return check_unsafe_call();
}

// body(record), where the event has been recorded; success where it never was. Of an event that other
// processes may record as well, shared_body(event, context).
template <class Body, class SharedBody>
CUresult with_record(CUevent handle, Body body, SharedBody shared_body) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    const auto event = driver.events.find(handle);
    if (!event)
      return CUDA_ERROR_INVALID_HANDLE;
    if (const CUresult captured = check_event_may_be_asked(*event); captured != CUDA_SUCCESS)
      return captured;
    if (event->shared)
      return shared_body(event->shared, context);
    const auto record = event->record();
    return record ? body(record) : CUDA_SUCCESS;
  });
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuEventCreate(CUevent* out, unsigned int flags) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    constexpr unsigned known = CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS;
    if (out == nullptr || (flags & ~known) != 0)
      return CUDA_ERROR_INVALID_VALUE;
    const auto event = std::make_shared<Event>(context, flags);
    if ((flags & CU_EVENT_INTERPROCESS) != 0) {
      if ((flags & CU_EVENT_DISABLE_TIMING) == 0)
        return CUDA_ERROR_INVALID_VALUE;
      event->shared = SharedEvent::make(driver.machine->identity());
      if (!event->shared)
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *out = static_cast<CUevent>(driver.events.insert(event));
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuEventDestroy(CUevent event) {
  return destroy(event);
}
ALIQUOT_EXPORT CUresult cuEventDestroy_v2(CUevent event) {
  return destroy(event);
}
ALIQUOT_EXPORT CUresult cuEventRecord(CUevent event, CUstream stream) {
  return record(event, stream, 0);
}
ALIQUOT_EXPORT CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned int flags) {
  return record(event, stream, flags);
}

ALIQUOT_EXPORT CUresult cuEventQuery(CUevent event) {
  return with_record(
      event,
      [](const std::shared_ptr<EventRecord>& record) {
        if (!record->reached())
          return CUDA_ERROR_NOT_READY;
        return record->stream->context().failure();
      },
      [](const std::shared_ptr<SharedEvent>& shared, const ContextPtr&) { return query_shared(shared); });
}

ALIQUOT_EXPORT CUresult cuEventSynchronize(CUevent event) {
  return with_record(
      event,
      [](const std::shared_ptr<EventRecord>& record) {
        Executor::instance().wait(record->stream, record->sequence);
        record->stream->context().flush_printf();
        Driver::instance().trim_pools();
        return record->stream->context().failure();
      },
      synchronize_shared);
}

ALIQUOT_EXPORT CUresult cuEventElapsedTime(float* milliseconds, CUevent start, CUevent end) {
  return elapsed(milliseconds, start, end);
}
ALIQUOT_EXPORT CUresult cuEventElapsedTime_v2(float* milliseconds, CUevent start, CUevent end) {
  return elapsed(milliseconds, start, end);
}

// All streams of a context: what was given to them before is what the event stands for.
ALIQUOT_EXPORT CUresult cuCtxRecordEvent(CUcontext handle, CUevent event_handle) {
  return with_driver([&](Driver& driver) {
    const ContextPtr context = driver.contexts.find(handle);
    if (!context)
      return CUDA_ERROR_INVALID_CONTEXT;
    if (context->failed())
      return context->failure();
    const auto event = driver.events.find(event_handle);
    if (!event)
      return CUDA_ERROR_INVALID_HANDLE;
    const StreamPtr hub = context->make_stream(Stream::Kind::Created, CU_STREAM_NON_BLOCKING, kLeastPriority);
    hub->destroyed = true;
    std::vector<Dependency> waits_for;
    for (const StreamPtr& each : context->streams())
      if (each != hub && !each->idle())
        waits_for.push_back({each, each->submitted()});
    if (event->shared) {
      submit_shared_record(event->shared, hub, std::move(waits_for));
      return CUDA_SUCCESS;
    }
    auto fresh = std::make_shared<EventRecord>();
    auto command = std::make_unique<RecordCommand>(fresh);
    command->waits_for = std::move(waits_for);
    fresh->stream = hub;
    fresh->sequence = Executor::instance().submit(hub, std::move(command));
    event->set_record(fresh);
    Executor::instance().run_light(hub);
    return CUDA_SUCCESS;
  });
}

// What the context is given from now on waits, on whatever stream.
ALIQUOT_EXPORT CUresult cuCtxWaitEvent(CUcontext handle, CUevent event_handle) {
  return with_driver([&](Driver& driver) {
    const ContextPtr context = driver.contexts.find(handle);
    if (!context)
      return CUDA_ERROR_INVALID_CONTEXT;
    const auto event = driver.events.find(event_handle);
    if (!event)
      return CUDA_ERROR_INVALID_HANDLE;
    if (const CUresult captured = check_event_may_be_asked(*event); captured != CUDA_SUCCESS)
      return captured;
    const auto record = event->record();
    if (!event->shared && (!record || record->reached()))
      return CUDA_SUCCESS;
    const StreamPtr hub = context->make_stream(Stream::Kind::Created, CU_STREAM_NON_BLOCKING, kLeastPriority);
    hub->destroyed = true;
    if (event->shared) {
      submit_shared_wait(event->shared, hub);
    } else {
      auto command = std::make_unique<WaitCommand>();
      command->waits_for.push_back({record->stream, record->sequence});
      Executor::instance().submit(hub, std::move(command));
    }
    context->wait_for({hub, hub->submitted()});
    return CUDA_SUCCESS;
  });
}

} // extern "C"
