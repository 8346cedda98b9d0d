#include "native/simgpu/driver/graph/capture.hpp"

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <new>
#include <unordered_set>
#include <utility>

#include "native/simgpu/driver/graph/capture_launch.hpp"

namespace aliquot::simgpu::driver {
namespace {

using SequencePtr = std::shared_ptr<CaptureSequence>;

std::uint64_t this_thread_id() noexcept {
  static thread_local const auto id = static_cast<std::uint64_t>(syscall(SYS_gettid));
  return id;
}

// Sequences that have begun and not ended; guarded by graphs_mutex.
std::vector<SequencePtr>& sequences() noexcept {
  alignas(std::vector<SequencePtr>) static std::byte storage[sizeof(std::vector<SequencePtr>)];
  static auto* all = new (storage) std::vector<SequencePtr>; // never destroyed: threads may be inside at exit
  return *all;
}

// Whether the mode of this thread forbids it unsafe calls while `sequence` is under way.
bool forbids_unsafe_calls(const CaptureSequence& sequence) noexcept {
  const CUstreamCaptureMode mode = capture_mode_of_this_thread();
  if (mode == CU_STREAM_CAPTURE_MODE_RELAXED)
    return false;
  if (sequence.thread == this_thread_id())
    return sequence.mode != CU_STREAM_CAPTURE_MODE_RELAXED;
  return mode == CU_STREAM_CAPTURE_MODE_GLOBAL && sequence.mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
}

void join(const std::shared_ptr<Stream>& stream, const SequencePtr& sequence,
          std::vector<Link> dependencies) {
  auto place = std::make_shared<StreamCapture>();
  place->sequence = sequence;
  place->dependencies = std::move(dependencies);
  sequence->members.push_back(stream);
  stream->capture = std::move(place);
  stream->capturing = true;
  if (stream->blocking())
    stream->context().blocking_captures.fetch_add(1);
}

void leave(Stream& stream) noexcept {
  stream.capture = nullptr;
  stream.capturing = false;
  if (stream.blocking())
    stream.context().blocking_captures.fetch_sub(1);
}

// Nodes that a client has removed from the graph meanwhile are nothing to depend on.
std::vector<Link> live_links(const std::vector<Link>& links, const Graph& graph) {
  std::vector<Link> live;
  std::copy_if(links.begin(), links.end(), std::back_inserter(live),
               [&](const Link& each) { return each.node->graph == &graph; });
  return live;
}

// Is everything that the joined streams hold behind what the origin holds?
bool all_joined(const CaptureSequence& sequence) {
  std::unordered_set<const GraphNode*> reached;
  std::vector<NodePtr> open;
  for (const Link& each : sequence.origin->capture->dependencies)
    open.push_back(each.node);
  while (!open.empty()) {
    const NodePtr node = std::move(open.back());
    open.pop_back();
    if (reached.insert(node.get()).second)
      for (const Link& each : node->dependencies)
        open.push_back(each.node);
  }
  std::vector<Link> held = sequence.left_behind;
  for (const auto& weak : sequence.members)
    if (const auto stream = weak.lock(); stream && stream->capture)
      add_links(held, stream->capture->dependencies);
  const std::vector<Link> live = live_links(held, *sequence.graph);
  return std::all_of(live.begin(), live.end(),
                     [&](const Link& each) { return reached.count(each.node.get()) != 0; });
}

void dissolve(const SequencePtr& sequence) noexcept {
  for (const auto& weak : sequence->members)
    if (const auto stream = weak.lock(); stream && stream->capture && stream->capture->sequence == sequence)
      leave(*stream);
  sequence->graph->capturing = false;
  std::erase(sequences(), sequence);
  captures_under_way.fetch_sub(1, std::memory_order_release);
}

// The legacy stream would wait for the blocking streams of its context; those that capture never get there.
CUresult implicit_use(const Context& context) noexcept {
  for (const SequencePtr& sequence : sequences())
    for (const auto& weak : sequence->members)
      if (const auto stream = weak.lock(); stream && stream->blocking() && &stream->context() == &context)
        sequence->valid = false;
  return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
}

} // namespace

CUstreamCaptureMode& capture_mode_of_this_thread() noexcept {
  static thread_local CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_GLOBAL;
  return mode;
}

// ---- rules ------------------------------------------------------------------------------------------------

CUresult unsafe_call_under_capture() noexcept {
  const std::lock_guard guard(graphs_mutex());
  bool forbidden = false;
  for (const SequencePtr& sequence : sequences())
    if (forbids_unsafe_calls(*sequence)) {
      sequence->valid = false;
      forbidden = true;
    }
  return forbidden ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}

CUresult stream_under_capture(Stream& stream) noexcept {
  const std::lock_guard guard(graphs_mutex());
  if (stream.capture) {
    const bool valid = std::exchange(stream.capture->sequence->valid, false);
    return valid ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  }
  if (stream.kind() == Stream::Kind::Legacy && stream.context().blocking_captures != 0)
    return implicit_use(stream.context());
  return CUDA_SUCCESS;
}

CUresult capture_is_valid(Stream& stream) noexcept {
  const std::lock_guard guard(graphs_mutex());
  return stream.capture && !stream.capture->sequence->valid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
                                                            : CUDA_SUCCESS;
}

CUresult wait_under_capture(Context& context) noexcept {
  const std::lock_guard guard(graphs_mutex());
  bool captures = false;
  for (const SequencePtr& sequence : sequences())
    for (const auto& weak : sequence->members)
      if (const auto stream = weak.lock(); stream && &stream->context() == &context) {
        sequence->valid = false;
        captures = true;
      }
  return captures ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}

void invalidate_capture(Stream& stream) noexcept {
  const std::lock_guard guard(graphs_mutex());
  if (stream.capture)
    stream.capture->sequence->valid = false;
}

// ---- work into nodes --------------------------------------------------------------------------------------

namespace {

NodePtr add_locked(StreamCapture& place, Work work) {
  const GraphPtr& graph = place.sequence->graph;
  const NodePtr node = graph->add(std::move(work), live_links(place.dependencies, *graph));
  place.dependencies = {{node, {}}};
  return node;
}

} // namespace

CUresult capture(Stream& stream, Work work, NodePtr& node) {
  const std::lock_guard guard(graphs_mutex());
  if (!stream.capture || !stream.capture->sequence->valid)
    return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  node = add_locked(*stream.capture, std::move(work));
  return CUDA_SUCCESS;
}

CUresult capture(Stream& stream, Work work) {
  NodePtr node;
  return capture(stream, std::move(work), node);
}

CUresult capture_launch(Stream& stream, const ResolvedFunction& resolved, const LaunchShape& shape,
                        std::vector<std::uint8_t> parameters, const LaunchAttributes& attributes) {
  KernelWork work;
  work.function = static_cast<CUfunction>(resolved.function->handle);
  work.resolved = resolved;
  work.shape = shape;
  work.parameters = std::move(parameters);
  for (const auto& [id, value] : attributes)
    if (is_node_attribute(id))
      work.attributes.emplace(id, value);
  CUlaunchAttributeValue priority{};
  priority.priority = stream.priority();
  work.attributes.emplace(CU_LAUNCH_ATTRIBUTE_PRIORITY, priority);

  const std::lock_guard guard(graphs_mutex());
  if (!stream.capture || !stream.capture->sequence->valid)
    return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  StreamCapture& place = *stream.capture;
  const auto serial = attributes.find(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION);
  const bool programmatic =
      serial != attributes.end() && serial->second.programmaticStreamSerializationAllowed != 0;
  if (programmatic && place.dependencies.size() == 1 &&
      place.dependencies[0].node->type() == CU_GRAPH_NODE_TYPE_KERNEL)
    place.dependencies[0].data = {
        CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC, 0, CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC, {}};
  const NodePtr node = add_locked(place, std::move(work));
  const auto record = [&](CUevent handle, unsigned char port) {
    if (const auto event = Driver::instance().events.find(handle)) {
      CUgraphEdgeData data{};
      data.from_port = port;
      data.type = port == CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC ? CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC
                                                                 : CU_GRAPH_DEPENDENCY_TYPE_DEFAULT;
      event->set_captured(std::make_shared<CapturedPoint>(CapturedPoint{place.sequence, {Link{node, data}}}));
    }
  };
  if (const auto at = attributes.find(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT); at != attributes.end())
    record(at->second.programmaticEvent.event, CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC);
  if (const auto at = attributes.find(CU_LAUNCH_ATTRIBUTE_LAUNCH_COMPLETION_EVENT); at != attributes.end())
    record(at->second.launchCompletionEvent.event, CU_GRAPH_KERNEL_NODE_PORT_LAUNCH_ORDER);
  return CUDA_SUCCESS;
}

CUresult capture_record(Stream& stream, Event& event) {
  const std::lock_guard guard(graphs_mutex());
  if (!stream.capture || !stream.capture->sequence->valid)
    return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  event.set_captured(
      std::make_shared<CapturedPoint>(CapturedPoint{stream.capture->sequence, stream.capture->dependencies}));
  return CUDA_SUCCESS;
}

CUresult capture_wait(const std::shared_ptr<Stream>& stream, Event& event) {
  const std::lock_guard guard(graphs_mutex());
  const auto point = event.captured();
  if (!point) {
    // Recorded outside: the graph cannot wait for it. Never recorded: nothing to wait for.
    if (!stream->capture || !event.record())
      return CUDA_SUCCESS;
    return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
  }
  const SequencePtr& sequence = point->sequence;
  const bool under_way = std::find(sequences().begin(), sequences().end(), sequence) != sequences().end();
  if (!under_way)
    return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
  if (!sequence->valid)
    return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  if (!stream->capture) {
    if (stream->kind() == Stream::Kind::Legacy)
      return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    join(stream, sequence, point->nodes);
    return CUDA_SUCCESS;
  }
  if (stream->capture->sequence != sequence) {
    sequence->valid = stream->capture->sequence->valid = false;
    return CUDA_ERROR_STREAM_CAPTURE_MERGE;
  }
  add_links(stream->capture->dependencies, point->nodes);
  return CUDA_SUCCESS;
}

CUresult spoil_capture_of(const Event& event) {
  const std::lock_guard guard(graphs_mutex());
  if (const auto point = event.captured())
    point->sequence->valid = false;
  return CUDA_ERROR_CAPTURED_EVENT;
}

// ---- begin and end ----------------------------------------------------------------------------------------

CUresult begin_capture(const std::shared_ptr<Stream>& stream, CUstreamCaptureMode mode, GraphPtr graph,
                       std::vector<Link> dependencies) {
  static std::uint64_t next_id = 1;
  if (stream->kind() == Stream::Kind::Legacy)
    return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (stream->capture)
    return CUDA_ERROR_ILLEGAL_STATE;
  auto sequence = std::make_shared<CaptureSequence>();
  sequence->id = next_id++;
  sequence->mode = mode;
  sequence->thread = this_thread_id();
  sequence->graph_is_clients = graph != nullptr;
  sequence->graph = graph ? std::move(graph) : Graph::make_visible();
  sequence->graph->capturing = true;
  sequence->origin = stream.get();
  sequences().push_back(sequence);
  captures_under_way.fetch_add(1, std::memory_order_release);
  join(stream, sequence, std::move(dependencies));
  return CUDA_SUCCESS;
}

CUresult end_capture(const std::shared_ptr<Stream>& stream, GraphPtr& graph) {
  if (!stream->capture)
    return CUDA_ERROR_ILLEGAL_STATE;
  const SequencePtr sequence = stream->capture->sequence;
  if (sequence->origin != stream.get()) {
    sequence->valid = false;
    return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
  }
  if (sequence->mode != CU_STREAM_CAPTURE_MODE_RELAXED && sequence->thread != this_thread_id())
    return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
  CUresult result = CUDA_SUCCESS;
  if (!sequence->valid)
    result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  else if (!all_joined(*sequence))
    result = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
  dissolve(sequence);
  if (result == CUDA_SUCCESS)
    graph = sequence->graph;
  else if (!sequence->graph_is_clients)
    sequence->graph->retire();
  sequence->graph = nullptr; // events may remember the sequence for long
  return result;
}

void leave_capture(Stream& stream) noexcept try {
  const std::lock_guard guard(graphs_mutex());
  if (!stream.capture)
    return;
  const SequencePtr sequence = stream.capture->sequence;
  if (sequence->origin != &stream) {
    add_links(sequence->left_behind, stream.capture->dependencies);
    return leave(stream);
  }
  dissolve(sequence); // nobody can end it any more
  if (!sequence->graph_is_clients)
    sequence->graph->retire();
  sequence->graph = nullptr;
} catch (...) { // no memory to remember what it held: it counts as joined
  const std::lock_guard guard(graphs_mutex());
  leave(stream);
}

} // namespace aliquot::simgpu::driver
