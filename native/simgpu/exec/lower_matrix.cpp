// mma, wmma, ldmatrix, stmatrix, movmatrix: shapes and types to the forms that the handlers read.
#include <charconv>
#include <cstring>

#include "native/simgpu/exec/lower.hpp"
#include "native/simgpu/exec/matrix.hpp"

namespace aliquot::simgpu::exec {

using ptx::Instruction;
using ptx::Operand;
using ptx::OperandKind;
using ptx::Space;

namespace {

// "m16n8k16" into its numbers.
bool parse_shape(std::string_view word, MatrixForm& form) {
  const char *at = word.data(), *end = at + word.size();
  unsigned numbers[3] = {};
  constexpr char letters[] = {'m', 'n', 'k'};
  for (int i = 0; i < 3; ++i) {
    if (at == end || *at != letters[i])
      return false;
    auto [next, error] = std::from_chars(at + 1, end, numbers[i]);
    if (error != std::errc() || numbers[i] == 0 || numbers[i] > 256)
      return false;
    at = next;
  }
  form.m = static_cast<std::uint8_t>(numbers[0]);
  form.n = static_cast<std::uint8_t>(numbers[1]);
  form.k = static_cast<std::uint16_t>(numbers[2]);
  return at == end;
}

bool take_shape(Modifiers& modifiers, const Instruction& in, MatrixForm& form) {
  for (const std::string& word : in.modifiers)
    if (parse_shape(word, form))
      return modifiers.take(word);
  return false;
}

constexpr std::string_view kTypeNames[] = {"f16", "bf16", "tf32", "f32", "f64",  "s32", "s8",
                                           "u8",  "s4",   "u4",   "b1",  "e4m3", "e5m2"};

// The element types in the order of the text.
std::vector<MatrixType> take_types(Modifiers& modifiers, const Instruction& in) {
  std::vector<MatrixType> types;
  for (const std::string& word : in.modifiers)
    for (std::size_t i = 0; i < std::size(kTypeNames); ++i)
      if (word == kTypeNames[i] && modifiers.take(word))
        types.push_back(static_cast<MatrixType>(i));
  return types;
}

void set_types(MatrixForm& form, MatrixType d, MatrixType a, MatrixType b, MatrixType c) {
  form.d_type = static_cast<std::uint8_t>(d) & 15;
  form.a_type = static_cast<std::uint8_t>(a) & 15;
  form.b_type = static_cast<std::uint8_t>(b) & 15;
  form.c_type = static_cast<std::uint8_t>(c) & 15;
}

std::uint64_t packed(const MatrixForm& form) {
  std::uint64_t bits;
  std::memcpy(&bits, &form, sizeof bits);
  return bits;
}

bool is_integer(MatrixType type) {
  return type >= MatrixType::S8 && type <= MatrixType::B1;
}
bool is_float8(MatrixType type) {
  return type == MatrixType::E4M3 || type == MatrixType::E5M2;
}

// Whether the types of a product go together: (d, a, b, c).
bool types_fit(MatrixType d, MatrixType a, MatrixType b, MatrixType c) {
  auto either = [](MatrixType type) { return type == MatrixType::F16 || type == MatrixType::F32; };
  if (is_integer(a))
    return is_integer(b) && bits_of_matrix_type(a) == bits_of_matrix_type(b) && d == MatrixType::S32 &&
           c == d;
  if (is_float8(a))
    return is_float8(b) && either(d) && c == d;
  if (a != b)
    return false;
  if (a == MatrixType::F16)
    return either(d) && either(c);
  if (a == MatrixType::F64)
    return d == a && c == a;
  return (a == MatrixType::BF16 || a == MatrixType::TF32) && d == MatrixType::F32 && c == d;
}

// The depths of m16n8 and m8n8 products by element type (PTX ISA 9.7.15.5, table of shapes).
bool shape_fits(const MatrixForm& form) {
  std::uint32_t bits = form.a_bits(), k = form.k;
  MatrixType a = static_cast<MatrixType>(form.a_type);
  if (form.n != 8)
    return false;
  if (form.m == 8)
    return a == MatrixType::F64 ? k == 4 : is_integer(a) ? k == 128 / bits : a == MatrixType::F16 && k == 4;
  if (form.m != 16)
    return false;
  if (a == MatrixType::F64)
    return k == 4 || k == 8 || k == 16;
  if (a == MatrixType::TF32)
    return k == 4 || k == 8;
  return k == 128 / bits || k == 256 / bits;
}

bool wmma_shape_fits(const MatrixForm& form, MatrixType a) {
  unsigned m = form.m, n = form.n, k = form.k;
  if (a == MatrixType::F64)
    return m == 8 && n == 8 && k == 4;
  if (a == MatrixType::TF32)
    return m == 16 && n == 16 && k == 8;
  if (a == MatrixType::S4 || a == MatrixType::U4)
    return m == 8 && n == 8 && k == 32;
  if (a == MatrixType::B1)
    return m == 8 && n == 8 && k == 128;
  return k == 16 && ((m == 16 && n == 16) || (m == 32 && n == 8) || (m == 8 && n == 32));
}

std::uint32_t mma_words(std::uint32_t elements, std::uint32_t type) {
  return std::max(1u, elements * bits_of_matrix_type(static_cast<MatrixType>(type)) / 1024);
}

} // namespace

// The registers of an operand, gathered in consecutive words.
RowId Lowering::gather_words(const Instruction& in, const Operand& operand, std::uint32_t words, bool wide) {
  std::vector<Operand> items =
      operand.kind == OperandKind::Vector ? operand.items : std::vector<Operand>{operand};
  if (items.size() * (wide ? 2 : 1) != words)
    reject(in.position.line, "a fragment of the wrong number of registers");
  RowId row = new_row(Class::Words, words);
  std::uint64_t at = 0;
  for (const Operand& item : items) {
    emit(wide ? "param.st.x" : "param.st.w", {row}, {source(item, wide ? Class::B64 : Class::B32)}, at);
    at += wide ? 8 : 4;
  }
  return row;
}

void Lowering::scatter_words(const Instruction& in, const Operand& operand, RowId row, bool wide) {
  std::vector<Operand> items =
      operand.kind == OperandKind::Vector ? operand.items : std::vector<Operand>{operand};
  if (items.size() * (wide ? 2 : 1) != out_.rows[row].words)
    reject(in.position.line, "a fragment of the wrong number of registers");
  std::uint64_t at = 0;
  for (const Operand& item : items) {
    emit(wide ? "param.ld.x" : "param.ld.w", {target(item, wide ? Class::B64 : Class::B32)}, {row}, at);
    at += wide ? 8 : 4;
  }
}

void Lowering::mma(const Instruction& in, Modifiers& modifiers) {
  MatrixForm form{};
  modifiers.take("sync");
  modifiers.take("aligned");
  bool warp_form = modifiers.take("mma");
  if (!take_shape(modifiers, in, form))
    refuse(in, "this form is not implemented");
  // layouts: of a, then of b
  std::vector<bool> columns;
  for (const std::string& word : in.modifiers)
    if ((word == "row" || word == "col") && modifiers.take(word))
      columns.push_back(word == "col");
  if (columns.size() != 2)
    refuse(in, "this form is not implemented");
  form.a_column = columns[0];
  form.b_column = columns[1];
  form.saturate = modifiers.take("satfinite");
  form.exclusive = modifiers.take("xor");
  modifiers.take("and");
  bool single_bits = modifiers.take("popc");
  modifiers.take("rn");
  std::vector<MatrixType> types = take_types(modifiers, in);
  if (warp_form && types.size() == 2) // d and c; a and b are f16
    types = {types[0], MatrixType::F16, MatrixType::F16, types[1]};
  require(in, 4);
  if (types.size() != 4 || !types_fit(types[0], types[1], types[2], types[3]))
    refuse(in, "these types are not implemented");
  set_types(form, types[0], types[1], types[2], types[3]);
  if (single_bits != (types[1] == MatrixType::B1))
    refuse(in, "this form is not implemented");
  if (warp_form ? !wmma_shape_fits(form, types[1]) : !shape_fits(form))
    refuse(in, "this shape is not implemented");
  bool quads = !warp_form && form.m == 8 && types[1] == MatrixType::F16;
  if (!warp_form && !quads && (form.a_column || !form.b_column))
    refuse(in, "this layout is not implemented");
  bool wide = types[1] == MatrixType::F64;
  auto words = [&](std::uint32_t which) -> std::uint32_t {
    if (warp_form)
      return wmma_registers(form, which);
    std::uint32_t type = which == 0   ? form.a_type
                         : which == 1 ? form.b_type
                         : which == 2 ? form.c_type
                                      : form.d_type;
    if (quads)
      return which < 2 ? 2 : type == static_cast<std::uint32_t>(MatrixType::F16) ? 4 : 8;
    return mma_words(which == 0 ? form.m * form.k : which == 1 ? form.k * form.n : form.m * form.n, type);
  };
  RowId a = gather_words(in, in.operands[1], words(0), wide),
        b = gather_words(in, in.operands[2], words(1), wide),
        c = gather_words(in, in.operands[3], words(2), wide);
  RowId d = new_row(Class::Words, words(3));
  emit(warp_form ? "wmma.mma" : quads ? "mma.quads" : "mma", {d}, {a, b, c}, packed(form));
  scatter_words(in, in.operands[0], d, wide);
}

void Lowering::wmma(const Instruction& in, Modifiers& modifiers) {
  bool load = modifiers.take("load"), store = !load && modifiers.take("store");
  if (!load && !store) {
    mma(in, modifiers);
    return;
  }
  MatrixForm form{};
  modifiers.take("sync");
  modifiers.take("aligned");
  std::string_view part = modifiers.take_one_of({"a", "b", "c", "d"});
  std::string_view layout = modifiers.take_one_of({"row", "col"});
  Space space = take_space(modifiers);
  if (part.empty() || layout.empty() || !take_shape(modifiers, in, form))
    refuse(in, "this form is not implemented");
  std::vector<MatrixType> types = take_types(modifiers, in);
  require(in, 2);
  if (types.size() != 1 || (space != Space::None && space != Space::Global && space != Space::Shared))
    refuse(in, "this form is not implemented");
  set_types(form, types[0], types[0], types[0], types[0]);
  bool fits = false;
  for (MatrixType type : {MatrixType::F16, MatrixType::F64, MatrixType::TF32, MatrixType::S4, MatrixType::B1})
    fits |= wmma_shape_fits(form, type);
  if (!fits || (part[0] < 'c' && !wmma_shape_fits(form, types[0])))
    refuse(in, "this shape is not implemented");
  form.a_column = layout == "col";
  form.part = (part == "a" ? 0 : part == "b" ? 1 : 2) & 3;
  bool wide = types[0] == MatrixType::F64;
  std::size_t at = load ? 1 : 0; // the operand with the address
  std::uint32_t height = part == "b" ? form.k : form.m, width = part == "a" ? form.k : form.n;
  RowId base = generic_address(in, in.operands[at], space);
  RowId stride = in.operands.size() > 2 ? source(in.operands[2], Class::B32)
                                        : constant(Class::B32, layout == "row" ? width : height);
  if (load) {
    RowId d = new_row(Class::Words, wmma_registers(form, form.part));
    emit("wmma.load", {d}, {base, stride}, packed(form));
    scatter_words(in, in.operands[0], d, wide);
    return;
  }
  emit("wmma.store", {}, {base, stride, gather_words(in, in.operands[1], wmma_registers(form, 3), wide)},
       packed(form));
}

void Lowering::matrix_rows(const Instruction& in, Modifiers& modifiers) {
  bool load = in.opcode == "ldmatrix", move = in.opcode == "movmatrix";
  modifiers.take("sync");
  modifiers.take("aligned");
  bool square = modifiers.take("m8n8"), transposed = modifiers.take("trans");
  require(in, 2);
  if (move) {
    if (!square || !transposed || !modifiers.take("b16"))
      refuse(in, "this form is not implemented");
    emit("movmatrix", {target(in.operands[0], Class::B32)}, {source(in.operands[1], Class::B32)});
    return;
  }
  std::string_view count = modifiers.take_one_of({"x1", "x2", "x4"});
  Space space = take_space(modifiers);
  if (!square || count.empty() || !modifiers.take("b16") || (space != Space::Shared && space != Space::None))
    refuse(in, "this form is not implemented");
  const Operand& registers = in.operands[load ? 0 : 1];
  std::vector<Operand> items =
      registers.kind == OperandKind::Vector ? registers.items : std::vector<Operand>{registers};
  if (items.size() != static_cast<std::size_t>(count[1] - '0'))
    reject(in.position.line, "a wrong number of registers");
  RowId at = generic_address(in, in.operands[load ? 1 : 0], space);
  std::string name = in.opcode + "." + std::string(1, count[1]);
  std::vector<RowId> results, sources;
  if (load) {
    for (const Operand& item : items)
      results.push_back(target(item, Class::B32));
    sources = {at};
  } else {
    sources = {at};
    for (const Operand& item : items)
      sources.push_back(source(item, Class::B32));
  }
  emit_list(name, results, sources, transposed);
}

} // namespace aliquot::simgpu::exec
