#include "native/simgpu/driver/graph/exec.hpp"

#include <algorithm>
#include <atomic>

#include "native/simgpu/driver/core/marker_command.hpp"
#include "native/simgpu/driver/graph/graph_memory.hpp"

namespace aliquot::simgpu::driver {
namespace {

unsigned next_exec_id() noexcept {
  static std::atomic<unsigned> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

bool find_cycle(const Graph& graph, NodePtr& in_cycle) {
  if (!graph.nodes().empty() && graph.topological_order(&in_cycle).empty())
    return true;
  for (const NodePtr& node : graph.nodes())
    if (const auto* child = std::get_if<ChildWork>(&node->work); child && find_cycle(*child->graph, in_cycle))
      return true;
  return false;
}

// From here on the graph alone frees it.
void reserve_free(const GraphAllocation& allocation, LaunchState& state) {
  Driver::instance().allocations.change(allocation.address, [&](Allocation& each) {
    if (each.graph.get() != &allocation)
      return false;
    each.freeing = true;
    state.lives[&allocation] = each.buffer_id;
    return true;
  });
}

// A primary context keeps its handle when it is reset: what is behind it tells.
CUresult check_context(const ContextPtr& context) {
  if (!context)
    return CUDA_SUCCESS;
  if (Driver::instance().contexts.find(context->handle) != context)
    return CUDA_ERROR_INVALID_VALUE;
  return context->failure();
}

bool contains(const std::vector<std::shared_ptr<GraphAllocation>>& all,
              const std::shared_ptr<GraphAllocation>& one) {
  return std::find(all.begin(), all.end(), one) != all.end();
}

} // namespace

GraphExec::GraphExec(GraphPtr image, std::uint64_t flags_, std::shared_ptr<Plan> plan)
    : flags(flags_), id(next_exec_id()), image_(std::move(image)), plan_(std::move(plan)) {
  index_nodes(*image_);
}

// Streams of its own end when the last launch has.
GraphExec::~GraphExec() {
  for (const StreamPtr& stream : chain_streams_)
    if (stream)
      stream->destroyed = true;
}

std::shared_ptr<GraphExec> GraphExec::make(const GraphPtr& graph, std::uint64_t flags, NodePtr& bad_node) {
  if (find_cycle(*graph, bad_node))
    return nullptr;
  GraphPtr image = graph->clone(false);
  auto plan = make_plan(*image, (flags & CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY) != 0);
  return std::make_shared<GraphExec>(std::move(image), flags, std::move(plan));
}

void GraphExec::index_nodes(const Graph& graph) {
  for (const NodePtr& node : graph.nodes()) {
    by_origin_[node->origin] = node;
    if (const auto* child = std::get_if<ChildWork>(&node->work))
      index_nodes(*child->graph);
  }
}

NodePtr GraphExec::image_of(const GraphNode& node) const {
  const auto at = by_origin_.find(node.id);
  return at == by_origin_.end() ? nullptr : at->second;
}

Plan& GraphExec::writable_plan() {
  if (plan_.use_count() > 1)
    plan_ = std::make_shared<Plan>(*plan_);
  return *plan_;
}

void GraphExec::set_work(const NodePtr& image, Work work) {
  const std::lock_guard guard(launch_mutex_);
  image->work = work;
  Plan& plan = writable_plan();
  if (const auto at = plan.step_of.find(image.get()); at != plan.step_of.end())
    plan.steps[at->second] = std::make_shared<Step>(Step{std::move(work), plan.steps[at->second]->enabled});
}

void GraphExec::set_enabled(const NodePtr& image, bool enabled) {
  const std::lock_guard guard(launch_mutex_);
  Plan& plan = writable_plan();
  if (const auto at = plan.step_of.find(image.get()); at != plan.step_of.end())
    plan.steps[at->second] = std::make_shared<Step>(Step{plan.steps[at->second]->work, enabled});
}

bool GraphExec::enabled(const NodePtr& image) const {
  const auto at = plan_->step_of.find(image.get());
  return at == plan_->step_of.end() || plan_->steps[at->second]->enabled;
}

// Known as allocated from the moment of the call, so that calls behind it find the memory.
CUresult GraphExec::begin_memory(const Plan& plan, LaunchState& state, const Context& context) {
  for (const auto& each : plan.allocations)
    if (each->outstanding() && (flags & CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH) == 0)
      return CUDA_ERROR_INVALID_VALUE;
  for (const auto& each : plan.frees)
    if (!contains(plan.allocations, each) && !each->outstanding())
      return CUDA_ERROR_INVALID_VALUE;
  for (std::size_t i = 0; i < plan.allocations.size(); ++i) {
    if (plan.allocations[i]->begin(context))
      continue;
    for (std::size_t j = 0; j < i; ++j) // what this launch has begun, nobody will use
      if (const auto erased = Driver::instance().allocations.erase(
              plan.allocations[j]->address, [&](const Allocation& each) { return each.graph != nullptr; }))
        Driver::instance().give_back(*erased);
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  for (const auto& each : plan.frees)
    reserve_free(*each, state);
  return CUDA_SUCCESS;
}

// The first chain takes the launch stream, where that fits; the others have streams that wait for nothing by
// themselves.
StreamPtr GraphExec::chain_stream(const Plan& plan, std::size_t chain, const StreamPtr& launch_stream) {
  const ContextPtr& needed = plan.chains[chain].context;
  const ContextPtr& context = needed ? needed : launch_stream->shared_context();
  const int priority = plan.node_priorities ? plan.chains[chain].priority : launch_stream->priority();
  if (chain == 0 && context == launch_stream->shared_context() && priority == launch_stream->priority())
    return launch_stream;
  if (chain_streams_.size() < plan.chains.size())
    chain_streams_.resize(plan.chains.size());
  StreamPtr& stream = chain_streams_[chain];
  if (stream && (stream->shared_context() != context || stream->priority() != priority)) {
    stream->destroyed = true;
    stream = nullptr;
  }
  if (!stream)
    stream = context->make_stream(Stream::Kind::Created, CU_STREAM_NON_BLOCKING, priority);
  return stream;
}

void GraphExec::submit(const std::shared_ptr<const Plan>& plan, const std::shared_ptr<LaunchState>& state,
                       const StreamPtr& stream) {
  Executor& executor = Executor::instance();
  std::vector<StreamPtr> streams;
  for (std::size_t i = 0; i < plan->chains.size(); ++i)
    streams.push_back(chain_stream(*plan, i, stream));
  const bool one_stream = streams.empty() || (streams.size() == 1 && streams[0] == stream);
  Dependency begin = last_launch_;
  if (!one_stream) {
    auto start = std::make_unique<WaitCommand>();
    if (last_launch_.stream)
      start->waits_for.push_back(last_launch_);
    begin = {stream, executor.submit(stream, std::move(start))};
  }
  std::vector<Dependency> done(plan->segments.size());
  std::vector<bool> begun(plan->chains.size());
  for (std::size_t i = 0; i < plan->segments.size(); ++i) {
    const Segment& segment = plan->segments[i];
    const StreamPtr& target = streams[segment.chain];
    const Step& first = *plan->steps[segment.steps.front()];
    const auto* record = segment.alone ? std::get_if<RecordWork>(&first.work) : nullptr;
    auto fresh = record != nullptr ? std::make_shared<EventRecord>() : nullptr;
    std::unique_ptr<Command> command = record != nullptr ? std::make_unique<RecordCommand>(fresh)
                                       : segment.alone   ? make_lone_command(first, target->context())
                                                         : make_segment_command(plan, state, i);
    for (const std::size_t each : segment.waits_for)
      command->waits_for.push_back(done[each]);
    if (!begun[segment.chain] && begin.stream && begin.stream != target)
      command->waits_for.push_back(begin);
    begun[segment.chain] = true;
    done[i] = {target, executor.submit(target, std::move(command))};
    if (record != nullptr) {
      fresh->stream = done[i].stream;
      fresh->sequence = done[i].sequence;
      record->event->set_record(fresh);
    }
  }
  auto end = std::make_unique<WaitCommand>();
  for (std::size_t i = 0; i < plan->chains.size(); ++i)
    if (streams[i] != stream)
      end->waits_for.push_back(done[plan->chains[i].last_segment]);
  if (plan->segments.empty() && last_launch_.stream && last_launch_.stream != stream)
    end->waits_for.push_back(last_launch_);
  const bool needs_end = !end->waits_for.empty() || plan->segments.empty();
  last_launch_ = needs_end ? Dependency{stream, executor.submit(stream, std::move(end))} : done.back();
}

CUresult GraphExec::launch(const StreamPtr& stream) {
  const std::lock_guard guard(launch_mutex_);
  for (const Chain& chain : plan_->chains)
    if (const CUresult usable = check_context(chain.context); usable != CUDA_SUCCESS)
      return usable;
  auto state = std::make_shared<LaunchState>();
  if (const CUresult begun = begin_memory(*plan_, *state, stream->context()); begun != CUDA_SUCCESS)
    return begun;
  submit(plan_, state, stream);
  return CUDA_SUCCESS;
}

CUresult GraphExec::upload(const StreamPtr& stream) {
  const std::lock_guard guard(launch_mutex_);
  auto command = std::make_unique<WaitCommand>();
  if (last_launch_.stream)
    command->waits_for.push_back(last_launch_);
  Executor::instance().submit(stream, std::move(command));
  return CUDA_SUCCESS;
}

} // namespace aliquot::simgpu::driver
