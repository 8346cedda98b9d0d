// Stream capture: what streams and events know of a capture sequence, and how work becomes a node in place of
// a command. All of it is guarded by graphs_mutex.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "native/simgpu/driver/core/stream.hpp"
#include "native/simgpu/driver/graph/capture_rules.hpp"
#include "native/simgpu/driver/graph/graph.hpp"

namespace aliquot::simgpu::driver {

// From cuStreamBeginCapture to cuStreamEndCapture, over all streams that joined in.
struct CaptureSequence {
  std::uint64_t id = 0;
  CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  std::uint64_t thread = 0; // that began it
  GraphPtr graph;
  bool graph_is_clients = false; // cuStreamBeginCaptureToGraph
  Stream* origin = nullptr;
  bool valid = true;
  std::vector<std::weak_ptr<Stream>> members;
  std::vector<Link> left_behind; // what streams held that were destroyed since
};

// A stream's place in a capture: what its next node will depend on.
struct StreamCapture {
  std::shared_ptr<CaptureSequence> sequence;
  std::vector<Link> dependencies;
  // What cuStreamGetCaptureInfo hands out; valid until the next call on the stream.
  std::vector<CUgraphNode> handles;
  std::vector<CUgraphEdgeData> edges;
};

// An event that was recorded in a capturing stream.
struct CapturedPoint {
  std::shared_ptr<CaptureSequence> sequence;
  std::vector<Link> nodes;
};

// For calls on a capturing stream: adds a node behind what the stream holds. The node is the stream's last.
CUresult capture(Stream& stream, Work work);
// The same, with the node for those who need it.
CUresult capture(Stream& stream, Work work, NodePtr& node);

// Copies and sets, which are checked as nodes are.
CUresult capture_box(Stream& stream, const CUDA_MEMCPY3D& what);
CUresult capture_set(Stream& stream, const CUDA_MEMSET_NODE_PARAMS_v2& what);

// cuEventRecord and cuStreamWaitEvent where a capture has a part in it.
CUresult capture_record(Stream& stream, Event& event);
CUresult capture_wait(const std::shared_ptr<Stream>& stream, Event& event);
// CAPTURED_EVENT, and the capture that the event belongs to is invalid: it was asked what only a run can
// tell.
CUresult spoil_capture_of(const Event& event);

CUresult begin_capture(const std::shared_ptr<Stream>& stream, CUstreamCaptureMode mode, GraphPtr graph,
                       std::vector<Link> dependencies);
CUresult end_capture(const std::shared_ptr<Stream>& stream, GraphPtr& graph);

// How the calling thread deals with captures (cuThreadExchangeStreamCaptureMode).
CUstreamCaptureMode& capture_mode_of_this_thread() noexcept;

} // namespace aliquot::simgpu::driver
