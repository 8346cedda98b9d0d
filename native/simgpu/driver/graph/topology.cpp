// Graphs as such: made, copied, destroyed; what is in them and how it hangs together.
#include <algorithm>
#include <climits>

#include "native/simgpu/driver/graph/exec.hpp"
#include "native/simgpu/driver/graph/graph_entry.hpp"

namespace aliquot::simgpu::driver {

bool edge_is_valid(const GraphNode& from, const CUgraphEdgeData& data) noexcept {
  constexpr unsigned char none[sizeof data.reserved] = {};
  if (std::memcmp(data.reserved, none, sizeof none) != 0 || data.to_port != 0)
    return false;
  if (data.type > CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC ||
      data.from_port > CU_GRAPH_KERNEL_NODE_PORT_LAUNCH_ORDER)
    return false;
  // Ports other than the end of the node, and programmatic order, are kernels' alone.
  const bool plain = data.from_port == 0 && data.type == CU_GRAPH_DEPENDENCY_TYPE_DEFAULT;
  return plain || from.type() == CU_GRAPH_NODE_TYPE_KERNEL;
}

CUresult read_dependencies(const Graph& graph, const CUgraphNode* handles, const CUgraphEdgeData* edges,
                           std::size_t count, std::vector<Link>& links) {
  if (count > graph.nodes().size() || (count != 0 && handles == nullptr))
    return CUDA_ERROR_INVALID_VALUE;
  Driver& driver = Driver::instance();
  for (std::size_t i = 0; i < count; ++i) {
    NodePtr node = driver.graph_nodes.find(handles[i]);
    const CUgraphEdgeData data = edges != nullptr ? edges[i] : CUgraphEdgeData{};
    if (!node || node->graph != &graph || !edge_is_valid(*node, data))
      return CUDA_ERROR_INVALID_VALUE;
    const auto same = [&](const Link& each) { return each.node == node; };
    if (std::any_of(links.begin(), links.end(), same))
      return CUDA_ERROR_INVALID_VALUE;
    links.push_back({std::move(node), data});
  }
  return CUDA_SUCCESS;
}

} // namespace aliquot::simgpu::driver

using namespace aliquot::simgpu::driver;

namespace {

struct Edge {
  CUgraphNode from = nullptr, to = nullptr;
  CUgraphEdgeData data{};
};

CUgraphNode handle_of(const NodePtr& node) noexcept {
  return static_cast<CUgraphNode>(node->handle);
}

// Fills arrays of `*count` entries, or counts alone where there are no arrays. put(i, entry) writes one;
// put(i, empty entry) ends what is left over.
template <class Entry, class Put>
CUresult hand_out(const std::vector<Entry>& entries, bool wanted, std::size_t* count, Put put) {
  if (count == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  if (wanted) {
    // A room for more entries than any graph has is a wild number, and not to be cleared to its end.
    constexpr std::size_t most = std::size_t{1} << 24;
    if (*count > most)
      return CUDA_ERROR_INVALID_VALUE;
    for (std::size_t i = 0; i < *count; ++i)
      put(i, i < entries.size() ? entries[i] : Entry{});
    *count = std::min(*count, entries.size());
  } else {
    *count = entries.size();
  }
  return CUDA_SUCCESS;
}

template <class Filter>
CUresult nodes_of(CUgraph handle, CUgraphNode* out, std::size_t* count, Filter filter) {
  return with_graph(handle, [&](const GraphPtr& graph) {
    std::vector<CUgraphNode> found;
    for (const NodePtr& node : graph->nodes())
      if (filter(*node))
        found.push_back(handle_of(node));
    return hand_out(found, out != nullptr, count, [=](std::size_t i, CUgraphNode each) { out[i] = each; });
  });
}

bool lossy(const std::vector<Edge>& edges, const CUgraphEdgeData* data) noexcept {
  return data == nullptr &&
         std::any_of(edges.begin(), edges.end(), [](const Edge& each) { return !is_default(each.data); });
}

CUresult edges_of(CUgraph handle, CUgraphNode* from, CUgraphNode* to, CUgraphEdgeData* data,
                  std::size_t* count) {
  return with_graph(handle, [&](const GraphPtr& graph) {
    if ((from == nullptr) != (to == nullptr) || (data != nullptr && from == nullptr))
      return CUDA_ERROR_INVALID_VALUE;
    std::vector<Edge> edges;
    for (const NodePtr& node : graph->nodes())
      for (const Link& each : node->dependencies)
        edges.push_back({handle_of(each.node), handle_of(node), each.data});
    if (from != nullptr && lossy(edges, data))
      return CUDA_ERROR_LOSSY_QUERY;
    return hand_out(edges, from != nullptr, count, [=](std::size_t i, const Edge& each) {
      from[i] = each.from;
      to[i] = each.to;
      if (data != nullptr)
        data[i] = each.data;
    });
  });
}

CUresult neighbours_of(CUgraphNode handle, std::vector<Link> GraphNode::* which, CUgraphNode* out,
                       CUgraphEdgeData* data, std::size_t* count) {
  return with_node(handle, [&](const NodePtr& node) {
    if (data != nullptr && out == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    std::vector<Edge> edges;
    for (const Link& each : (*node).*which)
      edges.push_back({handle_of(each.node), nullptr, each.data});
    if (out != nullptr && lossy(edges, data))
      return CUDA_ERROR_LOSSY_QUERY;
    return hand_out(edges, out != nullptr, count, [=](std::size_t i, const Edge& each) {
      out[i] = each.from;
      if (data != nullptr)
        data[i] = each.data;
    });
  });
}

CUresult find_edge_ends(const Graph& graph, CUgraphNode from, CUgraphNode to, NodePtr& source,
                        NodePtr& target) {
  Driver& driver = Driver::instance();
  source = driver.graph_nodes.find(from);
  target = driver.graph_nodes.find(to);
  const bool here = source && target && source->graph == &graph && target->graph == &graph;
  return here ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

// All or none: what was changed before an edge that cannot be is changed back.
template <class Change, class Undo>
CUresult change_edges(const Graph& graph, const CUgraphNode* from, const CUgraphNode* to,
                      const CUgraphEdgeData* edges, std::size_t count, Change change, Undo undo) {
  struct Changed {
    NodePtr from, to;
    CUgraphEdgeData data;
  };
  const std::size_t nodes = graph.nodes().size();
  if (count != 0 && (from == nullptr || to == nullptr || nodes == 0 || count / nodes > nodes))
    return CUDA_ERROR_INVALID_VALUE;
  std::vector<Changed> done;
  CUresult result = CUDA_SUCCESS;
  for (std::size_t i = 0; i < count && result == CUDA_SUCCESS; ++i) {
    Changed each{nullptr, nullptr, edges != nullptr ? edges[i] : CUgraphEdgeData{}};
    result = find_edge_ends(graph, from[i], to[i], each.from, each.to);
    if (result == CUDA_SUCCESS)
      result = change(each.from, each.to, each.data);
    if (result == CUDA_SUCCESS)
      done.push_back(std::move(each));
  }
  if (result != CUDA_SUCCESS)
    for (const Changed& each : done)
      undo(each.from, each.to, each.data);
  return result;
}

CUresult add_edges(CUgraph handle, const CUgraphNode* from, const CUgraphNode* to,
                   const CUgraphEdgeData* edges, std::size_t count) {
  return with_graph(handle, [&](const GraphPtr& graph) {
    const auto connect = [&](const NodePtr& a, const NodePtr& b, const CUgraphEdgeData& data) {
      return edge_is_valid(*a, data) ? graph->connect(a, b, data) : CUDA_ERROR_INVALID_VALUE;
    };
    const auto disconnect = [&](const NodePtr& a, const NodePtr& b, const CUgraphEdgeData& data) {
      graph->disconnect(a, b, data);
    };
    return change_edges(*graph, from, to, edges, count, connect, disconnect);
  });
}

CUresult remove_edges(CUgraph handle, const CUgraphNode* from, const CUgraphNode* to,
                      const CUgraphEdgeData* edges, std::size_t count) {
  return with_graph(handle, [&](const GraphPtr& graph) {
    if (count != 0 && graph->has_memory_nodes())
      return CUDA_ERROR_INVALID_VALUE;
    const auto disconnect = [&](const NodePtr& a, const NodePtr& b, const CUgraphEdgeData& data) {
      return graph->disconnect(a, b, data);
    };
    const auto connect = [&](const NodePtr& a, const NodePtr& b, const CUgraphEdgeData& data) {
      graph->connect(a, b, data);
    };
    return change_edges(*graph, from, to, edges, count, disconnect, connect);
  });
}

template <class Value>
CUresult put(Value* out, Value value) noexcept {
  if (out == nullptr)
    return CUDA_ERROR_INVALID_VALUE;
  *out = value;
  return CUDA_SUCCESS;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuGraphCreate(CUgraph* out, unsigned int flags) {
  return with_driver([&](Driver&) {
    if (out == nullptr || flags != 0)
      return CUDA_ERROR_INVALID_VALUE;
    *out = static_cast<CUgraph>(Graph::make_visible()->handle);
    return CUDA_SUCCESS;
  });
}

// A graph in a child graph node is the node's, and one that is captured into is the capture's.
ALIQUOT_EXPORT CUresult cuGraphDestroy(CUgraph handle) {
  GraphPtr last; // let go of after the lock: what it holds may be much
  return with_graph(handle, [&](const GraphPtr& graph) {
    if (graph->parent != nullptr || graph->capturing)
      return CUDA_ERROR_INVALID_VALUE;
    last = graph;
    graph->retire();
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuGraphClone(CUgraph* out, CUgraph handle) {
  return with_graph(handle, [&](const GraphPtr& graph) {
    if (out == nullptr || graph->has_memory_nodes())
      return CUDA_ERROR_INVALID_VALUE;
    *out = static_cast<CUgraph>(graph->clone(true)->handle);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuGraphNodeFindInClone(CUgraphNode* out, CUgraphNode original, CUgraph clone) {
  return with_graph(clone, [&](const GraphPtr& graph) {
    const NodePtr node = Driver::instance().graph_nodes.find(original);
    if (out == nullptr || !node || node->graph == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    const NodePtr found = graph->made_from(node->id);
    if (!found)
      return CUDA_ERROR_INVALID_VALUE;
    *out = handle_of(found);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuGraphDestroyNode(CUgraphNode handle) {
  NodePtr last;
  return with_node(handle, [&](const NodePtr& node) {
    if (node->graph->has_memory_nodes() || node->graph->capturing)
      return CUDA_ERROR_INVALID_VALUE;
    last = node;
    node->graph->remove(node);
    return CUDA_SUCCESS;
  });
}

ALIQUOT_EXPORT CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode* nodes, size_t* count) {
  return nodes_of(graph, nodes, count, [](const GraphNode&) { return true; });
}
ALIQUOT_EXPORT CUresult cuGraphGetRootNodes(CUgraph graph, CUgraphNode* nodes, size_t* count) {
  return nodes_of(graph, nodes, count, [](const GraphNode& node) { return node.dependencies.empty(); });
}

ALIQUOT_EXPORT CUresult cuGraphGetEdges(CUgraph graph, CUgraphNode* from, CUgraphNode* to, size_t* count) {
  return edges_of(graph, from, to, nullptr, count);
}
ALIQUOT_EXPORT CUresult cuGraphGetEdges_v2(CUgraph graph, CUgraphNode* from, CUgraphNode* to,
                                           CUgraphEdgeData* data, size_t* count) {
  return edges_of(graph, from, to, data, count);
}

ALIQUOT_EXPORT CUresult cuGraphNodeGetDependencies(CUgraphNode node, CUgraphNode* nodes, size_t* count) {
  return neighbours_of(node, &GraphNode::dependencies, nodes, nullptr, count);
}
ALIQUOT_EXPORT CUresult cuGraphNodeGetDependencies_v2(CUgraphNode node, CUgraphNode* nodes,
                                                      CUgraphEdgeData* data, size_t* count) {
  return neighbours_of(node, &GraphNode::dependencies, nodes, data, count);
}
ALIQUOT_EXPORT CUresult cuGraphNodeGetDependentNodes(CUgraphNode node, CUgraphNode* nodes, size_t* count) {
  return neighbours_of(node, &GraphNode::dependents, nodes, nullptr, count);
}
ALIQUOT_EXPORT CUresult cuGraphNodeGetDependentNodes_v2(CUgraphNode node, CUgraphNode* nodes,
                                                        CUgraphEdgeData* data, size_t* count) {
  return neighbours_of(node, &GraphNode::dependents, nodes, data, count);
}

ALIQUOT_EXPORT CUresult cuGraphAddDependencies(CUgraph graph, const CUgraphNode* from, const CUgraphNode* to,
                                               size_t count) {
  return add_edges(graph, from, to, nullptr, count);
}
ALIQUOT_EXPORT CUresult cuGraphAddDependencies_v2(CUgraph graph, const CUgraphNode* from,
                                                  const CUgraphNode* to, const CUgraphEdgeData* data,
                                                  size_t count) {
  return add_edges(graph, from, to, data, count);
}
ALIQUOT_EXPORT CUresult cuGraphRemoveDependencies(CUgraph graph, const CUgraphNode* from,
                                                  const CUgraphNode* to, size_t count) {
  return remove_edges(graph, from, to, nullptr, count);
}
ALIQUOT_EXPORT CUresult cuGraphRemoveDependencies_v2(CUgraph graph, const CUgraphNode* from,
                                                     const CUgraphNode* to, const CUgraphEdgeData* data,
                                                     size_t count) {
  return remove_edges(graph, from, to, data, count);
}

ALIQUOT_EXPORT CUresult cuGraphNodeGetType(CUgraphNode handle, CUgraphNodeType* type) {
  return with_node(handle, [&](const NodePtr& node) { return put(type, node->type()); });
}
ALIQUOT_EXPORT CUresult cuGraphNodeGetContainingGraph(CUgraphNode handle, CUgraph* graph) {
  return with_node(
      handle, [&](const NodePtr& node) { return put(graph, static_cast<CUgraph>(node->graph->handle)); });
}
ALIQUOT_EXPORT CUresult cuGraphNodeGetLocalId(CUgraphNode handle, unsigned int* id) {
  return with_node(handle, [&](const NodePtr& node) { return put(id, node->local_id); });
}
ALIQUOT_EXPORT CUresult cuGraphNodeGetToolsId(CUgraphNode handle, unsigned long long* id) {
  return with_node(handle,
                   [&](const NodePtr& node) { return put(id, static_cast<unsigned long long>(node->id)); });
}
ALIQUOT_EXPORT CUresult cuGraphGetId(CUgraph handle, unsigned int* id) {
  return with_graph(handle, [&](const GraphPtr& graph) { return put(id, graph->id); });
}

ALIQUOT_EXPORT CUresult cuGraphRetainUserObject(CUgraph handle, CUuserObject object_handle,
                                                unsigned int count, unsigned int flags) {
  return with_graph(handle, [&](const GraphPtr& graph) {
    const auto object = Driver::instance().user_objects.find(object_handle);
    if (!object || count == 0 || count > INT_MAX || (flags & ~unsigned{CU_GRAPH_USER_OBJECT_MOVE}) != 0)
      return CUDA_ERROR_INVALID_VALUE;
    const bool held = graph->objects.retain(object, count, flags != 0);
    return held ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

ALIQUOT_EXPORT CUresult cuGraphReleaseUserObject(CUgraph handle, CUuserObject object_handle,
                                                 unsigned int count) {
  return with_graph(handle, [&](const GraphPtr& graph) {
    const auto object = Driver::instance().user_objects.find(object_handle);
    if (!object || count == 0 || count > INT_MAX)
      return CUDA_ERROR_INVALID_VALUE;
    return graph->objects.release(object, count) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

} // extern "C"
