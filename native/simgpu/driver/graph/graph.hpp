// Graphs: nodes and edges, as the client builds them. What is made of one to be launched is in exec.hpp.
//
// One mutex guards all graphs, their nodes and all captures of the process (graphs_mutex): handles are looked
// up and objects are used while it is held. It is never held while commands are submitted or client code
// runs.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "native/simgpu/driver/graph/node.hpp"
#include "native/simgpu/driver/graph/user_object.hpp"

namespace aliquot::simgpu::driver {

class GraphExec;
class GraphNode;
using GraphPtr = std::shared_ptr<Graph>;
using NodePtr = std::shared_ptr<GraphNode>;

std::mutex& graphs_mutex() noexcept;

// One end of an edge, seen from the other.
struct Link {
  NodePtr node;
  CUgraphEdgeData data{};
};

// Adds those of `links` whose node is not in `to` yet.
void add_links(std::vector<Link>& to, const std::vector<Link>& links);

class GraphNode {
 public:
  GraphNode(Graph* graph_, Work work_);

  CUgraphNodeType type() const noexcept { return node_type(work); }

  Graph* graph; // null once the node or its graph is destroyed
  Work work;
  const std::uint64_t id;   // never used again
  std::uint64_t origin = 0; // the node of which this is a clone
  unsigned local_id = 0;    // within the graph
  void* handle = nullptr;   // null in graphs that no client sees
  std::vector<Link> dependencies, dependents;
  // Filled by cuGraphKernelNodeGetParams and its like: what they return points in here.
  std::vector<void*> parameter_pointers;
};

class Graph : public std::enable_shared_from_this<Graph> {
 public:
  Graph();
  ~Graph();
  // With a handle, that is: known to the client, as are its nodes.
  static GraphPtr make_visible();

  NodePtr add(Work work, const std::vector<Link>& dependencies);
  // INVALID_VALUE where the edge is there already, or would lead to its own start.
  CUresult connect(const NodePtr& from, const NodePtr& to, const CUgraphEdgeData& data);
  CUresult disconnect(const NodePtr& from, const NodePtr& to, const CUgraphEdgeData& data);
  void remove(const NodePtr& node);
  // Ends the handles of the graph and of what is in it.
  void retire() noexcept;

  // A copy; child graphs are copied too. With `visible`, it and its nodes get handles.
  GraphPtr clone(bool visible) const;
  // The node that was made from the one with this id; null where there is none.
  NodePtr made_from(std::uint64_t node_id) const;
  // Every node after what it depends on; empty, and one of its nodes, where there is a cycle.
  std::vector<NodePtr> topological_order(NodePtr* in_cycle = nullptr) const;
  bool has_memory_nodes() const noexcept;

  const std::vector<NodePtr>& nodes() const noexcept { return nodes_; }

  const unsigned id;
  void* handle = nullptr;
  std::uint64_t origin = 0;          // id of the graph of which this is a clone, plus one
  GraphNode* parent = nullptr;       // the child graph node that owns this graph
  bool capturing = false;            // a capture adds to it
  std::weak_ptr<GraphExec> instance; // the one that a graph with memory nodes may have
  ObjectReferences objects;

 private:
  std::vector<NodePtr> nodes_; // in the order in which they were made
  unsigned next_local_id_ = 0;
};

} // namespace aliquot::simgpu::driver
