// Control flow of one function: basic blocks, and the order in which they are laid out.
//
// The order decides where diverged lanes meet again, since the group with the smallest pc runs first: it is
// topological with every loop contiguous, so a block that lanes of a branch all reach comes after all that
// they do before it, and a loop's exit after the loop.
#include <algorithm>
#include <set>

#include "native/simgpu/exec/lower.hpp"

namespace aliquot::simgpu::exec {
namespace {

// Instructions that cannot run in a guarded stretch, because they end it or wait for other lanes: a guard on
// them becomes a branch around them.
bool stands_alone(const std::string& opcode) {
  static const std::set<std::string_view> names = {
      "ret",        "exit", "trap",  "brkpt",    "call",     "bar",       "barrier",
      "shfl",       "vote", "match", "redux",    "elect",    "nanosleep", "brx",
      "activemask", "mma",  "wmma",  "ldmatrix", "stmatrix", "movmatrix", "mbarrier"};
  return names.count(opcode) != 0;
}

bool leaves(const std::string& opcode) {
  return opcode == "ret" || opcode == "exit" || opcode == "trap";
}

class Splitter {
 public:
  explicit Splitter(const ptx::Function& function) : function_(function) {}

  std::vector<Block> run() {
    mark_leaders();
    std::uint32_t size = static_cast<std::uint32_t>(function_.instructions.size());
    for (std::uint32_t at = 0; at < size; ++at) {
      if (leader_[at])
        start_[at] = open(at);
      add(at);
    }
    start_[size] = open(size); // falling off the end returns
    blocks_.back().end = Block::End::Leave;
    link();
    return std::move(blocks_);
  }

 private:
  void mark_leaders() {
    std::size_t size = function_.instructions.size();
    leader_.assign(size + 1, false);
    start_.assign(size + 1, 0);
    leader_[0] = true;
    for (const ptx::Label& label : function_.labels)
      if (label.kind == ptx::Label::Kind::Code)
        leader_[std::min<std::size_t>(label.target, size)] = true;
    for (std::size_t i = 0; i < size; ++i) {
      const std::string& opcode = function_.instructions[i].opcode;
      if (opcode == "bra" || opcode == "brx" || leaves(opcode))
        leader_[i + 1] = true;
    }
  }

  std::uint32_t open(std::uint32_t at) {
    Block block;
    block.first = block.last = at;
    blocks_.push_back(std::move(block));
    return static_cast<std::uint32_t>(blocks_.size() - 1);
  }

  void add(std::uint32_t at) {
    const ptx::Instruction& instruction = function_.instructions[at];
    bool alone = instruction.guard.present && stands_alone(instruction.opcode);
    if (alone) {
      Block& before = blocks_.back();
      before.end = Block::End::Cond;
      before.guard = instruction.guard;
      before.guard.negated = !before.guard.negated;
      before.end_line = instruction.position.line;
      skips_.push_back(static_cast<std::uint32_t>(blocks_.size() - 1));
      open(at);
      blocks_.back().guard_done = true;
    }
    Block& block = blocks_.back();
    block.last = at + 1;
    block.end_line = instruction.position.line;
    if (instruction.opcode == "bra")
      end_in_branch(block, instruction);
    else if (instruction.opcode == "brx")
      end_in_table(block, instruction);
    else if (leaves(instruction.opcode))
      block.end = Block::End::Leave;
    if (alone && !leader_[at + 1])
      open(at + 1);
  }

  void end_in_branch(Block& block, const ptx::Instruction& instruction) {
    if (instruction.operands.size() != 1 || instruction.operands[0].kind != ptx::OperandKind::Label)
      reject(instruction.position.line, "bra wants a label");
    block.last -= 1;
    block.end = instruction.guard.present ? Block::End::Cond : Block::End::Jump;
    block.guard = instruction.guard;
    block.target = function_.labels[instruction.operands[0].index].target;
  }

  void end_in_table(Block& block, const ptx::Instruction& instruction) {
    if (instruction.operands.size() != 2 || instruction.operands[1].kind != ptx::OperandKind::Label)
      reject(instruction.position.line, "brx.idx wants an index and a list of labels");
    block.end = Block::End::Table;
    for (std::uint32_t label : function_.labels[instruction.operands[1].index].targets)
      block.targets.push_back(function_.labels[label].target);
  }

  // Instruction numbers of targets to block numbers, and where blocks fall to.
  void link() {
    for (std::uint32_t i = 0; i < blocks_.size(); ++i) {
      Block& block = blocks_[i];
      block.next = i + 1;
      bool skip = std::find(skips_.begin(), skips_.end(), i) != skips_.end();
      if (skip)
        block.target = i + 2;
      else if (block.end == Block::End::Jump || block.end == Block::End::Cond)
        block.target = start_[block.target];
      for (std::uint32_t& target : block.targets)
        target = start_[target];
    }
  }

  const ptx::Function& function_;
  std::vector<bool> leader_;
  std::vector<std::uint32_t> start_, skips_;
  std::vector<Block> blocks_;
};

template <class F>
void each_successor(const Block& block, F visit) {
  switch (block.end) {
  case Block::End::Fall:
    visit(block.next);
    break;
  case Block::End::Jump:
    visit(block.target);
    break;
  case Block::End::Cond: // the taken side first: then the other one ends up right behind the block
    visit(block.target);
    visit(block.next);
    break;
  case Block::End::Table:
    for (std::uint32_t target : block.targets)
      visit(target);
    break;
  case Block::End::Leave:
    break;
  }
}

// Loops are strongly connected components; inside one, edges to its header are cut and it is ordered again.
class Layout {
 public:
  explicit Layout(const std::vector<Block>& blocks)
      : blocks_(blocks), level_(blocks.size(), 0), number_(blocks.size(), 0), low_(blocks.size(), 0),
        on_stack_(blocks.size(), false), header_(blocks.size(), false) {}

  std::vector<std::uint32_t> run() {
    std::vector<std::uint32_t> order;
    lay_out(0, 0, order);
    return order;
  }

 private:
  struct Frame {
    std::uint32_t block;
    std::vector<std::uint32_t> successors;
    std::size_t next = 0;
  };

  bool inside(std::uint32_t block, std::uint32_t level) const {
    return level_[block] == level && !header_[block];
  }

  Frame enter(std::uint32_t block, std::uint32_t level) {
    number_[block] = low_[block] = ++counter_;
    stack_.push_back(block);
    on_stack_[block] = true;
    Frame frame{block, {}, 0};
    each_successor(blocks_[block], [&](std::uint32_t to) {
      if (inside(to, level))
        frame.successors.push_back(to);
    });
    return frame;
  }

  // Tarjan's algorithm without recursion, from `entry` over blocks of `level`; components come out last
  // first.
  std::vector<std::vector<std::uint32_t>> components(std::uint32_t entry, std::uint32_t level) {
    std::vector<std::vector<std::uint32_t>> found;
    std::vector<Frame> path;
    path.push_back(enter(entry, level));
    while (!path.empty()) {
      Frame& top = path.back();
      if (top.next < top.successors.size()) {
        std::uint32_t to = top.successors[top.next++];
        if (number_[to] == 0)
          path.push_back(enter(to, level));
        else if (on_stack_[to])
          low_[top.block] = std::min(low_[top.block], number_[to]);
        continue;
      }
      std::uint32_t block = top.block;
      path.pop_back();
      if (!path.empty())
        low_[path.back().block] = std::min(low_[path.back().block], low_[block]);
      if (low_[block] == number_[block])
        found.push_back(pop_component(block));
    }
    return found;
  }

  std::vector<std::uint32_t> pop_component(std::uint32_t root) {
    std::vector<std::uint32_t> component;
    for (;;) {
      std::uint32_t block = stack_.back();
      stack_.pop_back();
      on_stack_[block] = false;
      component.push_back(block);
      if (block == root)
        return component;
    }
  }

  // The root of a component is the block through which it was first entered: its header.
  void lay_out(std::uint32_t entry, std::uint32_t level, std::vector<std::uint32_t>& order) {
    std::vector<std::vector<std::uint32_t>> found = components(entry, level);
    for (std::size_t i = found.size(); i-- > 0;) {
      std::vector<std::uint32_t>& component = found[i];
      if (component.size() == 1) {
        order.push_back(component[0]);
        continue;
      }
      std::uint32_t header = component.back();
      std::uint32_t inner = ++levels_;
      for (std::uint32_t block : component) {
        level_[block] = inner;
        number_[block] = 0;
      }
      header_[header] = true;
      if (levels_ < kMostLoops)
        lay_out(header, inner, order);
      else
        order.insert(order.end(), component.rbegin(), component.rend());
    }
  }

  static constexpr std::uint32_t kMostLoops = 100000;
  const std::vector<Block>& blocks_;
  std::vector<std::uint32_t> level_, number_, low_;
  std::vector<bool> on_stack_, header_;
  std::vector<std::uint32_t> stack_;
  std::uint32_t counter_ = 0, levels_ = 0;
};

} // namespace

ControlFlow control_flow(const ptx::Function& function) {
  ControlFlow flow;
  flow.blocks = Splitter(function).run();
  flow.order = Layout(flow.blocks).run();
  return flow;
}

} // namespace aliquot::simgpu::exec
