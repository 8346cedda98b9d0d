#include "native/simgpu/driver/entry.hpp"

#include "native/api/per_thread_default.hpp"

namespace aliquot::simgpu::driver {
namespace {

StreamPtr per_thread_stream(const ContextPtr& context) {
  auto& streams = this_thread().default_streams;
  if (const auto known = streams.find(context->id()); known != streams.end())
    return known->second;
  std::erase_if(streams, [](const auto& each) { return each.second->destroyed.load(); });
  StreamPtr made = context->make_stream(Stream::Kind::PerThread, CU_STREAM_DEFAULT, kLeastPriority);
  return streams[context->id()] = std::move(made);
}

} // namespace

CUresult current_context_even_if_failed(ContextPtr& context) {
  const ThreadState& thread = this_thread();
  if (thread.in_host_function)
    return CUDA_ERROR_NOT_PERMITTED;
  if (thread.contexts.empty() || thread.contexts.back() == nullptr)
    return CUDA_ERROR_INVALID_CONTEXT;
  context = Driver::instance().contexts.find(thread.contexts.back());
  return context ? CUDA_SUCCESS : CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

CUresult current_context(ContextPtr& context) {
  const CUresult found = current_context_even_if_failed(context);
  return found == CUDA_SUCCESS ? context->failure() : found;
}

CUresult resolve_stream(CUstream handle, const ContextPtr& context, StreamPtr& stream) {
  if (handle == nullptr && api::default_stream_is_per_thread())
    handle = CU_STREAM_PER_THREAD;
  if (handle == nullptr || handle == CU_STREAM_LEGACY) {
    stream = context->legacy_stream();
  } else if (handle == CU_STREAM_PER_THREAD) {
    stream = per_thread_stream(context);
  } else {
    stream = Driver::instance().streams.find(handle);
    if (!stream)
      return CUDA_ERROR_INVALID_HANDLE;
  }
  return CUDA_SUCCESS;
}

} // namespace aliquot::simgpu::driver
