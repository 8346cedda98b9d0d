// Names and what they are bound to, with nested scopes.
//
// Each spelling is interned once; a binding lives in its entry and is undone when its scope closes, so a
// look-up costs one hash whatever the nesting. A register range (".reg .b32 %r<100000>;") costs nothing until
// a member is used: `resolve` reports the member that a spelling names and the parser then makes the
// register.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "native/simgpu/ptx/ast.hpp"

namespace aliquot::simgpu::ptx {

struct Binding {
  enum class Kind : std::uint8_t { None, Register, Variable, Parameter, Return, Symbol, Label };
  Kind kind = Kind::None;
  std::uint8_t width = 1; // registers of a vector register follow one another
  bool from_range = false;
  std::uint32_t depth = 0; // scope that holds it; 0 is the module
  std::uint32_t index = 0;
  std::uint32_t epoch = 0; // see Names::epoch_
};

// "%r<10>": names "%r0" to "%r9".
struct Range {
  Type type = Type::None;
  std::uint8_t width = 1;
  std::uint32_t depth = 0;
  std::uint64_t count = 0;
  std::int32_t outer = -1; // the range of the same prefix that this one hides
};

class Names {
 public:
  Names();

  std::uint32_t intern(std::string_view text);
  std::string_view text(std::uint32_t name) const { return entries_[name].text; }

  std::uint32_t depth() const { return static_cast<std::uint32_t>(scopes_.size() - 1); }
  void open_scope();
  void close_scope();

  // False where the innermost scope already has this name.
  bool bind(std::uint32_t name, Binding::Kind kind, std::uint32_t index, std::uint8_t width = 1);
  bool bind_range(std::uint32_t prefix, Type type, std::uint8_t width, std::uint64_t count);
  // Binds a member of a range in the scope of that range.
  void bind_member(std::uint32_t name, const Range& range, std::uint32_t index);

  // Functions are entered at module scope while their parameters' scope is already open.
  const Binding* module_binding(std::uint32_t name) const;
  void bind_in_module(std::uint32_t name, std::uint32_t symbol);

  // What the name means here, ranges aside.
  const Binding& binding(std::uint32_t name) const { return entries_[name].binding; }
  // As binding(), unless the name is a member of a nearer range that has no register yet: then `member` tells
  // the range, and is null otherwise.
  const Binding& resolve(std::uint32_t name, const Range*& member);

 private:
  struct Entry {
    std::string_view text;
    std::uint32_t hash = 0;
    std::int32_t range = -1; // innermost range with this prefix
    Binding binding;
  };
  struct Undo {
    std::uint32_t name;
    Binding old;
  };
  struct Scope {
    std::vector<Undo> undo;
    std::vector<std::uint32_t> prefixes;
  };

  void set(std::uint32_t name, const Binding& binding);
  std::int64_t find(std::string_view text) const;
  const Range* find_range(std::string_view text) const;
  void grow();

  std::vector<Entry> entries_;
  std::vector<std::uint32_t> slots_; // entry + 1; a power of two of them
  std::vector<Range> ranges_;
  std::vector<Scope> scopes_;
  // Changes whenever the set of visible ranges does; a member's binding is trusted while its epoch is
  // current.
  std::uint32_t epoch_ = 1;
};

} // namespace aliquot::simgpu::ptx
