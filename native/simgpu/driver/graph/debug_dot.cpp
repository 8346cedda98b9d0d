// cuGraphDebugDotPrint: a graph as text for graphviz.
#include <cstdio>
#include <string>

#include "native/simgpu/driver/graph/graph_entry.hpp"
#include "native/simgpu/driver/graph/graph_memory.hpp"

using namespace aliquot::simgpu::driver;

namespace {

std::string hex(std::uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

std::string dimensions(const unsigned (&size)[3]) {
  return "(" + std::to_string(size[0]) + "," + std::to_string(size[1]) + "," + std::to_string(size[2]) + ")";
}

const char* memory_name(CUmemorytype type) noexcept {
  switch (type) {
  case CU_MEMORYTYPE_HOST:
    return "host";
  case CU_MEMORYTYPE_DEVICE:
    return "device";
  case CU_MEMORYTYPE_ARRAY:
    return "array";
  default:
    return "unified";
  }
}

struct Describe {
  unsigned flags;

  bool shows(unsigned flag) const noexcept {
    return (flags & (flag | CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE)) != 0;
  }

  std::string operator()(const KernelWork& work) const {
    std::string text = "KERNEL\n" + work.resolved.function->info().name;
    if (shows(CU_GRAPH_DEBUG_DOT_FLAGS_KERNEL_NODE_PARAMS))
      text += "\ngrid " + dimensions(work.shape.grid) + "\nblock " + dimensions(work.shape.block) +
              "\nshared " + std::to_string(work.shape.dynamic_shared_bytes);
    if (shows(CU_GRAPH_DEBUG_DOT_FLAGS_KERNEL_NODE_ATTRIBUTES) && work.shape.cooperative)
      text += "\ncooperative";
    return text;
  }
  std::string operator()(const CopyWork& work) const {
    const CUDA_MEMCPY3D& copy = work.copy;
    std::string text =
        std::string("MEMCPY\n") + memory_name(copy.srcMemoryType) + " to " + memory_name(copy.dstMemoryType);
    if (shows(CU_GRAPH_DEBUG_DOT_FLAGS_MEMCPY_NODE_PARAMS))
      text += "\n" + std::to_string(copy.WidthInBytes) + " x " + std::to_string(copy.Height) + " x " +
              std::to_string(copy.Depth);
    return text;
  }
  std::string operator()(const SetWork& work) const {
    std::string text = "MEMSET";
    if (shows(CU_GRAPH_DEBUG_DOT_FLAGS_MEMSET_NODE_PARAMS))
      text += "\n" + hex(work.set.dst) + " = " + hex(work.set.value) + "\n" + std::to_string(work.set.width) +
              " x " + std::to_string(work.set.height) + " of " + std::to_string(work.set.elementSize);
    return text;
  }
  std::string operator()(const HostWork& work) const {
    const bool params = shows(CU_GRAPH_DEBUG_DOT_FLAGS_HOST_NODE_PARAMS);
    return "HOST" + (params ? "\n" + hex(reinterpret_cast<std::uint64_t>(work.function)) : "");
  }
  std::string operator()(const ChildWork& work) const {
    return "GRAPH\ngraph " + std::to_string(work.graph->id);
  }
  std::string operator()(const EmptyWork&) const { return "EMPTY"; }
  std::string operator()(const WaitWork& work) const { return "EVENT_WAIT" + event(work); }
  std::string operator()(const RecordWork& work) const { return "EVENT_RECORD" + event(work); }
  std::string operator()(const AllocateWork& work) const {
    const bool params = shows(CU_GRAPH_DEBUG_DOT_FLAGS_MEM_ALLOC_NODE_PARAMS);
    return "MEM_ALLOC" + (params ? "\n" + hex(work.allocation->address) + "\n" +
                                       std::to_string(work.allocation->bytes) + " bytes"
                                 : "");
  }
  std::string operator()(const FreeWork& work) const {
    const bool params = shows(CU_GRAPH_DEBUG_DOT_FLAGS_MEM_FREE_NODE_PARAMS);
    return "MEM_FREE" + (params ? "\n" + hex(work.allocation->address) : "");
  }
  std::string operator()(const MemoryOperationsWork& work) const {
    return "BATCH_MEM_OP\n" + std::to_string(work.operations.size()) + " operations";
  }

 private:
  std::string event(const EventWork& work) const {
    const bool params = shows(CU_GRAPH_DEBUG_DOT_FLAGS_EVENT_NODE_PARAMS);
    return params ? "\n" + hex(reinterpret_cast<std::uint64_t>(work.handle)) : "";
  }
};

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char each : text) {
    if (each == '"' || each == '\\')
      out += '\\';
    out += each == '\n' ? std::string("\\n") : std::string(1, each);
  }
  return out + "\"";
}

std::string name_of(const Graph& graph, const GraphNode& node) {
  return quoted("graph_" + std::to_string(graph.id) + "_node_" + std::to_string(node.local_id));
}

void describe(const Graph& graph, unsigned flags, std::string& text) {
  const std::string name = std::to_string(graph.id);
  text += "subgraph cluster_" + name + " {\nlabel=\"graph_" + name + "\"\n";
  for (const NodePtr& node : graph.nodes()) {
    std::string label = std::to_string(node->local_id) + "\n" + std::visit(Describe{flags}, node->work);
    if ((flags & (CU_GRAPH_DEBUG_DOT_FLAGS_HANDLES | CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE)) != 0)
      label += "\n" + hex(reinterpret_cast<std::uint64_t>(node->handle));
    text += name_of(graph, *node) + " [shape=box label=" + quoted(label) + "];\n";
    if (const auto* child = std::get_if<ChildWork>(&node->work))
      describe(*child->graph, flags, text);
  }
  for (const NodePtr& node : graph.nodes())
    for (const Link& each : node->dependencies)
      text += name_of(graph, *each.node) + " -> " + name_of(graph, *node) +
              (is_default(each.data) ? ";\n" : " [style=dashed];\n");
  text += "}\n";
}

CUresult write_file(const char* path, const std::string& text) {
  std::FILE* file = std::fopen(path, "we");
  if (file == nullptr)
    return CUDA_ERROR_OPERATING_SYSTEM;
  const bool written = std::fwrite(text.data(), 1, text.size(), file) == text.size();
  return std::fclose(file) == 0 && written ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM;
}

} // namespace

extern "C" {

ALIQUOT_EXPORT CUresult cuGraphDebugDotPrint(CUgraph handle, const char* path, unsigned int flags) {
  std::string text = "digraph dot {\n";
  const CUresult described = with_graph(handle, [&](const GraphPtr& graph) {
    if (path == nullptr)
      return CUDA_ERROR_INVALID_VALUE;
    describe(*graph, flags, text);
    return CUDA_SUCCESS;
  });
  return described == CUDA_SUCCESS ? write_file(path, text + "}\n") : described;
}

} // extern "C"
