// Streams: made, asked, waited for; host functions on them. Their capture is in graph/.
#include <algorithm>

#include "native/simgpu/driver/core/marker_command.hpp"
#include "native/simgpu/driver/entry.hpp"
#include "native/simgpu/driver/graph/capture.hpp"
#include "native/simgpu/driver/interprocess_event.hpp"

using namespace aliquot::simgpu::driver;

namespace {

constexpr unsigned kCallbackFlags = 0;

CUresult create(CUstream* out, unsigned flags, int priority) {
  return with_context([&](Driver& driver, const ContextPtr& context) {
    if (out == nullptr || (flags & ~unsigned{CU_STREAM_NON_BLOCKING}) != 0)
      return CUDA_ERROR_INVALID_VALUE;
    // A priority outside the range is brought into it, not refused.
    priority = std::clamp(priority, kGreatestPriority, kLeastPriority);
    const StreamPtr stream = context->make_stream(Stream::Kind::Created, flags, priority);
    stream->handle = driver.streams.insert(stream);
    *out = static_cast<CUstream>(stream->handle);
    return CUDA_SUCCESS;
  });
}

CUresult destroy(CUstream handle) {
  return with_context([&](Driver& driver, const ContextPtr&) {
    const StreamPtr stream = driver.streams.erase(handle);
    if (!stream)
      return CUDA_ERROR_INVALID_HANDLE;
    leave_capture(*stream);
    stream->destroyed = true; // what it still holds is run all the same
    return CUDA_SUCCESS;
  });
}

// A question about a stream that puts nothing on it: body(const StreamPtr&).
template <class Body>
CUresult ask(CUstream handle, Body body) {
  return with_context([&](Driver&, const ContextPtr& context) {
    StreamPtr stream;
    const CUresult found = resolve_stream(handle, context, stream);
    return found == CUDA_SUCCESS ? body(stream) : found;
  });
}

// cuStreamAddCallback: is told of the context's error too, so it runs even after one.
class CallbackCommand final : public Command {
 public:
  CallbackCommand(CUstreamCallback callback, CUstream handle, void* data)
      : callback_(callback), handle_(handle), data_(data) {}
  Outcome run(Stream& stream) noexcept override try {
    Executor::instance().post_host_task([this, owner = stream.shared()] {
      callback_(handle_, owner->context().failure(), data_);
      Executor::instance().finish_detached(owner);
    });
    return Outcome::Detached;
  } catch (...) {
    return Outcome::Yielded;
  }
  bool light() const noexcept override { return false; }

 private:
  const CUstreamCallback callback_;
  const CUstream handle_;
  void* const data_;
};

CUresult launch_host(CUstream handle, CUhostFn function, void* data) {
  return with_capturable_stream(handle, [&](Driver&, const StreamPtr& stream) {
    if (function == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    if (stream->capturing)
      return capture(*stream, HostWork{function, data});
    Executor::instance().submit(stream, std::make_unique<HostFunctionCommand>(function, data));
    return CUDA_SUCCESS;
  });
}

CUresult synchronize(const StreamPtr& stream) {
  Executor& executor = Executor::instance();
  if (stream->kind() == Stream::Kind::Legacy)
    // What the legacy stream is done with includes what its next command would wait for.
    executor.wait(stream, executor.submit(stream, std::make_unique<WaitCommand>()));
  else
    executor.wait_idle(stream);
  stream->context().flush_printf();
  Driver::instance().trim_pools();
  return stream->context().failure();
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuStreamCreate(CUstream* stream, unsigned int flags) {
  return create(stream, flags, kLeastPriority);
}
ALIQUOT_EXPORT CUresult cuStreamCreateWithPriority(CUstream* stream, unsigned int flags, int priority) {
  return create(stream, flags, priority);
}
ALIQUOT_EXPORT CUresult cuStreamDestroy(CUstream stream) {
  return destroy(stream);
}
ALIQUOT_EXPORT CUresult cuStreamDestroy_v2(CUstream stream) {
  return destroy(stream);
}

ALIQUOT_EXPORT CUresult cuStreamGetPriority(CUstream handle, int* priority) {
  return ask(handle, [&](const StreamPtr& stream) {
    if (priority == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *priority = stream->priority();
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuStreamGetFlags(CUstream handle, unsigned int* flags) {
  return ask(handle, [&](const StreamPtr& stream) {
    if (flags == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *flags = stream->flags();
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuStreamGetId(CUstream handle, unsigned long long* id) {
  return ask(handle, [&](const StreamPtr& stream) {
    if (id == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *id = stream->id();
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuStreamGetDevice(CUstream handle, CUdevice* device) {
  return ask(handle, [&](const StreamPtr& stream) {
    if (device == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *device = stream->context().device().ordinal;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuStreamGetCtx(CUstream handle, CUcontext* context) {
  return ask(handle, [&](const StreamPtr& stream) {
    if (context == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *context = stream->context().handle;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuStreamGetCtx_v2(CUstream handle, CUcontext* context, CUgreenCtx* green) {
  return ask(handle, [&](const StreamPtr& stream) {
    if (context == nullptr || green == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *context = stream->context().handle;
    *green = nullptr;
    return CUDA_SUCCESS;
  });
}

// No stream belongs to a green context, as none can be made.
ALIQUOT_EXPORT CUresult cuStreamGetGreenCtx(CUstream handle, CUgreenCtx* green) {
  return ask(handle, [&](const StreamPtr&) {
    if (green == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *green = nullptr;
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuStreamQuery(CUstream handle) {
  return with_stream(handle, [](Driver&, const StreamPtr& stream) {
    std::vector<Dependency> order;
    stream->context().add_implicit_order(*stream, order);
    const bool legacy_busy = stream->kind() == Stream::Kind::Legacy && !order.empty();
    if (!stream->idle() || legacy_busy)
      return CUDA_ERROR_NOT_READY;
    return stream->context().failure();
  });
}

ALIQUOT_EXPORT CUresult cuStreamSynchronize(CUstream handle) {
  return with_stream(handle, [](Driver&, const StreamPtr& stream) { return synchronize(stream); });
}

ALIQUOT_EXPORT CUresult cuStreamWaitEvent(CUstream handle, CUevent event_handle, unsigned int flags) {
  return with_capturable_stream(handle, [&](Driver& driver, const StreamPtr& stream) {
    if (flags > CU_EVENT_WAIT_EXTERNAL)
      return CUDA_ERROR_INVALID_VALUE;
    const auto event = driver.events.find(event_handle);
    if (!event)
      return CUDA_ERROR_INVALID_HANDLE;
    if (flags == CU_EVENT_WAIT_EXTERNAL)
      return stream->capturing ? capture(*stream, WaitWork{{event, event_handle}}) : CUDA_ERROR_INVALID_VALUE;
    if (stream->capturing || event->captured())
      return capture_wait(stream, *event);
    if (event->shared) {
      submit_shared_wait(event->shared, stream);
      return CUDA_SUCCESS;
    }
    const auto record = event->record();
    if (!record || record->reached())
      return CUDA_SUCCESS;
    auto command = std::make_unique<WaitCommand>();
    command->waits_for.push_back({record->stream, record->sequence});
    Executor::instance().submit(stream, std::move(command));
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void* data) {
  return launch_host(stream, function, data);
}

ALIQUOT_EXPORT CUresult cuLaunchHostFunc_v2(CUstream stream, CUhostFn function, void* data, unsigned int) {
  return launch_host(stream, function, data);
}

ALIQUOT_EXPORT CUresult cuStreamAddCallback(CUstream handle, CUstreamCallback callback, void* data,
                                            unsigned int flags) {
  return with_stream(handle, [&](Driver&, const StreamPtr& stream) {
    if (callback == nullptr || flags != kCallbackFlags)
      return CUDA_ERROR_INVALID_VALUE;
    Executor::instance().submit(stream, std::make_unique<CallbackCommand>(callback, handle, data));
    return CUDA_SUCCESS;
  });
}

// Managed memory is reachable from both sides at all times: attaching it to a stream changes nothing.
ALIQUOT_EXPORT CUresult cuStreamAttachMemAsync(CUstream handle, CUdeviceptr address, size_t bytes,
                                               unsigned int flags) {
  return with_stream(handle, [&](Driver& driver, const StreamPtr& stream) {
    constexpr unsigned known = CU_MEM_ATTACH_GLOBAL | CU_MEM_ATTACH_HOST | CU_MEM_ATTACH_SINGLE;
    if (flags == 0 || (flags & ~known) != 0 || (flags & (flags - 1)) != 0)
      return CUDA_ERROR_INVALID_VALUE;
    // The default stream is no particular one; and memory is attached as a whole.
    if (flags == CU_MEM_ATTACH_SINGLE && stream->kind() == Stream::Kind::Legacy)
      return CUDA_ERROR_INVALID_VALUE;
    const auto allocation = driver.allocations.find(address);
    if (!allocation || allocation->kind != MemoryKind::Managed || allocation->address != address)
      return CUDA_ERROR_INVALID_VALUE;
    return bytes == 0 || bytes == allocation->bytes ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

ALIQUOT_EXPORT CUresult cuStreamGetAttribute(CUstream handle, CUstreamAttrID attribute,
                                             CUstreamAttrValue* value) {
  return ask(handle, [&](const StreamPtr& stream) {
    if (value == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    *value = {};
    switch (attribute) {
    case CU_LAUNCH_ATTRIBUTE_PRIORITY:
      value->priority = stream->priority();
      return CUDA_SUCCESS;
    case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
      value->syncPolicy = CU_SYNC_POLICY_AUTO;
      return CUDA_SUCCESS;
    case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
    case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
    case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
      return CUDA_SUCCESS;
    default:
      return CUDA_ERROR_INVALID_VALUE;
    }
  });
}

// Hints: a simulated card has no persisting L2 lines, no synchronisation domains, and waits as it sees fit.
ALIQUOT_EXPORT CUresult cuStreamSetAttribute(CUstream handle, CUstreamAttrID attribute,
                                             const CUstreamAttrValue* value) {
  return ask(handle, [&](const StreamPtr&) {
    if (value == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    switch (attribute) {
    case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
    case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
    case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
    case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
      return CUDA_SUCCESS;
    case CU_LAUNCH_ATTRIBUTE_PRIORITY:
      return CUDA_ERROR_NOT_SUPPORTED;
    default:
      return CUDA_ERROR_INVALID_VALUE;
    }
  });
}

ALIQUOT_EXPORT CUresult cuStreamCopyAttributes(CUstream to, CUstream from) {
  return ask(to, [&](const StreamPtr&) { return ask(from, [](const StreamPtr&) { return CUDA_SUCCESS; }); });
}

} // extern "C"
