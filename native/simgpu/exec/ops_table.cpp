// The handlers of one instruction set, together, and the way into them.
#include "native/simgpu/exec/rows.hpp"

namespace aliquot::simgpu::exec::ALIQUOT_ISA {

extern const EntryLists kIntegerEntries, kFloatEntries, kConvertEntries, kControlEntries, kMemoryEntries;

namespace {

void enter(Context* context) {
#if ALIQUOT_TAIL_CALLS
  const Op* op = context->op;
  op->run[context->mask == kFullMask ? 0 : 1](op, context->rows, context, context->mask);
#else
  while (const Op* op = context->op)
    op->run[context->mask == kFullMask ? 0 : 1](op, context->rows, context, context->mask);
#endif
#if defined(__AVX__)
  _mm256_zeroupper(); // handlers leave the upper halves dirty; code compiled for SSE would pay for it
#endif
}

} // namespace

extern const IsaTable kTable;
const IsaTable kTable = {
    ALIQUOT_ISA_NAME,
    {&kIntegerEntries, &kFloatEntries, &kConvertEntries, &kControlEntries, &kMemoryEntries},
    &enter};

} // namespace aliquot::simgpu::exec::ALIQUOT_ISA
