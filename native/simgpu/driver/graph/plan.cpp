#include "native/simgpu/driver/graph/plan.hpp"

#include <algorithm>

#include "native/simgpu/driver/copy_box.hpp"
#include "native/simgpu/driver/core/kernel_command.hpp"
#include "native/simgpu/driver/core/marker_command.hpp"
#include "native/simgpu/driver/graph/graph_memory.hpp"
#include "native/simgpu/driver/stream_memory.hpp"

namespace aliquot::simgpu::driver {
namespace {

// More branches than this share chains: what they could overlap with is busy long before.
constexpr std::size_t kMostChains = 32;

// The nodes of a graph and of the graphs in it, one after another, with edges between steps alone.
class Flattener {
 public:
  explicit Flattener(Plan& plan) : plan_(plan) {}

  void add(const Graph& graph) { add(graph, {}); }
  const std::vector<std::vector<std::size_t>>& dependencies() const noexcept { return dependencies_; }

 private:
  using Steps = std::vector<std::size_t>;

  // What the nodes of `graph` do; roots wait for `before`. Returns the steps that end it.
  Steps add(const Graph& graph, const Steps& before) {
    std::unordered_map<const GraphNode*, Steps> ends;
    Steps last;
    for (const NodePtr& node : graph.topological_order()) {
      Steps waits_for;
      for (const Link& each : node->dependencies)
        waits_for.insert(waits_for.end(), ends[each.node.get()].begin(), ends[each.node.get()].end());
      if (node->dependencies.empty())
        waits_for = before;
      std::sort(waits_for.begin(), waits_for.end());
      waits_for.erase(std::unique(waits_for.begin(), waits_for.end()), waits_for.end());
      ends[node.get()] = add_node(node, std::move(waits_for));
      if (node->dependents.empty())
        last.insert(last.end(), ends[node.get()].begin(), ends[node.get()].end());
    }
    return graph.nodes().empty() ? before : last;
  }

  Steps add_node(const NodePtr& node, Steps waits_for) {
    if (const auto* child = std::get_if<ChildWork>(&node->work)) {
      // One step to end it, so that what comes after waits for one and not for many.
      Steps inside = add(*child->graph, add_step(nullptr, EmptyWork{}, std::move(waits_for)));
      return inside.size() == 1 ? inside : add_step(nullptr, EmptyWork{}, std::move(inside));
    }
    return add_step(node.get(), node->work, std::move(waits_for));
  }

  Steps add_step(const GraphNode* node, Work work, Steps waits_for) {
    note_memory(work);
    if (node != nullptr)
      plan_.step_of[node] = plan_.steps.size();
    plan_.steps.push_back(std::make_shared<Step>(Step{std::move(work), true}));
    dependencies_.push_back(std::move(waits_for));
    return {plan_.steps.size() - 1};
  }

  void note_memory(const Work& work) {
    if (const auto* allocate = std::get_if<AllocateWork>(&work))
      plan_.allocations.push_back(allocate->allocation);
    else if (const auto* free = std::get_if<FreeWork>(&work))
      plan_.frees.push_back(free->allocation);
  }

  Plan& plan_;
  std::vector<Steps> dependencies_;
};

int priority_of(const Work& work) noexcept {
  const auto* kernel = std::get_if<KernelWork>(&work);
  if (kernel == nullptr)
    return kLeastPriority;
  const auto at = kernel->attributes.find(CU_LAUNCH_ATTRIBUTE_PRIORITY);
  const int asked = at == kernel->attributes.end() ? kLeastPriority : at->second.priority;
  return std::clamp(asked, kGreatestPriority, kLeastPriority);
}

// Needs the stream: it leaves the thread, or waits for what other streams do.
bool runs_alone(const Work& work) noexcept {
  return std::holds_alternative<HostWork>(work) || std::holds_alternative<RecordWork>(work) ||
         std::holds_alternative<WaitWork>(work) || std::holds_alternative<MemoryOperationsWork>(work);
}

// Puts every step on a chain: behind the last step of one that it waits for, or on one of its own.
class Divider {
 public:
  Divider(Plan& plan, const std::vector<std::vector<std::size_t>>& dependencies)
      : plan_(plan), dependencies_(dependencies), chain_of_(plan.steps.size()), left_(plan.steps.size()) {}

  void run() {
    for (std::size_t step = 0; step < plan_.steps.size(); ++step)
      chain_of_[step] = place(step);
    mark_ends_of_segments();
    make_segments();
  }

 private:
  std::size_t place(std::size_t step) {
    const Work& work = plan_.steps[step]->work;
    const ContextPtr context = context_of(work);
    const int priority = plan_.node_priorities ? priority_of(work) : kLeastPriority;
    const auto fits = [&](const Chain& chain) {
      const bool same_place = !context || !chain.context || chain.context == context;
      return same_place && (!plan_.node_priorities || chain.priority == priority);
    };
    for (const std::size_t each : dependencies_[step]) {
      const std::size_t chain = chain_of_[each];
      if (tails_[chain] == each && fits(plan_.chains[chain]))
        return append(step, chain, context);
    }
    if (plan_.chains.size() >= kMostChains)
      for (std::size_t i = 0; i < plan_.chains.size(); ++i) {
        const std::size_t chain = (next_shared_ + i) % plan_.chains.size();
        if (fits(plan_.chains[chain])) {
          next_shared_ = chain + 1;
          return append(step, chain, context);
        }
      }
    plan_.chains.push_back({context, priority, 0});
    tails_.push_back(step);
    return plan_.chains.size() - 1;
  }

  std::size_t append(std::size_t step, std::size_t chain, const ContextPtr& context) {
    tails_[chain] = step;
    if (!plan_.chains[chain].context)
      plan_.chains[chain].context = context;
    return chain;
  }

  // Where another chain waits for a step, its segment ends: what waits need not wait for more.
  void mark_ends_of_segments() {
    for (std::size_t step = 0; step < plan_.steps.size(); ++step)
      for (const std::size_t each : dependencies_[step])
        if (chain_of_[each] != chain_of_[step])
          left_[each] = true;
  }

  void make_segments() {
    std::vector<std::size_t> open(plan_.chains.size(), kNone), segment_of(plan_.steps.size());
    for (std::size_t step = 0; step < plan_.steps.size(); ++step) {
      const std::size_t chain = chain_of_[step];
      std::vector<std::size_t> waits_for;
      for (const std::size_t each : dependencies_[step])
        if (chain_of_[each] != chain)
          waits_for.push_back(segment_of[each]);
      const bool alone = runs_alone(plan_.steps[step]->work);
      if (open[chain] == kNone || !waits_for.empty() || alone) {
        open[chain] = plan_.segments.size();
        plan_.segments.push_back({chain, {}, std::move(waits_for), alone});
      }
      plan_.segments[open[chain]].steps.push_back(step);
      plan_.chains[chain].last_segment = segment_of[step] = open[chain];
      if (alone || left_[step])
        open[chain] = kNone;
    }
  }

  static constexpr std::size_t kNone = ~std::size_t{0};
  Plan& plan_;
  const std::vector<std::vector<std::size_t>>& dependencies_;
  std::vector<std::size_t> chain_of_;
  std::vector<bool> left_;
  std::vector<std::size_t> tails_; // the last step of each chain so far
  std::size_t next_shared_ = 0;
};

class FreeCommand final : public Command {
 public:
  FreeCommand(std::shared_ptr<GraphAllocation> allocation, std::uint64_t life)
      : allocation_(std::move(allocation)), life_(life) {}
  Outcome run(Stream&) noexcept override {
    skip();
    return Outcome::Done;
  }
  void skip() noexcept override {
    Driver& driver = Driver::instance();
    const auto erased = driver.allocations.erase(
        allocation_->address, [this](const Allocation& each) { return each.buffer_id == life_; });
    if (erased)
      driver.give_back(*erased);
  }

 private:
  const std::shared_ptr<GraphAllocation> allocation_;
  const std::uint64_t life_;
};

// Null where there is nothing to do. `error` where what the node names is gone.
struct MakeCommand {
  const LaunchState& state;
  CUresult& error;

  std::unique_ptr<Command> operator()(const KernelWork& work) const {
    const auto& function = work.resolved.function;
    return std::make_unique<KernelCommand>(function, make_launch(*function, work.shape, work.parameters));
  }
  std::unique_ptr<Command> operator()(const CopyWork& work) const {
    ResolvedBox box;
    error = resolve_box(Driver::instance(), work.copy, box);
    if (error != CUDA_SUCCESS)
      return nullptr;
    return std::make_unique<CopyCommand>(box.to_layout, box.from_layout, box.extent,
                                         direction_of(box.to, box.from));
  }
  std::unique_ptr<Command> operator()(const SetWork& work) const {
    std::unique_ptr<Command> command;
    error = make_set_command(Driver::instance(), work.set, command);
    return command;
  }
  std::unique_ptr<Command> operator()(const FreeWork& work) const {
    const auto life = state.lives.find(work.allocation.get());
    if (life == state.lives.end())
      return nullptr;
    return std::make_unique<FreeCommand>(work.allocation, life->second);
  }
  template <class Other>
  std::unique_ptr<Command> operator()(const Other&) const { // done when the launch began, or nothing at all
    return nullptr;
  }
};

class SegmentCommand final : public Command {
 public:
  SegmentCommand(std::shared_ptr<const Plan> plan, std::shared_ptr<const LaunchState> state,
                 std::size_t segment)
      : plan_(std::move(plan)), state_(std::move(state)), steps_(plan_->segments[segment].steps) {}

  Outcome run(Stream& stream) noexcept override {
    for (; next_ < steps_.size(); ++next_) {
      if (stream.context().failed()) {
        skip();
        return Outcome::Done;
      }
      if (!current_)
        begin_step(stream.context());
      if (current_)
        if (const Outcome outcome = current_->run(stream); outcome != Outcome::Done)
          return outcome;
      current_ = nullptr;
    }
    return Outcome::Done;
  }

  void skip() noexcept override {
    for (; next_ < steps_.size(); ++next_) {
      CUresult error = CUDA_SUCCESS;
      if (!current_ && std::holds_alternative<FreeWork>(step().work))
        make(error);
      if (current_)
        current_->skip();
      current_ = nullptr;
    }
  }

  bool light() const noexcept override { return false; }

 private:
  const Step& step() const noexcept { return *plan_->steps[steps_[next_]]; }

  void make(CUresult& error) noexcept try {
    current_ = step().enabled ? std::visit(MakeCommand{*state_, error}, step().work) : nullptr;
  } catch (...) {
    error = CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES;
  }

  void begin_step(Context& context) noexcept {
    CUresult error = CUDA_SUCCESS;
    make(error);
    if (error == CUDA_SUCCESS)
      return;
    // What a copy or a set names was there when the node was made.
    const bool gone = error == CUDA_ERROR_INVALID_VALUE;
    context.fail(gone ? CUDA_ERROR_ILLEGAL_ADDRESS : CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES);
  }

  const std::shared_ptr<const Plan> plan_;
  const std::shared_ptr<const LaunchState> state_;
  const std::vector<std::size_t>& steps_;
  std::size_t next_ = 0;
  std::unique_ptr<Command> current_; // kept where it yielded
};

void add_objects(const Graph& graph, ObjectReferences& objects) {
  objects.add(graph.objects);
  for (const NodePtr& node : graph.nodes())
    if (const auto* child = std::get_if<ChildWork>(&node->work))
      add_objects(*child->graph, objects);
}

} // namespace

std::shared_ptr<Plan> make_plan(const Graph& image, bool node_priorities) {
  auto plan = std::make_shared<Plan>();
  plan->node_priorities = node_priorities;
  Flattener flattener(*plan);
  flattener.add(image);
  Divider(*plan, flattener.dependencies()).run();
  auto objects = std::make_shared<ObjectReferences>();
  add_objects(image, *objects);
  plan->objects = std::move(objects);
  return plan;
}

std::unique_ptr<Command> make_segment_command(std::shared_ptr<const Plan> plan,
                                              std::shared_ptr<const LaunchState> state, std::size_t segment) {
  return std::make_unique<SegmentCommand>(std::move(plan), std::move(state), segment);
}

std::unique_ptr<Command> make_lone_command(const Step& step, Context& context) {
  if (const auto* host = std::get_if<HostWork>(&step.work))
    return std::make_unique<HostFunctionCommand>(host->function, host->data);
  std::unique_ptr<Command> command = std::make_unique<WaitCommand>();
  if (const auto* wait = std::get_if<WaitWork>(&step.work)) {
    if (const auto record = wait->event->record(); record && !record->reached())
      command->waits_for.push_back({record->stream, record->sequence});
  } else if (const auto* operations = std::get_if<MemoryOperationsWork>(&step.work)) {
    const CUresult made =
        make_memory_operations(context, operations->operations.data(),
                               static_cast<unsigned>(operations->operations.size()), command);
    if (made != CUDA_SUCCESS)
      context.fail(CUDA_ERROR_ILLEGAL_ADDRESS);
    if (!command)
      command = std::make_unique<WaitCommand>();
  }
  return command;
}

} // namespace aliquot::simgpu::driver
