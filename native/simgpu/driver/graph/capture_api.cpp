// Stream capture: begun, asked about, ended.
#include "native/simgpu/driver/graph/capture.hpp"
#include "native/simgpu/driver/graph/graph_entry.hpp"

using namespace aliquot::simgpu::driver;

namespace {

bool is_mode(CUstreamCaptureMode mode) noexcept {
  return mode <= CU_STREAM_CAPTURE_MODE_RELAXED;
}

// A question or an order about the capture of a stream. body(const StreamPtr&), under graphs_mutex.
template <class Body>
CUresult about_capture(CUstream handle, Body body) noexcept {
  return with_context([&](Driver&, const ContextPtr& context) {
    StreamPtr stream;
    if (const CUresult found = resolve_stream(handle, context, stream); found != CUDA_SUCCESS)
      return found;
    const std::lock_guard guard(graphs_mutex());
    return body(stream);
  });
}

CUresult begin(CUstream handle, CUstreamCaptureMode mode) {
  return about_capture(handle, [&](const StreamPtr& stream) {
    return is_mode(mode) ? begin_capture(stream, mode, nullptr, {}) : CUDA_ERROR_INVALID_VALUE;
  });
}

CUstreamCaptureStatus status_of(const Stream& stream) noexcept {
  if (!stream.capture)
    return CU_STREAM_CAPTURE_STATUS_NONE;
  return stream.capture->sequence->valid ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                                         : CU_STREAM_CAPTURE_STATUS_INVALIDATED;
}

struct CaptureInfo {
  CUstreamCaptureStatus* status = nullptr;
  cuuint64_t* id = nullptr;
  CUgraph* graph = nullptr;
  const CUgraphNode** dependencies = nullptr;
  const CUgraphEdgeData** edges = nullptr;
  std::size_t* count = nullptr;
};

bool any_edge_data(const std::vector<Link>& links) noexcept {
  for (const Link& each : links)
    if (!is_default(each.data))
      return true;
  return false;
}

void put_dependencies(StreamCapture& place, const CaptureInfo& out) {
  place.handles.clear();
  place.edges.clear();
  for (const Link& each : place.dependencies) {
    place.handles.push_back(static_cast<CUgraphNode>(each.node->handle));
    place.edges.push_back(each.data);
  }
  if (out.dependencies != nullptr)
    *out.dependencies = place.handles.data();
  if (out.edges != nullptr)
    *out.edges = place.edges.data();
  if (out.count != nullptr)
    *out.count = place.handles.size();
}

CUresult info(CUstream handle, const CaptureInfo& out) {
  return about_capture(handle, [&](const StreamPtr& stream) {
    if (out.status == nullptr || (out.edges != nullptr && out.dependencies == nullptr))
      return CUDA_ERROR_INVALID_VALUE;
    if (stream->kind() == Stream::Kind::Legacy && stream->context().blocking_captures != 0)
      return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    *out.status = status_of(*stream);
    if (*out.status != CU_STREAM_CAPTURE_STATUS_ACTIVE)
      return CUDA_SUCCESS;
    StreamCapture& place = *stream->capture;
    if (out.dependencies != nullptr && out.edges == nullptr && any_edge_data(place.dependencies))
      return CUDA_ERROR_LOSSY_QUERY;
    if (out.id != nullptr)
      *out.id = place.sequence->id;
    if (out.graph != nullptr)
      *out.graph = static_cast<CUgraph>(place.sequence->graph->handle);
    put_dependencies(place, out);
    return CUDA_SUCCESS;
  });
}

CUresult update(CUstream handle, const CUgraphNode* nodes, const CUgraphEdgeData* edges, std::size_t count,
                unsigned flags) {
  return about_capture(handle, [&](const StreamPtr& stream) {
    if (flags > CU_STREAM_SET_CAPTURE_DEPENDENCIES || (count != 0 && nodes == nullptr))
      return CUDA_ERROR_INVALID_VALUE;
    if (!stream->capture)
      return CUDA_ERROR_ILLEGAL_STATE;
    if (!stream->capture->sequence->valid)
      return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    std::vector<Link> fresh;
    const CUresult read = read_dependencies(*stream->capture->sequence->graph, nodes, edges, count, fresh);
    if (read != CUDA_SUCCESS)
      return read;
    std::vector<Link>& held = stream->capture->dependencies;
    if (flags == CU_STREAM_SET_CAPTURE_DEPENDENCIES)
      held = std::move(fresh);
    else
      add_links(held, fresh);
    return CUDA_SUCCESS;
  });
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuStreamBeginCapture(CUstream stream) {
  return begin(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
}
ALIQUOT_EXPORT CUresult cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
  return begin(stream, mode);
}

ALIQUOT_EXPORT CUresult cuStreamBeginCaptureToGraph(CUstream handle, CUgraph graph_handle,
                                                    const CUgraphNode* nodes, const CUgraphEdgeData* edges,
                                                    size_t count, CUstreamCaptureMode mode) {
  return about_capture(handle, [&](const StreamPtr& stream) {
    const GraphPtr graph = Driver::instance().graphs.find(graph_handle);
    if (!graph || graph->capturing || !is_mode(mode))
      return CUDA_ERROR_INVALID_VALUE;
    std::vector<Link> dependencies;
    const CUresult read = read_dependencies(*graph, nodes, edges, count, dependencies);
    return read == CUDA_SUCCESS ? begin_capture(stream, mode, graph, std::move(dependencies)) : read;
  });
}

ALIQUOT_EXPORT CUresult cuStreamEndCapture(CUstream handle, CUgraph* out) {
  return about_capture(handle, [&](const StreamPtr& stream) {
    if (out == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    GraphPtr graph;
    const CUresult ended = end_capture(stream, graph);
    *out = graph ? static_cast<CUgraph>(graph->handle) : nullptr;
    return ended;
  });
}

ALIQUOT_EXPORT CUresult cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus* status) {
  return info(stream, {.status = status});
}
ALIQUOT_EXPORT CUresult cuStreamGetCaptureInfo(CUstream stream, CUstreamCaptureStatus* status,
                                               cuuint64_t* id) {
  return info(stream, {.status = status, .id = id});
}
ALIQUOT_EXPORT CUresult cuStreamGetCaptureInfo_v2(CUstream stream, CUstreamCaptureStatus* status,
                                                  cuuint64_t* id, CUgraph* graph,
                                                  const CUgraphNode** dependencies, size_t* count) {
  return info(stream, {status, id, graph, dependencies, nullptr, count});
}
ALIQUOT_EXPORT CUresult cuStreamGetCaptureInfo_v3(CUstream stream, CUstreamCaptureStatus* status,
                                                  cuuint64_t* id, CUgraph* graph,
                                                  const CUgraphNode** dependencies,
                                                  const CUgraphEdgeData** edges, size_t* count) {
  return info(stream, {status, id, graph, dependencies, edges, count});
}

ALIQUOT_EXPORT CUresult cuStreamUpdateCaptureDependencies(CUstream stream, CUgraphNode* nodes, size_t count,
                                                          unsigned int flags) {
  return update(stream, nodes, nullptr, count, flags);
}
ALIQUOT_EXPORT CUresult cuStreamUpdateCaptureDependencies_v2(CUstream stream, CUgraphNode* nodes,
                                                             const CUgraphEdgeData* edges, size_t count,
                                                             unsigned int flags) {
  return update(stream, nodes, edges, count, flags);
}

ALIQUOT_EXPORT CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* mode) {
  return with_driver([&](Driver&) {
    if (mode == nullptr || !is_mode(*mode))
      return CUDA_ERROR_INVALID_VALUE;
    std::swap(*mode, capture_mode_of_this_thread());
    return CUDA_SUCCESS;
  });
}

} // extern "C"
