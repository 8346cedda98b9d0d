// Names and bindings; see names.hpp.
#include "native/simgpu/ptx/names.hpp"

#include <cstring>

namespace aliquot::simgpu::ptx {
namespace {

// A multiply-and-fold over eight bytes a step. The seed differs between processes through the address of a
// static, so a hostile module cannot aim at one chain.
std::uint32_t hash_of(std::string_view text) {
  static const char kAnchor = 0;
  std::uint64_t h = 0x9E3779B97F4A7C15u ^ reinterpret_cast<std::uintptr_t>(&kAnchor) ^ text.size();
  const char* at = text.data();
  std::size_t left = text.size();
  for (; left >= 8; at += 8, left -= 8) {
    std::uint64_t chunk;
    std::memcpy(&chunk, at, 8);
    h = (h ^ chunk) * 0xFF51AFD7ED558CCDu;
    h ^= h >> 32;
  }
  std::uint64_t tail = 0;
  std::memcpy(&tail, at, left);
  h = (h ^ tail) * 0xC4CEB9FE1A85EC53u;
  h ^= h >> 29;
  return static_cast<std::uint32_t>(h * 0x9E3779B97F4A7C15u >> 32);
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

} // namespace

Names::Names() : slots_(1024), scopes_(1) {}

std::int64_t Names::find(std::string_view text) const {
  const std::uint32_t hash = hash_of(text);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t slot = hash & mask; slots_[slot] != 0; slot = (slot + 1) & mask) {
    const Entry& entry = entries_[slots_[slot] - 1];
    if (entry.hash == hash && entry.text == text)
      return slots_[slot] - 1;
  }
  return -1;
}

std::uint32_t Names::intern(std::string_view text) {
  const std::uint32_t hash = hash_of(text);
  const std::size_t mask = slots_.size() - 1;
  std::size_t slot = hash & mask;
  for (; slots_[slot] != 0; slot = (slot + 1) & mask) {
    const Entry& entry = entries_[slots_[slot] - 1];
    if (entry.hash == hash && entry.text == text)
      return slots_[slot] - 1;
  }
  entries_.push_back({text, hash, -1, {}});
  slots_[slot] = static_cast<std::uint32_t>(entries_.size());
  if (entries_.size() * 2 > slots_.size())
    grow();
  return static_cast<std::uint32_t>(entries_.size() - 1);
}

void Names::grow() {
  slots_.assign(slots_.size() * 2, 0);
  const std::size_t mask = slots_.size() - 1;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    std::size_t slot = entries_[i].hash & mask;
    while (slots_[slot] != 0)
      slot = (slot + 1) & mask;
    slots_[slot] = static_cast<std::uint32_t>(i + 1);
  }
}

void Names::open_scope() {
  scopes_.emplace_back();
}

void Names::close_scope() {
  const Scope& scope = scopes_.back();
  for (auto undo = scope.undo.rbegin(); undo != scope.undo.rend(); ++undo)
    entries_[undo->name].binding = undo->old;
  for (auto prefix = scope.prefixes.rbegin(); prefix != scope.prefixes.rend(); ++prefix)
    entries_[*prefix].range = ranges_[static_cast<std::size_t>(entries_[*prefix].range)].outer;
  ranges_.resize(ranges_.size() - scope.prefixes.size());
  epoch_ += scope.prefixes.empty() ? 0 : 1;
  scopes_.pop_back();
}

void Names::set(std::uint32_t name, const Binding& binding) {
  scopes_[binding.depth].undo.push_back({name, entries_[name].binding});
  entries_[name].binding = binding;
}

bool Names::bind(std::uint32_t name, Binding::Kind kind, std::uint32_t index, std::uint8_t width) {
  const Binding& old = entries_[name].binding;
  if (old.kind != Binding::Kind::None && old.depth == depth())
    return false;
  set(name, {kind, width, false, depth(), index, epoch_});
  return true;
}

bool Names::bind_range(std::uint32_t prefix, Type type, std::uint8_t width, std::uint64_t count) {
  Entry& entry = entries_[prefix];
  if (entry.range >= 0 && ranges_[static_cast<std::size_t>(entry.range)].depth == depth())
    return false;
  ranges_.push_back({type, width, depth(), count, entry.range});
  entry.range = static_cast<std::int32_t>(ranges_.size() - 1);
  scopes_.back().prefixes.push_back(prefix);
  ++epoch_;
  return true;
}

const Binding* Names::module_binding(std::uint32_t name) const {
  const Binding* found = &entries_[name].binding;
  // A parameter may bear the function's own name: what it hides is in the undo records of its scope.
  for (std::size_t depth = scopes_.size(); found->depth > 0 && depth-- > 1;)
    for (const Undo& undo : scopes_[depth].undo)
      if (undo.name == name && undo.old.depth < found->depth)
        found = &undo.old;
  return found->kind == Binding::Kind::None ? nullptr : found;
}

void Names::bind_in_module(std::uint32_t name, std::uint32_t symbol) {
  const Binding binding{Binding::Kind::Symbol, 1, false, 0, symbol, epoch_};
  for (std::size_t depth = 1; depth < scopes_.size(); ++depth) {
    for (Undo& undo : scopes_[depth].undo) {
      if (undo.name == name) {
        undo.old = binding;
        return;
      }
    }
  }
  set(name, binding);
}

void Names::bind_member(std::uint32_t name, const Range& range, std::uint32_t index) {
  set(name, {Binding::Kind::Register, range.width, true, range.depth, index, epoch_});
}

// "%r12" may be member 12 of "%r" or member 2 of "%r1": every split counts, the nearest scope wins.
const Range* Names::find_range(std::string_view text) const {
  constexpr std::size_t kMostDigits = 10;
  const Range* best = nullptr;
  std::uint64_t number = 0, scale = 1;
  for (std::size_t digits = 1; digits <= kMostDigits && digits < text.size(); ++digits, scale *= 10) {
    const char c = text[text.size() - digits];
    if (!is_digit(c))
      break;
    number += scale * static_cast<std::uint64_t>(c - '0');
    if (c == '0' && digits > 1)
      continue; // a member's number has no leading zero
    const std::int64_t prefix = find(text.substr(0, text.size() - digits));
    if (prefix < 0)
      continue;
    for (std::int32_t i = entries_[static_cast<std::size_t>(prefix)].range; i >= 0;
         i = ranges_[static_cast<std::size_t>(i)].outer) {
      const Range& range = ranges_[static_cast<std::size_t>(i)];
      if (number < range.count) {
        best = best && best->depth >= range.depth ? best : &range;
        break;
      }
    }
  }
  return best;
}

const Binding& Names::resolve(std::uint32_t name, const Range*& member) {
  Binding& binding = entries_[name].binding;
  member = nullptr;
  if (binding.kind != Binding::Kind::None && binding.epoch == epoch_)
    return binding;
  if (is_digit(entries_[name].text.back())) {
    const Range* range = find_range(entries_[name].text);
    if (range && (binding.kind == Binding::Kind::None || range->depth > binding.depth))
      member = range;
  }
  if (!member)
    binding.epoch = epoch_;
  return binding;
}

} // namespace aliquot::simgpu::ptx
