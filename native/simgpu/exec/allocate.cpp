// Rows to frame offsets: live ranges over the laid-out code, then a linear scan.
//
// A live range is one interval of positions. Each lane owns its column of a row and writes only its own
// lanes, so what is live for a thread is what counts, whatever other threads of the warp do meanwhile.
#include <algorithm>
#include <map>

#include "native/simgpu/exec/lower.hpp"

namespace aliquot::simgpu::exec {
namespace {

struct Interval {
  std::uint32_t begin = ~0u, end = 0;
  void cover(std::uint32_t at) {
    begin = std::min(begin, at);
    end = std::max(end, at);
  }
};

// Calls `visit(row, is_result)` for every row of an operation.
template <class F>
void each_row(const Lowered& code, const IrOp& op, F visit) {
  for (unsigned i = op.results; i < op.operands; ++i)
    visit(op.rows[i], false);
  if (op.call >= 0) {
    for (RowId row : code.calls[op.call].arguments)
      visit(row, false);
    for (RowId row : code.calls[op.call].results)
      visit(row, true);
  }
  for (unsigned i = 0; i < op.results; ++i)
    visit(op.rows[i], true);
}

class Liveness {
 public:
  explicit Liveness(Lowered& code) : code_(code), ranges_(code.rows.size()) {}

  std::vector<Interval> run() {
    find_blocks();
    find_shared_rows();
    if (!shared_.empty())
      solve();
    for (std::uint32_t b = 0; b < bounds_.size(); ++b)
      cover_block(b);
    return std::move(ranges_);
  }

 private:
  struct Bounds {
    std::uint32_t begin, end;
  };

  void find_blocks() {
    for (std::size_t i = 0; i < code_.order.size(); ++i) {
      std::uint32_t begin = code_.block_start[code_.order[i]];
      std::uint32_t end = i + 1 < code_.order.size() ? code_.block_start[code_.order[i + 1]]
                                                     : static_cast<std::uint32_t>(code_.ops.size());
      bounds_.push_back({i == 0 ? 0 : begin, end});
      place_[code_.order[i]] = static_cast<std::uint32_t>(i);
    }
  }

  bool tracked(RowId row) const {
    const RowInfo& info = code_.rows[row];
    return info.kind == RowInfo::Kind::Virtual && !info.whole;
  }

  // Rows that occur in more than one block; the rest live inside theirs. A parameter's words are written
  // piece by piece, which no kill describes: across blocks they get the whole function.
  void find_shared_rows() {
    std::vector<std::uint32_t> home(code_.rows.size(), ~0u);
    index_.assign(code_.rows.size(), ~0u);
    for (std::uint32_t b = 0; b < bounds_.size(); ++b)
      for (std::uint32_t at = bounds_[b].begin; at < bounds_[b].end; ++at)
        each_row(code_, code_.ops[at], [&](RowId row, bool) {
          if (!tracked(row))
            return;
          if (home[row] == ~0u)
            home[row] = b;
          if (home[row] == b || index_[row] != ~0u)
            return;
          if (code_.rows[row].type == Class::Words) {
            code_.rows[row].whole = true;
            return;
          }
          index_[row] = static_cast<std::uint32_t>(shared_.size());
          shared_.push_back(row);
        });
    words_ = (shared_.size() + 63) / 64;
    if (words_ * bounds_.size() > kMostWords) {
      for (RowId row : shared_)
        code_.rows[row].whole = true;
      shared_.clear();
      words_ = 0;
    }
  }

  void solve() {
    std::size_t blocks = bounds_.size();
    use_.assign(blocks * words_, 0);
    define_.assign(blocks * words_, 0);
    in_.assign(blocks * words_, 0);
    out_.assign(blocks * words_, 0);
    for (std::uint32_t b = 0; b < blocks; ++b)
      summarise(b);
    std::vector<std::vector<std::uint32_t>> successors(blocks);
    for (std::uint32_t b = 0; b < blocks; ++b)
      successors[b] = successors_of(b);
    for (bool changed = true; changed;) {
      changed = false;
      for (std::uint32_t b = static_cast<std::uint32_t>(blocks); b-- > 0;)
        changed |= update(b, successors[b]);
    }
  }

  void summarise(std::uint32_t b) {
    std::uint64_t* use = &use_[b * words_];
    std::uint64_t* define = &define_[b * words_];
    for (std::uint32_t at = bounds_[b].begin; at < bounds_[b].end; ++at) {
      const IrOp& op = code_.ops[at];
      each_row(code_, op, [&](RowId row, bool result) {
        std::uint32_t i = index_[row];
        if (i == ~0u)
          return;
        std::uint64_t bit = std::uint64_t{1} << (i & 63);
        if (result && !op.partial)
          define[i / 64] |= bit;
        else if (!(define[i / 64] & bit))
          use[i / 64] |= bit;
      });
    }
  }

  std::vector<std::uint32_t> successors_of(std::uint32_t b) const {
    std::vector<std::uint32_t> to;
    bool falls = true;
    for (std::uint32_t at = bounds_[b].begin; at < bounds_[b].end; ++at) {
      const IrOp& op = code_.ops[at];
      if (op.target >= 0)
        to.push_back(place_.at(static_cast<std::uint32_t>(op.target)));
      if (op.table >= 0)
        for (std::uint32_t target : code_.tables[op.table])
          to.push_back(place_.at(target));
    }
    if (bounds_[b].begin < bounds_[b].end) {
      std::string_view last = code_.ops[bounds_[b].end - 1].entry->name;
      falls = !(last == "bra" || last == "bra.back" || last == "brx" || last == "ret" || last == "exit" ||
                last == "trap");
    }
    if (falls && b + 1 < bounds_.size())
      to.push_back(b + 1);
    return to;
  }

  bool update(std::uint32_t b, const std::vector<std::uint32_t>& successors) {
    bool changed = false;
    for (std::size_t w = 0; w < words_; ++w) {
      std::uint64_t out = 0;
      for (std::uint32_t to : successors)
        out |= in_[to * words_ + w];
      std::uint64_t in = use_[b * words_ + w] | (out & ~define_[b * words_ + w]);
      changed |= in != in_[b * words_ + w];
      out_[b * words_ + w] = out;
      in_[b * words_ + w] = in;
    }
    return changed;
  }

  void cover_block(std::uint32_t b) {
    for (std::uint32_t at = bounds_[b].begin; at < bounds_[b].end; ++at)
      each_row(code_, code_.ops[at], [&](RowId row, bool) { ranges_[row].cover(at); });
    if (bounds_[b].begin == bounds_[b].end)
      return;
    for (std::size_t w = 0; w < words_; ++w) {
      cover_bits(in_[b * words_ + w], w, bounds_[b].begin);
      cover_bits(out_[b * words_ + w], w, bounds_[b].end - 1);
    }
  }

  void cover_bits(std::uint64_t bits, std::size_t word, std::uint32_t at) {
    for (; bits; bits &= bits - 1)
      ranges_[shared_[word * 64 + static_cast<std::size_t>(__builtin_ctzll(bits))]].cover(at);
  }

  static constexpr std::size_t kMostWords = std::size_t{16} << 20;
  Lowered& code_;
  std::vector<Interval> ranges_;
  std::vector<Bounds> bounds_;
  std::map<std::uint32_t, std::uint32_t> place_;
  std::vector<std::uint32_t> index_;
  std::vector<RowId> shared_;
  std::size_t words_ = 0;
  std::vector<std::uint64_t> use_, define_, in_, out_;
};

// Hands out frame offsets; freed places are reused by rows of the same size.
class Scan {
 public:
  Scan(Lowered& code, std::vector<Interval> ranges) : code_(code), ranges_(std::move(ranges)) {}

  void run() {
    std::vector<RowId> ordered;
    for (RowId row = 0; row < code_.rows.size(); ++row) {
      RowInfo& info = code_.rows[row];
      if (info.kind != RowInfo::Kind::Virtual || info.whole) {
        info.offset = fresh(row_bytes(info.type, info.words));
        count(info, 1);
      } else if (ranges_[row].begin != ~0u) {
        ordered.push_back(row);
      }
    }
    std::stable_sort(ordered.begin(), ordered.end(),
                     [&](RowId a, RowId b) { return ranges_[a].begin < ranges_[b].begin; });
    for (RowId row : ordered)
      place(row);
    code_.frame_bytes = (used_ + 63) & ~63u;
    code_.registers = std::max(most_ + 2, 4u);
  }

 private:
  void place(RowId row) {
    // A result may take the place of a source that ends at the same operation only if no handler writes one
    // result before it has read all sources; some write several results, so ranges must not touch.
    while (!live_.empty() && live_.begin()->first < ranges_[row].begin) {
      RowInfo& ended = code_.rows[live_.begin()->second];
      free_[row_bytes(ended.type, ended.words)].push_back(ended.offset);
      count(ended, -1);
      live_.erase(live_.begin());
    }
    RowInfo& info = code_.rows[row];
    std::uint32_t bytes = row_bytes(info.type, info.words);
    std::vector<std::uint32_t>& places = free_[bytes];
    if (places.empty()) {
      info.offset = fresh(bytes);
    } else {
      info.offset = places.back();
      places.pop_back();
    }
    count(info, 1);
    live_.emplace(ranges_[row].end, row);
  }

  void count(const RowInfo& info, int sign) {
    if (info.kind != RowInfo::Kind::Virtual)
      return; // constants and what the launch decides lie in constant banks on a card
    std::uint32_t registers =
        info.type == Class::Pred ? 0 : std::max(1u, row_bytes(info.type, info.words) / 128);
    now_ = sign > 0 ? now_ + registers : now_ - registers;
    most_ = std::max(most_, now_);
  }

  std::uint32_t fresh(std::uint32_t bytes) {
    if (bytes < 64) { // predicates share a line
      if (small_left_ == 0) {
        small_ = fresh(64);
        small_left_ = 16;
      }
      --small_left_;
      small_ += 4;
      return small_ - 4;
    }
    if (used_ > kMostFrame - bytes)
      throw LowerError{"function needs too many registers", true};
    std::uint32_t at = used_;
    used_ += bytes;
    return at;
  }

  static constexpr std::uint32_t kMostFrame = 64u << 20;
  Lowered& code_;
  std::vector<Interval> ranges_;
  std::multimap<std::uint32_t, RowId> live_; // by end
  std::map<std::uint32_t, std::vector<std::uint32_t>> free_;
  std::uint32_t used_ = 0, small_ = 0, small_left_ = 0, now_ = 0, most_ = 0;
};

} // namespace

void allocate(Lowered& lowered) {
  std::vector<Interval> ranges = Liveness(lowered).run();
  Scan(lowered, std::move(ranges)).run();
}

} // namespace aliquot::simgpu::exec
