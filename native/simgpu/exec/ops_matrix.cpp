// Matrix operations of a warp (PTX ISA 9.7.15): mma, wmma, ldmatrix, stmatrix, movmatrix. Compiled once.
//
// Sums are formed in doubles and rounded once to the result's type; a card rounds somewhere in between, and
// PTX does not say where. The fragments of mma and of ldmatrix lie as the manual draws them; those of wmma
// are unspecified there, and lie in the order of the matrix here.
#include "native/simgpu/exec/lanes.hpp"
#include "native/simgpu/exec/matrix.hpp"

namespace aliquot::simgpu::exec::ALIQUOT_ISA {
namespace {

constexpr u32 kMost = 16 * 256; // elements of the largest operand

struct Place {
  u32 row, column;
};

// A fragment's registers: words of 32 lanes, or pairs of them for f64.
struct Fragment {
  char* rows;
  u32 at;
  ALIQUOT_INLINE u32& word(u32 lane, u32 reg) const {
    return reinterpret_cast<u32*>(rows + at + reg * 128)[lane];
  }
};

ALIQUOT_INLINE u64 bits_at(const Fragment& f, u32 lane, u32 element, u32 bits) {
  if (bits == 64)
    return u64(f.word(lane, 2 * element)) | u64(f.word(lane, 2 * element + 1)) << 32;
  u32 first = element * bits;
  return bits == 32 ? f.word(lane, element) : f.word(lane, first / 32) >> (first % 32) & ((1u << bits) - 1);
}

ALIQUOT_INLINE void put_bits(const Fragment& f, u32 lane, u32 element, u32 bits, u64 value) {
  if (bits == 64) {
    f.word(lane, 2 * element) = u32(value);
    f.word(lane, 2 * element + 1) = u32(value >> 32);
    return;
  }
  u32 first = element * bits;
  u32& word = f.word(lane, first / 32);
  u32 keep = bits == 32 ? ~0u : (1u << bits) - 1;
  word = (word & ~(keep << (first % 32))) | (u32(value) & keep) << (first % 32);
}

f64 number(u64 bits, MatrixType type) {
  switch (type) {
  case MatrixType::F16:
    return half_to_float(u16(bits));
  case MatrixType::BF16:
    return from_pattern(u32(bits) << 16);
  case MatrixType::TF32:
    return from_pattern(u32(bits) & ~0x1FFFu);
  case MatrixType::F32:
    return from_pattern(u32(bits));
  case MatrixType::F64:
    return __builtin_bit_cast(f64, bits);
  case MatrixType::S8:
    return s8(bits);
  case MatrixType::S4:
    return s32(u32(bits) << 28) >> 28;
  case MatrixType::S32:
    return s32(bits);
  case MatrixType::E4M3:
    return decode(u32(bits), kSmallFormats[int(Small::E4M3)]);
  case MatrixType::E5M2:
    return decode(u32(bits), kSmallFormats[int(Small::E5M2)]);
  default: // u8, u4, b1
    return f64(bits);
  }
}

u64 pattern_of(f64 value, MatrixType type, bool saturate) {
  switch (type) {
  case MatrixType::F16:
    return encode(value, kSmallFormats[int(Small::F16)], Rounding::Nearest, false);
  case MatrixType::F64:
    return __builtin_bit_cast(u64, value != value ? __builtin_nan("") : value);
  case MatrixType::S32:
    if (saturate)
      return u32(value > 2147483647.0 ? 2147483647 : value < -2147483648.0 ? -2147483647 - 1 : s32(value));
    return u32(s64(value));
  default: {
    f32 narrow = f32(value);
    return narrow != narrow ? 0x7FFFFFFFu : to_pattern(narrow);
  }
  }
}

// --- Where the elements of mma fragments lie ---

// Operand a: element e of a lane. Registers alternate between rows g and g + 8, then move along k.
ALIQUOT_INLINE Place place_a(const MatrixForm& form, u32 lane, u32 element) {
  u32 each = form.a_bits() >= 32 ? 1 : 32 / form.a_bits(), reg = element / each, part = element % each;
  u32 group = lane / 4, t = lane % 4;
  if (form.m == 8)
    return {group, t * each + part + reg * 4 * each};
  return {group + (reg & 1) * 8, t * each + part + (reg >> 1) * 4 * each};
}
ALIQUOT_INLINE Place place_b(const MatrixForm& form, u32 lane, u32 element) {
  u32 each = form.a_bits() >= 32 ? 1 : 32 / form.a_bits(), reg = element / each, part = element % each;
  return {lane % 4 * each + part + reg * 4 * each, lane / 4};
}
ALIQUOT_INLINE Place place_c(const MatrixForm&, u32 lane, u32 element) {
  return {lane / 4 + (element >> 1) * 8, lane % 4 * 2 + (element & 1)};
}

// mma.m8n8k4 of f16: four products, one for each pair of quads (lanes 4q..4q+3 and 16+4q..).
ALIQUOT_INLINE Place quad_a(const MatrixForm& form, u32 lane, u32 i) {
  u32 high = lane < 16 ? 0 : 4;
  return form.a_column ? Place{i + high, lane % 4} : Place{lane % 4 + high, i};
}
ALIQUOT_INLINE Place quad_b(const MatrixForm& form, u32 lane, u32 i) {
  u32 high = lane < 16 ? 0 : 4;
  return form.b_column ? Place{i, lane % 4 + high} : Place{lane % 4, i + high};
}
ALIQUOT_INLINE Place quad_c(MatrixType type, u32 lane, u32 i) {
  u32 high = lane < 16 ? 0 : 4;
  if (type == MatrixType::F16)
    return {lane % 4 + high, i};
  return {(lane & 1) + (i & 2) + high, (i & 4) + (lane & 2) + (i & 1)};
}

struct Operands {
  f64 a[kMost], b[kMost], c[32 * 32];
};

// d = a * b + c, in place of c. a is m x k, b is k x n.
void multiply(const MatrixForm& form, Operands& o) {
  for (u32 i = 0; i < form.m; ++i)
    for (u32 k = 0; k < form.k; ++k) {
      f64 left = o.a[i * form.k + k];
      for (u32 j = 0; j < form.n; ++j)
        o.c[i * form.n + j] += left * o.b[k * form.n + j];
    }
}

// Single bits are counted; everything else is multiplied.
void multiply_add(const MatrixForm& form, Operands& o) {
  if (form.a_type == u8(MatrixType::B1)) {
    for (u32 i = 0; i < form.m; ++i)
      for (u32 j = 0; j < form.n; ++j)
        for (u32 k = 0; k < form.k; ++k) {
          bool x = o.a[i * form.k + k] != 0, y = o.b[k * form.n + j] != 0;
          o.c[i * form.n + j] += form.exclusive ? x != y : x && y;
        }
    return;
  }
  multiply(form, o);
}

bool multiply_fragments(const Op* op, char* rows, Context*, u32 mask) {
  MatrixForm form;
  __builtin_memcpy(&form, &op->imm, sizeof form);
  Fragment d{rows, op->r[0]}, a{rows, op->r[1]}, b{rows, op->r[2]}, c{rows, op->r[3]};
  MatrixType at = MatrixType(form.a_type), bt = MatrixType(form.b_type), ct = MatrixType(form.c_type),
             dt = MatrixType(form.d_type);
  u32 a_count = form.m * form.k / 32, b_count = form.k * form.n / 32, c_count = form.m * form.n / 32;
  Operands o;
  for (u32 lane = 0; lane < 32; ++lane) {
    for (u32 i = 0; i < a_count; ++i) {
      Place p = place_a(form, lane, i);
      o.a[p.row * form.k + p.column] = number(bits_at(a, lane, i, form.a_bits()), at);
    }
    for (u32 i = 0; i < b_count; ++i) {
      Place p = place_b(form, lane, i);
      o.b[p.row * form.n + p.column] = number(bits_at(b, lane, i, bits_of_matrix_type(bt)), bt);
    }
    for (u32 i = 0; i < c_count; ++i) {
      Place p = place_c(form, lane, i);
      o.c[p.row * form.n + p.column] = number(bits_at(c, lane, i, bits_of_matrix_type(ct)), ct);
    }
  }
  multiply_add(form, o);
  ALIQUOT_EACH_LANE(lane, mask)
  for (u32 i = 0; i < c_count; ++i) {
    Place p = place_c(form, lane, i);
    put_bits(d, lane, i, bits_of_matrix_type(dt),
             pattern_of(o.c[p.row * form.n + p.column], dt, form.saturate));
  }
  return true;
}

bool multiply_quads(const Op* op, char* rows, Context*, u32 mask) {
  MatrixForm form;
  __builtin_memcpy(&form, &op->imm, sizeof form);
  Fragment d{rows, op->r[0]}, a{rows, op->r[1]}, b{rows, op->r[2]}, c{rows, op->r[3]};
  MatrixType ct = MatrixType(form.c_type), dt = MatrixType(form.d_type);
  Operands o;
  for (u32 quad = 0; quad < 4; ++quad) {
    u32 members = 0xF000Fu << (4 * quad);
    ALIQUOT_EACH_LANE(lane, members) {
      for (u32 i = 0; i < 4; ++i) {
        Place p = quad_a(form, lane, i), q = quad_b(form, lane, i);
        o.a[p.row * 4 + p.column] = number(bits_at(a, lane, i, 16), MatrixType::F16);
        o.b[q.row * 8 + q.column] = number(bits_at(b, lane, i, 16), MatrixType::F16);
      }
      for (u32 i = 0; i < 8; ++i) {
        Place p = quad_c(ct, lane, i);
        o.c[p.row * 8 + p.column] = number(bits_at(c, lane, i, bits_of_matrix_type(ct)), ct);
      }
    }
    multiply(form, o);
    ALIQUOT_EACH_LANE(lane, members & mask)
    for (u32 i = 0; i < 8; ++i) {
      Place p = quad_c(dt, lane, i);
      put_bits(d, lane, i, bits_of_matrix_type(dt), pattern_of(o.c[p.row * 8 + p.column], dt, false));
    }
  }
  return true;
}

// --- wmma ---

// Element i of a lane's fragment is number (lane * per_lane + i) of the matrix, row by row; a fragment that
// is larger than its matrix holds it several times.
struct WarpMatrix {
  u32 height, width, bits, per_lane;
};
ALIQUOT_INLINE WarpMatrix warp_matrix(const MatrixForm& form, u32 which) {
  u32 bits = bits_of_matrix_type(MatrixType(which == 0   ? form.a_type
                                            : which == 1 ? form.b_type
                                            : which == 2 ? form.c_type
                                                         : form.d_type));
  u32 height = which == 1 ? form.k : form.m, width = which == 0 ? form.k : form.n;
  return {height, width, bits, wmma_registers(form, which) * 32 / bits};
}

bool multiply_warp(const Op* op, char* rows, Context*, u32 mask) {
  MatrixForm form;
  __builtin_memcpy(&form, &op->imm, sizeof form);
  Operands o;
  f64* values[] = {o.a, o.b, o.c};
  for (u32 which = 0; which < 3; ++which) {
    WarpMatrix matrix = warp_matrix(form, which);
    Fragment f{rows, op->r[1 + which]};
    MatrixType type = MatrixType(which == 0 ? form.a_type : which == 1 ? form.b_type : form.c_type);
    u32 count = matrix.height * matrix.width;
    for (u32 lane = 0; lane < 32 && lane * matrix.per_lane < count; ++lane)
      for (u32 i = 0; i < matrix.per_lane; ++i)
        values[which][lane * matrix.per_lane + i] = number(bits_at(f, lane, i, matrix.bits), type);
  }
  multiply_add(form, o);
  WarpMatrix matrix = warp_matrix(form, 3);
  Fragment d{rows, op->r[0]};
  ALIQUOT_EACH_LANE(lane, mask)
  for (u32 i = 0; i < matrix.per_lane; ++i) {
    u32 at = (lane * matrix.per_lane + i) % (matrix.height * matrix.width);
    put_bits(d, lane, i, matrix.bits, pattern_of(o.c[at], MatrixType(form.d_type), form.saturate));
  }
  return true;
}

// Where a matrix lies in memory: all of it, or a fault.
char* matrix_memory(const Op* op, char* rows, Context* context, u32 mask, const WarpMatrix& matrix,
                    u32 base_row, u32 stride_row, bool column, bool write, u64& stride) {
  u32 lane = u32(__builtin_ctz(mask));
  u64 base = reinterpret_cast<const u64*>(rows + base_row)[lane] + 0;
  stride = reinterpret_cast<const u32*>(rows + stride_row)[lane];
  u64 lines = column ? matrix.width : matrix.height, length = column ? matrix.height : matrix.width;
  u64 bytes = ((lines - 1) * stride + length) * matrix.bits / 8, there = 0;
  u32 alignment = matrix.bits < 32 ? 4 : matrix.bits / 8;
  if (base % alignment || stride * matrix.bits % 32) {
    runtime::raise(context, op, runtime::Why::Misaligned, mask, base);
    return nullptr;
  }
  char* at = runtime::stretch(context, base, write, bytes, &there);
  if (!at || there < bytes) {
    runtime::raise(context, op, runtime::Why::Illegal, mask, at ? base + there : base);
    return nullptr;
  }
  return at;
}

// imm of both: the form; `part` says which operand it is.
bool load_warp(const Op* op, char* rows, Context* context, u32 mask) {
  MatrixForm form;
  __builtin_memcpy(&form, &op->imm, sizeof form);
  WarpMatrix matrix = warp_matrix(form, form.part);
  bool column = form.a_column;
  u64 stride = 0;
  const char* from =
      matrix_memory(op, rows, context, mask, matrix, op->r[1], op->r[2], column, false, stride);
  if (!from)
    return false;
  Fragment f{rows, op->r[0]};
  ALIQUOT_EACH_LANE(lane, mask)
  for (u32 i = 0; i < matrix.per_lane; ++i) {
    u32 number = (lane * matrix.per_lane + i) % (matrix.height * matrix.width);
    u64 row = number / matrix.width, col = number % matrix.width;
    u64 bit = (column ? col * stride + row : row * stride + col) * matrix.bits;
    u64 value = 0;
    __builtin_memcpy(&value, from + bit / 8, matrix.bits < 8 ? 1 : matrix.bits / 8);
    put_bits(f, lane, i, matrix.bits, matrix.bits < 8 ? value >> (bit % 8) : value);
  }
  return true;
}

bool store_warp(const Op* op, char* rows, Context* context, u32 mask) {
  MatrixForm form;
  __builtin_memcpy(&form, &op->imm, sizeof form);
  WarpMatrix matrix = warp_matrix(form, 3);
  bool column = form.a_column;
  u64 stride = 0;
  char* to = matrix_memory(op, rows, context, mask, matrix, op->r[0], op->r[1], column, true, stride);
  if (!to)
    return false;
  Fragment f{rows, op->r[2]};
  ALIQUOT_EACH_LANE(lane, mask)
  for (u32 i = 0; i < matrix.per_lane; ++i) {
    u32 number = (lane * matrix.per_lane + i) % (matrix.height * matrix.width);
    u64 row = number / matrix.width, col = number % matrix.width;
    u64 value = bits_at(f, lane, i, matrix.bits);
    __builtin_memcpy(to + (column ? col * stride + row : row * stride + col) * matrix.bits / 8, &value,
                     matrix.bits / 8);
  }
  return true;
}

// --- ldmatrix, stmatrix, movmatrix: 8 x 8 matrices of 16-bit elements, a row of 16 bytes for each address
// ---

// Host pointers to the rows: lanes 8i to 8i+7 give those of matrix i.
ALIQUOT_INLINE bool row_pointers(const Op* op, char* rows, Context* context, u32 address_row, u32 matrices,
                                 bool write, char** pointers) {
  u64 addresses[32];
  for (u32 lane = 0; lane < 32; ++lane)
    addresses[lane] = reinterpret_cast<const u64*>(rows + address_row)[lane];
  return runtime::resolve(context, op, addresses, matrices == 4 ? kFullMask : (1u << 8 * matrices) - 1, 16,
                          write, pointers);
}

ALIQUOT_INLINE void element_place(u32 lane, u32 i, bool transposed, u32& row, u32& column) {
  row = lane / 4;
  column = lane % 4 * 2 + i;
  if (transposed) {
    u32 r = row;
    row = column;
    column = r;
  }
}

template <u32 N>
bool load_matrices(const Op* op, char* rows, Context* context, u32 mask) {
  char* pointers[32];
  if (!row_pointers(op, rows, context, op->r[N], N, false, pointers))
    return false;
  for (u32 matrix = 0; matrix < N; ++matrix)
    ALIQUOT_EACH_LANE(lane, mask) {
      u16 parts[2];
      for (u32 i = 0; i < 2; ++i) {
        u32 row, column;
        element_place(lane, i, op->imm & 1, row, column);
        __builtin_memcpy(&parts[i], pointers[8 * matrix + row] + 2 * column, 2);
      }
      reinterpret_cast<u32*>(rows + op->r[matrix])[lane] = parts[0] | u32(parts[1]) << 16;
    }
  return true;
}

template <u32 N>
bool store_matrices(const Op* op, char* rows, Context* context, u32 mask) {
  char* pointers[32];
  if (!row_pointers(op, rows, context, op->r[0], N, true, pointers))
    return false;
  for (u32 matrix = 0; matrix < N; ++matrix)
    ALIQUOT_EACH_LANE(lane, mask) {
      u32 value = reinterpret_cast<u32*>(rows + op->r[1 + matrix])[lane];
      for (u32 i = 0; i < 2; ++i) {
        u32 row, column;
        element_place(lane, i, op->imm & 1, row, column);
        u16 part = u16(value >> (16 * i));
        __builtin_memcpy(pointers[8 * matrix + row] + 2 * column, &part, 2);
      }
    }
  return true;
}

bool transpose_matrix(const Op* op, char* rows, Context*, u32 mask) {
  const u32* a = reinterpret_cast<const u32*>(rows + op->r[1]);
  u32 out[32];
  for (u32 lane = 0; lane < 32; ++lane) {
    out[lane] = 0;
    for (u32 i = 0; i < 2; ++i) {
      u32 row, column;
      element_place(lane, i, true, row, column);
      out[lane] |= (a[row * 4 + column / 2] >> (16 * (column & 1)) & 0xFFFF) << (16 * i);
    }
  }
  ALIQUOT_EACH_LANE(lane, mask)
  reinterpret_cast<u32*>(rows + op->r[0])[lane] = out[lane];
  return true;
}

#define MATRIX(name, text, function)                                                                         \
  ALIQUOT_ENTRY(name, Converged<text, decltype([](const Op* op, char* rows, Context* context, u32 mask) {    \
                                  return function(op, rows, context, mask);                                  \
                                })>)
constexpr char kMultiply[] = "W=WWW", kLoad[] = "W=xw", kStore[] = "=xwW", kOne[] = "w=x", kTwo[] = "ww=x",
               kFour[] = "wwww=x", kPutOne[] = "=xw", kPutTwo[] = "=xww", kPutFour[] = "=xwwww",
               kTurn[] = "w=w";

const Entry kMatrices[] = {
    MATRIX("mma", kMultiply, multiply_fragments),      MATRIX("mma.quads", kMultiply, multiply_quads),
    MATRIX("wmma.mma", kMultiply, multiply_warp),      MATRIX("wmma.load", kLoad, load_warp),
    MATRIX("wmma.store", kStore, store_warp),          MATRIX("ldmatrix.1", kOne, load_matrices<1>),
    MATRIX("ldmatrix.2", kTwo, load_matrices<2>),      MATRIX("ldmatrix.4", kFour, load_matrices<4>),
    MATRIX("stmatrix.1", kPutOne, store_matrices<1>),  MATRIX("stmatrix.2", kPutTwo, store_matrices<2>),
    MATRIX("stmatrix.4", kPutFour, store_matrices<4>), MATRIX("movmatrix", kTurn, transpose_matrix),
};

const EntryList kMatrixLists[] = {LIST(kMatrices)};

} // namespace

extern const EntryLists kMatrixEntries;
const EntryLists kMatrixEntries = {kMatrixLists, sizeof kMatrixLists / sizeof kMatrixLists[0]};

} // namespace aliquot::simgpu::exec::ALIQUOT_ISA
