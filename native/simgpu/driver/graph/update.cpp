#include "native/simgpu/driver/graph/update.hpp"

#include <cstring>
#include <unordered_map>

namespace aliquot::simgpu::driver {
namespace {

// The card whose memory it is; -1: the host's.
int card_of(std::uint64_t address) noexcept {
  const AddressSpace& space = Driver::instance().space;
  return space.in_window(address) ? static_cast<int>(space.card_of(address)) : -1;
}

CUgraphExecUpdateResult check_kernel(const KernelWork& old, const KernelWork& fresh, std::uint64_t flags) {
  if (old.resolved.function->context != fresh.resolved.function->context)
    return CU_GRAPH_EXEC_UPDATE_ERROR_UNSUPPORTED_FUNCTION_CHANGE;
  if (old.shape.cooperative != fresh.shape.cooperative)
    return CU_GRAPH_EXEC_UPDATE_ERROR_ATTRIBUTES_CHANGED;
  const auto priority = [](const KernelWork& work) {
    const auto at = work.attributes.find(CU_LAUNCH_ATTRIBUTE_PRIORITY);
    return at == work.attributes.end() ? 0 : at->second.priority;
  };
  const bool counts = (flags & CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY) != 0;
  return counts && priority(old) != priority(fresh) ? CU_GRAPH_EXEC_UPDATE_ERROR_ATTRIBUTES_CHANGED
                                                    : CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

CUgraphExecUpdateResult check_copy(const CopyWork& old, const CopyWork& fresh) noexcept {
  const CUDA_MEMCPY3D &a = old.copy, &b = fresh.copy;
  const bool same_types = a.srcMemoryType == b.srcMemoryType && a.dstMemoryType == b.dstMemoryType;
  const bool same_cards =
      card_of(a.srcDevice) == card_of(b.srcDevice) && card_of(a.dstDevice) == card_of(b.dstDevice);
  return old.context == fresh.context && same_types && same_cards
             ? CU_GRAPH_EXEC_UPDATE_SUCCESS
             : CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
}

CUgraphExecUpdateResult check_set(const SetWork& old, const SetWork& fresh) noexcept {
  const auto &a = old.set, &b = fresh.set;
  bool fits = old.context == fresh.context && card_of(a.dst) == card_of(b.dst) && a.height == b.height;
  if (a.height > 1) // in two dimensions, where and what alone
    fits = fits && a.width == b.width && a.pitch == b.pitch && a.elementSize == b.elementSize;
  return fits ? CU_GRAPH_EXEC_UPDATE_SUCCESS : CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
}

bool same_allocation(const Work& old, const Work& fresh) noexcept {
  if (const auto* allocate = std::get_if<AllocateWork>(&old))
    return allocate->allocation == std::get<AllocateWork>(fresh).allocation;
  return std::get<FreeWork>(old).allocation == std::get<FreeWork>(fresh).allocation;
}

// Pairs the nodes of two graphs, from those that end them backwards along the edges, in the order of each.
class Pairing {
 public:
  explicit Pairing(GraphExec& exec) : exec_(exec) {}

  UpdateResult run(const Graph& image, const Graph& graph) {
    if (image.nodes().size() != graph.nodes().size())
      return {CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, nullptr, nullptr};
    const auto old_ends = ends_of(image), new_ends = ends_of(graph);
    if (old_ends.size() != new_ends.size())
      return {CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED,
              new_ends.size() > old_ends.size() ? new_ends[old_ends.size()] : nullptr, nullptr};
    std::vector<Pair> open;
    for (std::size_t i = 0; i < old_ends.size(); ++i)
      pair(old_ends[i], new_ends[i], open);
    while (!open.empty()) {
      const Pair next = std::move(open.back());
      open.pop_back();
      const UpdateResult visited = visit(next, open);
      if (visited.result != CU_GRAPH_EXEC_UPDATE_SUCCESS)
        return visited;
    }
    return {};
  }

  void apply() {
    for (const Pair& each : changes_)
      exec_.set_work(each.image, each.node->work);
  }

 private:
  struct Pair {
    NodePtr image, node;
  };

  static std::vector<NodePtr> ends_of(const Graph& graph) {
    std::vector<NodePtr> ends;
    for (const NodePtr& node : graph.nodes())
      if (node->dependents.empty())
        ends.push_back(node);
    return ends;
  }

  void pair(const NodePtr& image, const NodePtr& node, std::vector<Pair>& open) {
    node_of_[image.get()] = node.get();
    image_of_[node.get()] = image.get();
    open.push_back({image, node});
  }

  UpdateResult visit(const Pair& next, std::vector<Pair>& open) {
    const auto &image = next.image, &node = next.node;
    if (image->type() != node->type())
      return {CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED, node, nullptr};
    if (image->dependencies.size() != node->dependencies.size())
      return {CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, node, nullptr};
    for (std::size_t i = 0; i < node->dependencies.size(); ++i) {
      const Link &old = image->dependencies[i], &fresh = node->dependencies[i];
      const auto paired = node_of_.find(old.node.get());
      const auto back = image_of_.find(fresh.node.get());
      const bool known = paired != node_of_.end() || back != image_of_.end();
      const bool fits = !known || (paired != node_of_.end() && paired->second == fresh.node.get());
      if (!fits || std::memcmp(&old.data, &fresh.data, sizeof old.data) != 0)
        return {CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED, node, fresh.node};
      if (!known)
        pair(old.node, fresh.node, open);
    }
    return compare(next);
  }

  UpdateResult compare(const Pair& next) {
    if (const auto* child = std::get_if<ChildWork>(&next.image->work)) {
      Pairing inside(exec_);
      const UpdateResult result = inside.run(*child->graph, *std::get<ChildWork>(next.node->work).graph);
      changes_.insert(changes_.end(), inside.changes_.begin(), inside.changes_.end());
      return result;
    }
    const CUgraphExecUpdateResult result = check_update(next.image->work, next.node->work, exec_.flags);
    if (result != CU_GRAPH_EXEC_UPDATE_SUCCESS)
      return {result, next.node, nullptr};
    changes_.push_back(next);
    return {};
  }

  GraphExec& exec_;
  std::unordered_map<const GraphNode*, const GraphNode*> node_of_, image_of_;
  std::vector<Pair> changes_;
};

} // namespace

CUgraphExecUpdateResult check_update(const Work& old, const Work& fresh, std::uint64_t exec_flags) {
  if (old.index() != fresh.index())
    return CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
  if (const auto* kernel = std::get_if<KernelWork>(&old))
    return check_kernel(*kernel, std::get<KernelWork>(fresh), exec_flags);
  if (const auto* copy = std::get_if<CopyWork>(&old))
    return check_copy(*copy, std::get<CopyWork>(fresh));
  if (const auto* set = std::get_if<SetWork>(&old))
    return check_set(*set, std::get<SetWork>(fresh));
  if (is_memory_node(old))
    return same_allocation(old, fresh) ? CU_GRAPH_EXEC_UPDATE_SUCCESS
                                       : CU_GRAPH_EXEC_UPDATE_ERROR_NOT_SUPPORTED;
  if (const auto* operations = std::get_if<MemoryOperationsWork>(&old))
    return operations->context == std::get<MemoryOperationsWork>(fresh).context
               ? CU_GRAPH_EXEC_UPDATE_SUCCESS
               : CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
  return CU_GRAPH_EXEC_UPDATE_SUCCESS;
}

UpdateResult update(GraphExec& exec, const Graph& graph) {
  return update_child(exec, *exec.image(), graph);
}

UpdateResult update_child(GraphExec& exec, const Graph& image, const Graph& graph) {
  Pairing pairing(exec);
  UpdateResult result = pairing.run(image, graph);
  if (result.result == CU_GRAPH_EXEC_UPDATE_SUCCESS)
    pairing.apply();
  return result;
}

} // namespace aliquot::simgpu::driver
