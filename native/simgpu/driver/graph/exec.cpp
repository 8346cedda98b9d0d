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

Dependency GraphExec::submit_segment(const Launch& launch, std::size_t index,
                                     std::vector<Dependency> waits_for) {
  const Segment& segment = launch.plan->segments[index];
  const StreamPtr& target = launch.streams[segment.chain];
  const Step& first = *launch.plan->steps[segment.steps.front()];
  const auto* record = segment.alone ? std::get_if<RecordWork>(&first.work) : nullptr;
  const auto fresh = record != nullptr ? std::make_shared<EventRecord>() : nullptr;
  std::unique_ptr<Command> command;
  if (record != nullptr)
    command = std::make_unique<RecordCommand>(fresh);
  else if (segment.alone)
    command = make_lone_command(first, target->context());
  else
    command = make_segment_command(launch.plan, launch.state, index);
  command->waits_for.insert(command->waits_for.end(), waits_for.begin(), waits_for.end());
  const Dependency done{target, Executor::instance().submit(target, std::move(command))};
  if (record != nullptr) { // from now on the event stands for this launch
    fresh->stream = done.stream;
    fresh->sequence = done.sequence;
    record->event->set_record(fresh);
  }
  return done;
}

// What every chain's first segment waits for.
Dependency GraphExec::submit_begin(const Launch& launch, const StreamPtr& stream) {
  if (launch.streams.empty() || (launch.streams.size() == 1 && launch.streams[0] == stream))
    return last_launch_; // the chain itself comes behind what the stream holds
  auto start = std::make_unique<WaitCommand>();
  if (last_launch_.stream)
    start->waits_for.push_back(last_launch_);
  return {stream, Executor::instance().submit(stream, std::move(start))};
}

void GraphExec::submit(const Launch& launch, const StreamPtr& stream) {
  const Plan& plan = *launch.plan;
  const Dependency begin = submit_begin(launch, stream);
  std::vector<Dependency> done;
  std::vector<bool> begun(plan.chains.size());
  for (std::size_t i = 0; i < plan.segments.size(); ++i) {
    const std::size_t chain = plan.segments[i].chain;
    std::vector<Dependency> waits_for;
    for (const std::size_t each : plan.segments[i].waits_for)
      waits_for.push_back(done[each]);
    if (!begun[chain] && begin.stream && begin.stream != launch.streams[chain])
      waits_for.push_back(begin);
    begun[chain] = true;
    done.push_back(submit_segment(launch, i, std::move(waits_for)));
  }
  auto end = std::make_unique<WaitCommand>();
  for (std::size_t i = 0; i < plan.chains.size(); ++i)
    if (launch.streams[i] != stream)
      end->waits_for.push_back(done[plan.chains[i].last_segment]);
  if (done.empty() && begin.stream && begin.stream != stream)
    end->waits_for.push_back(begin);
  const bool needs_end = !end->waits_for.empty() || done.empty();
  last_launch_ =
      needs_end ? Dependency{stream, Executor::instance().submit(stream, std::move(end))} : done.back();
}

CUresult GraphExec::launch(const StreamPtr& stream) {
  const std::lock_guard guard(launch_mutex_);
  for (const Chain& chain : plan_->chains)
    if (const CUresult usable = check_context(chain.context); usable != CUDA_SUCCESS)
      return usable;
  auto state = std::make_shared<LaunchState>();
  if (const CUresult begun = begin_memory(*plan_, *state, stream->context()); begun != CUDA_SUCCESS)
    return begun;
  Launch launch{plan_, std::move(state), {}};
  for (std::size_t i = 0; i < plan_->chains.size(); ++i)
    launch.streams.push_back(chain_stream(*plan_, i, stream));
  submit(launch, stream);
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
