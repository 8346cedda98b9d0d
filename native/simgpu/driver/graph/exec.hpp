// Executable graphs: a graph as it was instantiated, with what is needed to launch it.
//
// An executable graph keeps a copy of its graph (`image`), which names the nodes for updates, and a plan made
// from it, which is launched. A launch under way holds its plan: an update makes another.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "native/simgpu/driver/graph/graph.hpp"
#include "native/simgpu/driver/graph/plan.hpp"

namespace aliquot::simgpu::driver {

class GraphExec : public std::enable_shared_from_this<GraphExec> {
 public:
  // Under graphs_mutex. Null, and `bad_node`, where the graph has a cycle.
  static std::shared_ptr<GraphExec> make(const GraphPtr& graph, std::uint64_t flags, NodePtr& bad_node);
  ~GraphExec();

  // Behind what the stream holds, and behind the launches before. INVALID_VALUE while memory that an earlier
  // launch allocated has not been freed.
  CUresult launch(const StreamPtr& stream);
  // Behind what the stream holds and the launches before; there is nothing to bring to a simulated card.
  CUresult upload(const StreamPtr& stream);

  // The rest under graphs_mutex.
  // The image of a node of the graph that this was made from; null where there is none.
  NodePtr image_of(const GraphNode& node) const;
  // Replaces what a node does, from the next launch on. `image` is this exec's.
  void set_work(const NodePtr& image, Work work);
  void set_enabled(const NodePtr& image, bool enabled);
  bool enabled(const NodePtr& image) const;

  const GraphPtr& image() const noexcept { return image_; }
  const std::uint64_t flags;
  const unsigned id;
  void* handle = nullptr;

  GraphExec(GraphPtr image, std::uint64_t flags_, std::shared_ptr<Plan> plan);

 private:
  void index_nodes(const Graph& graph);
  Plan& writable_plan();
  CUresult begin_memory(const Plan& plan, LaunchState& state, const Context& context);
  StreamPtr chain_stream(const Plan& plan, std::size_t chain, const StreamPtr& launch_stream);
  struct Launch {
    std::shared_ptr<const Plan> plan;
    std::shared_ptr<const LaunchState> state;
    std::vector<StreamPtr> streams; // by chain
  };
  Dependency submit_begin(const Launch& launch, const StreamPtr& stream);
  static Dependency submit_segment(const Launch& launch, std::size_t index,
                                   std::vector<Dependency> waits_for);
  void submit(const Launch& launch, const StreamPtr& stream);

  const GraphPtr image_;
  std::unordered_map<std::uint64_t, NodePtr> by_origin_;
  std::mutex launch_mutex_; // taken after graphs_mutex, never before; guards the rest
  std::shared_ptr<Plan> plan_;
  std::vector<StreamPtr> chain_streams_;
  Dependency last_launch_;
};

} // namespace aliquot::simgpu::driver
