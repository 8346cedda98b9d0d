#include "native/simgpu/driver/graph/graph.hpp"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <deque>

#include "native/simgpu/driver/graph/graph_memory.hpp"

namespace aliquot::simgpu::driver {
namespace {

std::uint64_t next_node_id() noexcept {
  static std::atomic<std::uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

unsigned next_graph_id() noexcept {
  static std::atomic<unsigned> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

std::vector<Link>::iterator find_link(std::vector<Link>& links, const NodePtr& node) {
  return std::find_if(links.begin(), links.end(), [&](const Link& each) { return each.node == node; });
}

void make_node_visible(const NodePtr& node) {
  node->handle = Driver::instance().graph_nodes.insert(node);
}

} // namespace

std::mutex& graphs_mutex() noexcept {
  alignas(std::mutex) static std::byte storage[sizeof(std::mutex)];
  static auto* mutex = new (storage) std::mutex; // never destroyed: threads may be inside at exit
  return *mutex;
}

void add_links(std::vector<Link>& to, const std::vector<Link>& links) {
  for (const Link& link : links) {
    const bool there =
        std::any_of(to.begin(), to.end(), [&](const Link& each) { return each.node == link.node; });
    if (!there)
      to.push_back(link);
  }
}

CUgraphNodeType node_type(const Work& work) noexcept {
  struct Type {
    CUgraphNodeType operator()(const KernelWork&) const { return CU_GRAPH_NODE_TYPE_KERNEL; }
    CUgraphNodeType operator()(const CopyWork&) const { return CU_GRAPH_NODE_TYPE_MEMCPY; }
    CUgraphNodeType operator()(const SetWork&) const { return CU_GRAPH_NODE_TYPE_MEMSET; }
    CUgraphNodeType operator()(const HostWork&) const { return CU_GRAPH_NODE_TYPE_HOST; }
    CUgraphNodeType operator()(const ChildWork&) const { return CU_GRAPH_NODE_TYPE_GRAPH; }
    CUgraphNodeType operator()(const EmptyWork&) const { return CU_GRAPH_NODE_TYPE_EMPTY; }
    CUgraphNodeType operator()(const WaitWork&) const { return CU_GRAPH_NODE_TYPE_WAIT_EVENT; }
    CUgraphNodeType operator()(const RecordWork&) const { return CU_GRAPH_NODE_TYPE_EVENT_RECORD; }
    CUgraphNodeType operator()(const AllocateWork&) const { return CU_GRAPH_NODE_TYPE_MEM_ALLOC; }
    CUgraphNodeType operator()(const FreeWork&) const { return CU_GRAPH_NODE_TYPE_MEM_FREE; }
    CUgraphNodeType operator()(const MemoryOperationsWork&) const { return CU_GRAPH_NODE_TYPE_BATCH_MEM_OP; }
  };
  return std::visit(Type{}, work);
}

ContextPtr context_of(const Work& work) {
  if (const auto* kernel = std::get_if<KernelWork>(&work))
    return kernel->resolved.function->context;
  if (const auto* copy = std::get_if<CopyWork>(&work))
    return copy->context;
  if (const auto* set = std::get_if<SetWork>(&work))
    return set->context;
  if (const auto* operations = std::get_if<MemoryOperationsWork>(&work))
    return operations->context;
  return nullptr;
}

GraphNode::GraphNode(Graph* graph_, Work work_) : graph(graph_), work(std::move(work_)), id(next_node_id()) {}

Graph::Graph() : id(next_graph_id()) {}

// Nodes hold each other through their edges.
Graph::~Graph() {
  for (const NodePtr& node : nodes_) {
    node->dependencies.clear();
    node->dependents.clear();
    node->graph = nullptr;
  }
}

GraphPtr Graph::make_visible() {
  auto graph = std::make_shared<Graph>();
  graph->handle = Driver::instance().graphs.insert(graph);
  return graph;
}

NodePtr Graph::add(Work work, const std::vector<Link>& dependencies) {
  auto node = std::make_shared<GraphNode>(this, std::move(work));
  node->local_id = next_local_id_++;
  node->dependencies = dependencies;
  nodes_.push_back(node);
  for (const Link& each : dependencies)
    each.node->dependents.push_back({node, each.data});
  if (handle != nullptr)
    make_node_visible(node);
  if (auto* child = std::get_if<ChildWork>(&node->work))
    child->graph->parent = node.get();
  return node;
}

CUresult Graph::connect(const NodePtr& from, const NodePtr& to, const CUgraphEdgeData& data) {
  if (from == to || find_link(to->dependencies, from) != to->dependencies.end())
    return CUDA_ERROR_INVALID_VALUE;
  to->dependencies.push_back({from, data});
  from->dependents.push_back({to, data});
  return CUDA_SUCCESS;
}

CUresult Graph::disconnect(const NodePtr& from, const NodePtr& to, const CUgraphEdgeData& data) {
  const auto back = find_link(to->dependencies, from);
  if (back == to->dependencies.end() || std::memcmp(&back->data, &data, sizeof data) != 0)
    return CUDA_ERROR_INVALID_VALUE;
  to->dependencies.erase(back);
  from->dependents.erase(find_link(from->dependents, to));
  return CUDA_SUCCESS;
}

void Graph::remove(const NodePtr& node) {
  for (const Link& each : node->dependencies)
    each.node->dependents.erase(find_link(each.node->dependents, node));
  for (const Link& each : node->dependents)
    each.node->dependencies.erase(find_link(each.node->dependencies, node));
  node->dependencies.clear();
  node->dependents.clear();
  if (node->handle != nullptr)
    Driver::instance().graph_nodes.erase(node->handle);
  if (auto* child = std::get_if<ChildWork>(&node->work))
    child->graph->retire();
  node->graph = nullptr;
  std::erase(nodes_, node);
}

void Graph::retire() noexcept try {
  Driver& driver = Driver::instance();
  for (const NodePtr& node : nodes_) {
    if (node->handle != nullptr)
      driver.graph_nodes.erase(node->handle);
    if (auto* child = std::get_if<ChildWork>(&node->work))
      child->graph->retire();
  }
  if (handle != nullptr)
    driver.graphs.erase(handle);
  handle = nullptr;
} catch (...) { // no memory to note that a handle is free: it stays taken
}

GraphPtr Graph::clone(bool visible) const {
  const GraphPtr copy = visible ? make_visible() : std::make_shared<Graph>();
  copy->origin = std::uint64_t{id} + 1;
  copy->objects.add(objects);
  std::unordered_map<const GraphNode*, NodePtr> made;
  for (const NodePtr& node : nodes_) {
    Work work = node->work;
    if (auto* child = std::get_if<ChildWork>(&work))
      child->graph = child->graph->clone(visible);
    const NodePtr fresh = copy->add(std::move(work), {});
    fresh->origin = node->id;
    fresh->local_id = node->local_id;
    made.emplace(node.get(), fresh);
  }
  copy->next_local_id_ = next_local_id_;
  for (const NodePtr& node : nodes_) {
    for (const Link& each : node->dependencies)
      made[node.get()]->dependencies.push_back({made[each.node.get()], each.data});
    for (const Link& each : node->dependents)
      made[node.get()]->dependents.push_back({made[each.node.get()], each.data});
  }
  return copy;
}

NodePtr Graph::made_from(std::uint64_t node_id) const {
  for (const NodePtr& node : nodes_)
    if (node->origin == node_id)
      return node;
  return nullptr;
}

std::vector<NodePtr> Graph::topological_order(NodePtr* in_cycle) const {
  std::unordered_map<const GraphNode*, std::size_t> open;
  std::deque<NodePtr> ready;
  for (const NodePtr& node : nodes_) {
    open[node.get()] = node->dependencies.size();
    if (node->dependencies.empty())
      ready.push_back(node);
  }
  std::vector<NodePtr> order;
  for (; !ready.empty(); ready.pop_front()) {
    order.push_back(ready.front());
    open.erase(ready.front().get());
    for (const Link& each : ready.front()->dependents)
      if (--open[each.node.get()] == 0)
        ready.push_back(each.node);
  }
  if (order.size() == nodes_.size())
    return order;
  if (in_cycle != nullptr)
    for (const NodePtr& node : nodes_)
      if (open.count(node.get()) != 0)
        *in_cycle = node;
  return {};
}

bool Graph::has_memory_nodes() const noexcept {
  return std::any_of(nodes_.begin(), nodes_.end(), [](const NodePtr& node) {
    const auto* child = std::get_if<ChildWork>(&node->work);
    return is_memory_node(node->work) || (child != nullptr && child->graph->has_memory_nodes());
  });
}

} // namespace aliquot::simgpu::driver
