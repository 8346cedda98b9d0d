// The forms of PTX instructions, as the manual writes them, and which of them the lowering takes.
//
// The table below only proposes: each form is put into a kernel and given to the parser and the lowering, and
// what they say is printed. An instruction of the lowering's own table that no proposal reaches is printed as
// an error, so that the table cannot fall behind. Which values come out is for tests to say.
#include "native/simgpu/exec/tools/forms.hpp"

#include <cstdio>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "native/simgpu/exec/exec.hpp"
#include "native/simgpu/ptx/ast.hpp"

namespace aliquot::simgpu::exec {
namespace {

// '@' is each of the types in turn; '$@' and '$u32' a register of that type; '<a|b|>' one of the
// alternatives. %A is a 64-bit address, %S one in shared memory, L a label list, F a function.
struct Proposal {
  const char* types;
  const char* pattern;
};

constexpr Proposal kProposals[] = {
    // integers
    {"u16 u32 u64 s16 s64", "<add|sub>.@ $@, $@, $@"},
    {"s32", "<add|sub><.sat|>.@ $@, $@, $@"},
    {"u16x2 s16x2", "add.@ $b32, $b32, $b32"},
    {"u32 s32 u64 s64", "<add|sub>.cc.@ $@, $@, $@"},
    {"u32 s32 u64 s64", "<addc|subc><.cc|>.@ $@, $@, $@"},
    {"u16 u32 u64 s16 s32 s64", "mul.<lo|hi>.@ $@, $@, $@"},
    {"u16", "mul.wide.@ $u32, $@, $@"},
    {"s16", "mul.wide.@ $s32, $@, $@"},
    {"u32", "mul.wide.@ $u64, $@, $@"},
    {"s32", "mul.wide.@ $s64, $@, $@"},
    {"u16 u32 u64 s16 s32 s64", "mad.<lo|hi>.@ $@, $@, $@, $@"},
    {"u16", "mad.wide.@ $u32, $@, $@, $u32"},
    {"s16", "mad.wide.@ $s32, $@, $@, $s32"},
    {"u32", "mad.wide.@ $u64, $@, $@, $u64"},
    {"s32", "mad.wide.@ $s64, $@, $@, $s64"},
    {"s32", "mad.hi.sat.@ $@, $@, $@, $@"},
    {"u32 s32 u64 s64", "<mad|madc>.<lo|hi>.cc.@ $@, $@, $@, $@"},
    {"u32 s32 u64 s64", "madc.<lo|hi>.@ $@, $@, $@, $@"},
    {"u32 s32", "mul24.<lo|hi>.@ $@, $@, $@"},
    {"u32 s32", "mad24.<lo|hi>.@ $@, $@, $@, $@"},
    {"s32", "mad24.hi.sat.@ $@, $@, $@, $@"},
    {"u16 u32 u64 s16 s32 s64", "sad.@ $@, $@, $@, $@"},
    {"u16 u32 u64 s16 s32 s64", "<div|rem>.@ $@, $@, $@"},
    {"s16 s32 s64", "<abs|neg>.@ $@, $@"},
    {"u16 u32 u64 s16 s64", "<min|max>.@ $@, $@, $@"},
    {"s32", "<min|max><.relu|>.@ $@, $@, $@"},
    {"u16x2", "<min|max>.@ $b32, $b32, $b32"},
    {"s16x2", "<min|max><.relu|>.@ $b32, $b32, $b32"},
    {"b32 b64", "<popc|clz>.@ $u32, $@"},
    {"u32 u64 s32 s64", "bfind<.shiftamt|>.@ $u32, $@"},
    {"b32", "fns.@ $@, $@, $@, $s32"},
    {"b32 b64", "brev.@ $@, $@"},
    {"u32 u64 s32 s64", "bfe.@ $@, $@, $u32, $u32"},
    {"b32 b64", "bfi.@ $@, $@, $@, $u32, $u32"},
    {"u32 s32", "szext.<clamp|wrap>.@ $@, $@, $u32"},
    {"b32", "bmsk.<clamp|wrap>.@ $@, $u32, $u32"},
    {"u32 s32", "dp4a.<u32|s32>.@ $s32, $b32, $b32, $s32"},
    {"u32 s32", "dp2a.<lo|hi>.<u32|s32>.@ $s32, $b32, $b32, $s32"},
    // floating point
    {"f32", "<add|sub|mul><.rn|.rz|.rm|.rp|><.ftz|><.sat|>.@ $@, $@, $@"},
    {"f64", "<add|sub|mul><.rn|.rz|.rm|.rp|>.@ $@, $@, $@"},
    {"f32x2", "<add|sub|mul><.rn|.rz|.rm|.rp|><.ftz|>.@ $b64, $b64, $b64"},
    {"f32x2", "fma<.rn|.rz|.rm|.rp><.ftz|>.@ $b64, $b64, $b64, $b64"},
    {"f32", "<fma|mad>.<rn|rz|rm|rp><.ftz|><.sat|>.@ $@, $@, $@, $@"},
    {"f64", "<fma|mad>.<rn|rz|rm|rp>.@ $@, $@, $@, $@"},
    {"f32", "div<.approx|.full|.rn|.rz|.rm|.rp><.ftz|>.@ $@, $@, $@"},
    {"f64", "div.<rn|rz|rm|rp>.@ $@, $@, $@"},
    {"f32", "<rcp|sqrt><.approx|.rn|.rz|.rm|.rp><.ftz|>.@ $@, $@"},
    {"f64", "<rcp|sqrt>.<rn|rz|rm|rp>.@ $@, $@"},
    {"f64", "<rcp|rsqrt>.approx.ftz.@ $@, $@"},
    {"f32", "rsqrt.approx<.ftz|>.@ $@, $@"},
    {"f64", "rsqrt.approx.@ $@, $@"},
    {"f32", "<sin|cos|lg2|ex2>.approx<.ftz|>.@ $@, $@"},
    {"f32 f16 f16x2 bf16 bf16x2", "tanh.approx.@ $@, $@"},
    {"f16 f16x2", "ex2.approx<.ftz|>.@ $@, $@"},
    {"bf16 bf16x2", "ex2.approx.ftz.@ $@, $@"},
    {"f32 f16 f16x2", "<abs|neg><.ftz|>.@ $@, $@"},
    {"f64 bf16 bf16x2", "<abs|neg>.@ $@, $@"},
    {"f32", "<min|max><.ftz|><.NaN|><.xorsign.abs|>.@ $@, $@, $@"},
    {"f32", "<min|max><.ftz|><.NaN|><.abs|>.@ $@, $@, $@, $@"},
    {"f64", "<min|max>.@ $@, $@, $@"},
    {"f16 f16x2", "<min|max><.ftz|><.NaN|><.xorsign.abs|>.@ $@, $@, $@"},
    {"bf16 bf16x2", "<min|max><.NaN|><.xorsign.abs|>.@ $@, $@, $@"},
    {"f16 f16x2", "<add|sub|mul><.rn|><.ftz|><.sat|>.@ $@, $@, $@"},
    {"bf16 bf16x2", "<add|sub|mul><.rn|>.@ $@, $@, $@"},
    {"f16 f16x2", "fma.rn<.ftz|><.sat|.relu|>.@ $@, $@, $@, $@"},
    {"bf16 bf16x2", "fma.rn<.relu|>.@ $@, $@, $@, $@"},
    {"f32 f64", "testp.<finite|infinite|number|notanumber|normal|subnormal>.@ $pred, $@"},
    {"f32 f64", "copysign.@ $@, $@, $@"},
    // comparisons and selection
    {"u16 u32 u64 s16 s32 s64", "setp.<eq|ne|lt|le|gt|ge>.@ $pred|$pred, $@, $@"},
    {"u16 u32 u64", "setp.<lo|ls|hi|hs>.@ $pred, $@, $@"},
    {"b16 b32 b64", "setp.<eq|ne>.<and|or|xor>.@ $pred, $@, $@, !$pred"},
    {"f32 f64 f16 f16x2 bf16 bf16x2",
     "setp.<eq|ne|lt|le|gt|ge|equ|neu|ltu|leu|gtu|geu|num|nan>.@ $pred|$pred, $@, $@"},
    {"f32 f16 f16x2", "setp.<lt|geu>.<and|or|xor>.ftz.@ $pred, $@, $@, $pred"},
    {"u16 u32 u64 s16 s32 s64 b16 b32 b64", "set.<eq|ne>.<u32|s32>.@ $b32, $@, $@"},
    {"u32 s32 f32 f64", "set.lt.and.f32.@ $f32, $@, $@, $pred"},
    {"f16", "set.<lt|nan><.ftz|>.<f16|u16|s16>.@ $b16, $@, $@"},
    {"f16 bf16 f32 f64", "set.<lt|nan>.<u32|s32>.@ $b32, $@, $@"},
    {"f16x2", "set.<lt|nan><.ftz|>.@.@ $@, $@, $@"},
    {"bf16x2", "set.<lt|nan>.@.@ $@, $@, $@"},
    {"bf16", "set.<lt|nan>.<bf16|u16|s16>.@ $b16, $@, $@"},
    {"b16 b32 b64 u16 u32 u64 s16 s32 s64 f32 f64", "selp.@ $@, $@, $@, $pred"},
    {"b16 b32 b64 u16 u32 u64 s16 s32 s64 f32 f64", "slct.@.s32 $@, $@, $@, $s32"},
    {"b32 f32 f64", "slct<.ftz|>.@.f32 $@, $@, $@, $f32"},
    // logic and bytes
    {"pred b16 b32 b64", "<and|or|xor>.@ $@, $@, $@"},
    {"pred b16 b32 b64", "not.@ $@, $@"},
    {"b16 b32 b64", "cnot.@ $@, $@"},
    {"b32", "lop3.@ $@, $@, $@, $@, 0xCA"},
    {"b32", "lop3.<and|or>.@ $@|$pred, $@, $@, $@, 0xCA, $pred"},
    {"b16 b32 b64", "shl.@ $@, $@, $u32"},
    {"b16 b32 b64 u16 u32 u64 s16 s32 s64", "shr.@ $@, $@, $u32"},
    {"b32", "shf.<l|r>.<clamp|wrap>.@ $@, $@, $@, $u32"},
    {"b32", "prmt.@<.f4e|.b4e|.rc8|.ecl|.ecr|.rc16|> $@, $@, $@, $@"},
    // moves and conversions
    {"pred b16 b32 b64 u16 u32 u64 s16 s32 s64 f32 f64 b128", "mov.@ $@, $@"},
    {"b16", "mov.@ $@, {$b8, $b8}"},
    {"b32", "mov.@ <$@, {$b16, $b16}|{$b16, $b16}, $@|$@, {$b8, $b8, $b8, $b8}>"},
    {"b64", "mov.@ <$@, {$b32, $b32}|{$b32, $b32}, $@|$@, {$b16, $b16, $b16, $b16}>"},
    {"b128", "mov.@ <$@, {$b64, $b64}|{$b64, $b64}, $@>"},
    {"u8 u16 u32 u64 s8 s16 s32 s64", "cvt<.sat|>.<u8|s8>.@ $b8, $@"},
    {"u8 u16 u32 u64 s8 s16 s32 s64", "cvt<.sat|>.<u16|s16>.@ $b16, $@"},
    {"u8 u16 u32 u64 s8 s16 s32 s64", "cvt<.sat|>.<u32|s32>.@ $b32, $@"},
    {"u8 u16 u32 u64 s8 s16 s32 s64", "cvt<.sat|>.<u64|s64>.@ $b64, $@"},
    {"u8 u16 u32 u64 s8 s16 s32 s64", "cvt.<rn|rz|rm|rp><.sat|>.f32.@ $f32, $@"},
    {"u8 u16 u32 u64 s8 s16 s32 s64", "cvt.<rn|rz|rm|rp><.sat|>.f64.@ $f64, $@"},
    {"u8 u16 u32 u64 s8 s16 s32 s64", "cvt.<rn|rz|rm|rp>.<f16|bf16>.@ $b16, $@"},
    {"f16 bf16 f32 f64", "cvt.<rni|rzi|rmi|rpi><.sat|>.<u8|s8>.@ $b8, $@"},
    {"f16 bf16 f32 f64", "cvt.<rni|rzi|rmi|rpi><.sat|>.<u16|s16>.@ $b16, $@"},
    {"f16 bf16 f32 f64", "cvt.<rni|rzi|rmi|rpi><.sat|>.<u32|s32>.@ $b32, $@"},
    {"f16 bf16 f32 f64", "cvt.<rni|rzi|rmi|rpi><.sat|>.<u64|s64>.@ $b64, $@"},
    {"f32", "cvt.<rni|rzi|rmi|rpi>.ftz.<u32|s32>.@ $b32, $@"},
    {"f16 bf16 f32 f64", "cvt.<rni|rzi|rmi|rpi><.sat|>.@.@ $@, $@"},
    {"f16", "cvt<.ftz|><.sat|>.f32.@ $f32, $@"},
    {"bf16", "cvt.f32.@ $f32, $@"},
    {"f16 bf16", "cvt.f64.@ $f64, $@"},
    {"f32", "cvt<.ftz|><.sat|>.<f32|f64>.@ $@, $@"},
    {"f32", "cvt.<rn|rz|rm|rp><.ftz|><.sat|>.f16.@ $b16, $@"},
    {"f32", "cvt.<rn|rz><.relu|><.satfinite|>.<f16|bf16>.@ $b16, $@"},
    {"f32", "cvt.<rm|rp>.bf16.@ $b16, $@"},
    {"f32", "cvt.<rn|rz><.relu|><.satfinite|>.<f16x2|bf16x2>.@ $b32, $@, $@"},
    {"f32", "cvt.rna<.satfinite|>.tf32.@ $b32, $@"},
    {"f32", "cvt.<rn|rz><.relu|><.satfinite|>.tf32.@ $b32, $@"},
    {"f64", "cvt.<rn|rz|rm|rp><.ftz|><.sat|>.f32.@ $f32, $@"},
    {"f64", "cvt.<rn|rz|rm|rp>.<f16|bf16>.@ $b16, $@"},
    {"f16", "cvt.rn.bf16.@ $b16, $@"},
    {"bf16", "cvt.<rn|rz>.f16.@ $b16, $@"},
    {"e4m3x2 e5m2x2 e2m3x2 e3m2x2", "cvt.rn.satfinite<.relu|>.@.f32 $b16, $f32, $f32"},
    {"e4m3x2 e5m2x2 e2m3x2 e3m2x2", "cvt.rn.satfinite<.relu|>.@.<f16x2|bf16x2> $b16, $b32"},
    {"e4m3x2 e5m2x2 e2m3x2 e3m2x2", "cvt.rn<.relu|>.<f16x2|bf16x2>.@ $b32, $b16"},
    {"e2m1x2", "cvt.rn.satfinite<.relu|>.@.f32 $b8, $f32, $f32"},
    {"e2m1x2", "cvt.rn.satfinite<.relu|>.@.<f16x2|bf16x2> $b8, $b32"},
    {"e2m1x2", "cvt.rn<.relu|>.<f16x2|bf16x2>.@ $b32, $b8"},
    {"ue8m0x2", "cvt.<rz|rp><.satfinite|>.@.f32 $b16, $f32, $f32"},
    {"ue8m0x2", "cvt.<rz|rp><.satfinite|>.@.bf16x2 $b16, $b32"},
    {"ue8m0x2", "cvt.rn.bf16x2.@ $b32, $b16"},
    {"e4m3x4 e5m2x4", "cvt.rs.satfinite.@.f32 $b32, {$f32, $f32, $f32, $f32}, $b32"},
    {"", "cvt.pack.sat.<u16|s16>.s32 $b32, $s32, $s32"},
    {"", "cvt.pack.sat.<u2|s2|u4|s4|u8|s8>.s32.b32 $b32, $s32, $s32, $b32"},
    // memory
    {"b8 u8 s8 b16 u16 s16 b32 u32 s32 f32 b64 u64 s64 f64 b128",
     "ld<.global|.shared|.local|.const|.volatile.global|.relaxed.gpu.global|.acquire.sys.global|>.@ $@, "
     "[%A+16]"},
    {"b32 f64", "ld.global<.ca|.cg|.cs|.lu|.cv|.nc|.nc.L1::evict_last|.L2::128B>.@ $@, [%A]"},
    {"b32", "ld.global.L2::cache_hint.@ $@, [%A], $b64"},
    {"b8 b16 b32 f32 b64", "ld<.global|.shared|.global.nc>.v2.@ {$@, $@}, [%A]"},
    {"b8 b16 b32 f32 b64", "ld<.global|.shared>.v4.@ {$@, $@, $@, $@}, [%A]"},
    {"b32 f32", "ld.global.v8.@ {$@, $@, $@, $@, $@, $@, $@, $@}, [%A]"},
    {"b32 f64", "ldu.global.@ $@, [%A]"},
    {"b8 u8 s8 b16 u16 s16 b32 u32 s32 f32 b64 u64 s64 f64 b128",
     "st<.global|.shared|.local|.volatile.global|.relaxed.gpu.global|.release.sys.global|>.@ [%A+16], $@"},
    {"b32 f64", "st.global<.wb|.cg|.cs|.wt|.L1::no_allocate>.@ [%A], $@"},
    {"b8 b16 b32 f32 b64", "st<.global|.shared>.v2.@ [%A], {$@, $@}"},
    {"b8 b16 b32 f32 b64", "st<.global|.shared>.v4.@ [%A], {$@, $@, $@, $@}"},
    {"b32 f32", "st.global.v8.@ [%A], {$@, $@, $@, $@, $@, $@, $@, $@}"},
    {"b32", "st.async.shared::cluster.mbarrier::complete_tx::bytes.@ [%S], $@, [%S]"},
    {"u32 s32 u64", "atom<.global|.shared|>.add.@ $@, [%A], $@"},
    {"f32 f64", "atom<.global|.shared|>.add.@ $@, [%A], $@"},
    {"f32 f64", "red<.global|.shared|>.add.@ [%A], $@"},
    {"f16 f16x2 bf16 bf16x2", "atom<.global|.shared|>.add.noftz.@ $@, [%A], $@"},
    {"b32 b64", "atom<.global|.shared|>.<and|or|xor|exch>.@ $@, [%A], $@"},
    {"u32 s32 u64 s64", "atom<.global|.shared|>.<min|max>.@ $@, [%A], $@"},
    {"u32", "atom<.global|.shared|>.<inc|dec>.@ $@, [%A], $@"},
    {"b16 b32 b64 b128", "atom<.global|.shared|>.cas.@ $@, [%A], $@, $@"},
    {"b128", "atom<.global|.shared|>.exch.@ $@, [%A], $@"},
    {"u32", "atom.<relaxed|acquire|release|acq_rel>.<cta|cluster|gpu|sys>.global.add.@ $@, [%A], $@"},
    {"f32", "atom.global.v2.@.add {$@, $@}, [%A], {$@, $@}"},
    {"f32", "atom.global.v4.@.add {$@, $@, $@, $@}, [%A], {$@, $@, $@, $@}"},
    {"f16 bf16 f16x2 bf16x2", "atom.global.v2.@.<add|min|max>.noftz {$@, $@}, [%A], {$@, $@}"},
    {"u32 s32 u64", "red<.global|.shared|>.add.@ [%A], $@"},
    {"f16 f16x2 bf16 bf16x2", "red.global.add.noftz.@ [%A], $@"},
    {"b32 b64", "red.global.<and|or|xor>.@ [%A], $@"},
    {"u32 s32 u64 s64", "red.global.<min|max>.@ [%A], $@"},
    {"u32", "red.global.<inc|dec>.@ [%A], $@"},
    {"f32", "red.global.v2.@.add [%A], {$@, $@}"},
    {"f16 bf16 f16x2 bf16x2", "red.global.v4.@.<add|min|max>.noftz [%A], {$@, $@, $@, $@}"},
    {"u32", "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.@ [%S], $@, [%S]"},
    {"u64", "cvta<.global|.shared|.local|.const|.param|.to.global|.to.shared|.to.local|.to.const>.@ $@, $@"},
    {"b64", "isspacep<.global|.shared|.shared::cta|.shared::cluster|.local|.const|.param> $pred, $@"},
    {"", "prefetch<.global|>.<L1|L2> [%A]"},
    {"", "prefetchu.L1 [%A]"},
    {"", "<applypriority.global.L2::evict_normal|discard.global.L2> [%A], 128"},
    {"b64", "createpolicy.fractional.L2::evict_first.@ $@, 1.0"},
    {"", "cp.async.<ca|cg>.shared.global<.L2::128B|> [%S], [%A], 16"},
    {"", "cp.async.ca.shared.global [%S], [%A], <4|8|16>, <$u32|$pred>"},
    {"", "cp.async.<commit_group|wait_all>"},
    {"", "cp.async.wait_group 1"},
    {"", "cp.async.mbarrier.arrive<.noinc|>.shared.b64 [%S]"},
    {"", "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%S], [%A], $u32, [%S]"},
    {"", "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%S], [%S], $u32, [%S]"},
    {"", "cp.async.bulk.global.shared::cta.bulk_group [%A], [%S], $u32"},
    {"", "cp.async.bulk.commit_group"},
    {"", "cp.async.bulk.wait_group<.read|> 0"},
    {"", "cp.async.bulk.prefetch.L2.global [%A], $u32"},
    {"", "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [%A], [%S], $u32"},
    {"", "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%S], [%A, {$s32, "
         "$s32}], [%S]"},
    {"b32 f32", "multimem.ld_reduce.relaxed.gpu.global.add.@ $@, [%A]"},
    {"", "tex.2d.v4.f32.f32 {$f32, $f32, $f32, $f32}, [%A, {$f32, $f32}]"},
    // control
    {"", "bar.sync <0|$u32>"},
    {"", "<bar|barrier>.<sync|arrive> 1, 64"},
    {"", "barrier<.cta|>.sync<.aligned|> 0"},
    {"", "bar.red.<and|or>.pred $pred, 0, $pred"},
    {"", "bar.red.popc.u32 $u32, 0, 64, $pred"},
    {"", "bar.warp.sync $b32"},
    {"", "barrier.cluster.<arrive|wait><.aligned|>"},
    {"", "membar.<cta|gl|sys>"},
    {"", "fence<.sc|.acq_rel>.<cta|cluster|gpu|sys>"},
    {"", "fence.proxy.<alias|async|async.global|async.shared::cta>"},
    {"", "fence.mbarrier_init.release.cluster"},
    {"", "vote.sync.<all|any|uni>.pred $pred, $pred, $b32"},
    {"", "vote.sync.ballot.b32 $b32, $pred, $b32"},
    {"", "vote.<all|any|uni>.pred $pred, $pred"},
    {"", "shfl.sync.<up|down|bfly|idx>.b32 $b32|$pred, $b32, $b32, $b32, $b32"},
    {"", "shfl.<up|down|bfly|idx>.b32 $b32, $b32, $b32, $b32"},
    {"b32 b64", "match.any.sync.@ $b32, $@, $b32"},
    {"b32 b64", "match.all.sync.@ $b32|$pred, $@, $b32"},
    {"u32 s32", "redux.sync.<add|min|max>.@ $@, $@, $b32"},
    {"b32", "redux.sync.<and|or|xor>.@ $@, $@, $b32"},
    {"f32", "redux.sync.<min|max><.abs|><.NaN|>.@ $@, $@, $b32"},
    {"", "activemask.b32 $b32"},
    {"", "elect.sync $b32|$pred, $b32"},
    {"", "nanosleep.u32 <5|$u32>"},
    {"", "<trap|brkpt|exit|ret>"},
    {"", "pmevent 3"},
    {"", "griddepcontrol.<wait|launch_dependents>"},
    {"", "setmaxnreg.<inc|dec>.sync.aligned.u32 64"},
    {"", "brx.idx $u32, L"},
    {"", "call F"},
    {"u32 u64", "mapa<.shared::cluster|>.@ $@, $@, $u32"},
    {"u32 u64", "getctarank<.shared::cluster|>.@ $u32, $@"},
    {"u32 u64", "alloca.@ $@, $@, 16"},
    {"u32 u64", "stacksave.@ $@"},
    {"u32 u64", "stackrestore.@ $@"},
    {"b64", "mbarrier.init.shared.@ [%S], $u32"},
    {"b64", "mbarrier.inval.shared.@ [%S]"},
    {"b64", "mbarrier.<arrive|arrive_drop>.shared.@ $@, [%S]"},
    {"b64", "mbarrier.<arrive|arrive_drop><.noComplete|>.shared.@ $@, [%S], $u32"},
    {"b64", "mbarrier.<arrive|arrive_drop>.expect_tx.shared.@ $@, [%S], $u32"},
    {"b64", "mbarrier.arrive.release.cluster.shared::cluster.@ _, [%S], $u32"},
    {"b64", "mbarrier.<expect_tx|complete_tx>.relaxed.cta.shared::cta.@ [%S], $u32"},
    {"b64", "mbarrier.<test_wait|try_wait>.shared.@ $pred, [%S], $@"},
    {"b64", "mbarrier.<test_wait|try_wait>.parity.shared.@ $pred, [%S], $u32"},
    {"b64", "mbarrier.try_wait.acquire.cta.shared::cta.@ $pred, [%S], $@, $u32"},
    {"b64", "mbarrier.pending_count.@ $u32, $@"},
    // matrices
    {"b16", "ldmatrix.sync.aligned.m8n8.x1<.trans|>.shared.@ {$b32}, [%S]"},
    {"b16", "ldmatrix.sync.aligned.m8n8.x2<.trans|>.shared.@ {$b32, $b32}, [%S]"},
    {"b16", "ldmatrix.sync.aligned.m8n8.x4<.trans|>.shared.@ {$b32, $b32, $b32, $b32}, [%S]"},
    {"b16", "stmatrix.sync.aligned.m8n8.x1<.trans|>.shared.@ [%S], {$b32}"},
    {"b16", "stmatrix.sync.aligned.m8n8.x2<.trans|>.shared.@ [%S], {$b32, $b32}"},
    {"b16", "stmatrix.sync.aligned.m8n8.x4<.trans|>.shared.@ [%S], {$b32, $b32, $b32, $b32}"},
    {"b8", "ldmatrix.sync.aligned.m16n16.x1.trans.shared.@ {$b32, $b32}, [%S]"},
    {"b16", "movmatrix.sync.aligned.m8n8.trans.@ $b32, $b32"},
    {"f16", "mma.sync.aligned.m8n8k4.<row|col>.<row|col>.f16.@.@.f16 {$4b32}, {$2b32}, {$2b32}, {$4b32}"},
    {"f16", "mma.sync.aligned.m8n8k4.<row|col>.<row|col>.f32.@.@.f32 {$8f32}, {$2b32}, {$2b32}, {$8f32}"},
    {"f16", "mma.sync.aligned.m16n8k8.row.col.f16.@.@.f16 {$2b32}, {$2b32}, {$1b32}, {$2b32}"},
    {"f16", "mma.sync.aligned.m16n8k16.row.col.f16.@.@.f16 {$2b32}, {$4b32}, {$2b32}, {$2b32}"},
    {"f16 bf16", "mma.sync.aligned.m16n8k8.row.col.f32.@.@.f32 {$4f32}, {$2b32}, {$1b32}, {$4f32}"},
    {"f16 bf16", "mma.sync.aligned.m16n8k16.row.col.f32.@.@.f32 {$4f32}, {$4b32}, {$2b32}, {$4f32}"},
    {"tf32", "mma.sync.aligned.m16n8k4.row.col.f32.@.@.f32 {$4f32}, {$2b32}, {$1b32}, {$4f32}"},
    {"tf32", "mma.sync.aligned.m16n8k8.row.col.f32.@.@.f32 {$4f32}, {$4b32}, {$2b32}, {$4f32}"},
    {"s8 u8",
     "mma.sync.aligned.m8n8k16.row.col<.satfinite|>.s32.@.<s8|u8>.s32 {$2s32}, {$1b32}, {$1b32}, {$2s32}"},
    {"s8 u8",
     "mma.sync.aligned.m16n8k16.row.col<.satfinite|>.s32.@.<s8|u8>.s32 {$4s32}, {$2b32}, {$1b32}, {$4s32}"},
    {"s8 u8",
     "mma.sync.aligned.m16n8k32.row.col<.satfinite|>.s32.@.<s8|u8>.s32 {$4s32}, {$4b32}, {$2b32}, {$4s32}"},
    {"s4 u4",
     "mma.sync.aligned.m8n8k32.row.col<.satfinite|>.s32.@.<s4|u4>.s32 {$2s32}, {$1b32}, {$1b32}, {$2s32}"},
    {"s4 u4",
     "mma.sync.aligned.m16n8k32.row.col<.satfinite|>.s32.@.<s4|u4>.s32 {$4s32}, {$2b32}, {$1b32}, {$4s32}"},
    {"s4 u4",
     "mma.sync.aligned.m16n8k64.row.col<.satfinite|>.s32.@.<s4|u4>.s32 {$4s32}, {$4b32}, {$2b32}, {$4s32}"},
    {"b1", "mma.sync.aligned.m8n8k128.row.col.s32.@.@.s32.<xor|and>.popc {$2s32}, {$1b32}, {$1b32}, {$2s32}"},
    {"b1",
     "mma.sync.aligned.m16n8k128.row.col.s32.@.@.s32.<xor|and>.popc {$4s32}, {$2b32}, {$1b32}, {$4s32}"},
    {"b1",
     "mma.sync.aligned.m16n8k256.row.col.s32.@.@.s32.<xor|and>.popc {$4s32}, {$4b32}, {$2b32}, {$4s32}"},
    {"f64", "mma.sync.aligned.m8n8k4.row.col.@.@.@.@ {$2f64}, {$1f64}, {$1f64}, {$2f64}"},
    {"f64", "mma.sync.aligned.m16n8k4.row.col.@.@.@.@ {$4f64}, {$2f64}, {$1f64}, {$4f64}"},
    {"f64", "mma.sync.aligned.m16n8k8.row.col.@.@.@.@ {$4f64}, {$4f64}, {$2f64}, {$4f64}"},
    {"f64", "mma.sync.aligned.m16n8k16.row.col.@.@.@.@ {$4f64}, {$8f64}, {$4f64}, {$4f64}"},
    {"e4m3 e5m2",
     "mma.sync.aligned.m16n8k32.row.col.f32.@.<e4m3|e5m2>.f32 {$4f32}, {$4b32}, {$2b32}, {$4f32}"},
    {"e4m3 e5m2",
     "mma.sync.aligned.m16n8k16.row.col.f16.@.<e4m3|e5m2>.f16 {$2b32}, {$2b32}, {$1b32}, {$2b32}"},
    {"f16", "mma.sp.sync.aligned.m16n8k16.row.col.f16.@.@.f16 {$2b32}, {$2b32}, {$2b32}, {$2b32}, $b32, 0"},
    {"f16", "wmma.load.<a|b>.sync.aligned.<row|col>.<m16n16k16|m32n8k16|m8n32k16>.<global.|shared.|>@ "
            "{$8b32}, [%A], $u32"},
    {"bf16", "wmma.load.<a|b>.sync.aligned.<row|col>.m16n16k16.@ {$4b32}, [%A], $u32"},
    {"s8 u8", "wmma.load.<a|b>.sync.aligned.<row|col>.m16n16k16.@ {$2b32}, [%A], $u32"},
    {"tf32", "wmma.load.<a|b>.sync.aligned.<row|col>.m16n16k8.@ {$4b32}, [%A], $u32"},
    {"f64", "wmma.load.<a|b>.sync.aligned.<row|col>.m8n8k4.@ {$1f64}, [%A], $u32"},
    {"s4 u4", "wmma.load.a.sync.aligned.row.m8n8k32.@ {$1b32}, [%A], $u32"},
    {"b1", "wmma.load.b.sync.aligned.col.m8n8k128.@ {$1b32}, [%A], $u32"},
    {"f16", "wmma.load.c.sync.aligned.<row|col>.<m16n16k16|m32n8k16|m8n32k16>.@ {$4b32}, [%A], $u32"},
    {"f32", "wmma.load.c.sync.aligned.<row|col>.<m16n16k16|m32n8k16|m8n32k16>.@ {$8f32}, [%A], $u32"},
    {"f16", "wmma.store.d.sync.aligned.<row|col>.<m16n16k16|m32n8k16|m8n32k16>.@ [%A], {$4b32}, $u32"},
    {"f32", "wmma.store.d.sync.aligned.<row|col>.<m16n16k16|m32n8k16|m8n32k16>.@ [%A], {$8f32}, $u32"},
    {"s32", "wmma.store.d.sync.aligned.<row|col>.<m16n16k16|m8n32k16>.@ [%A], {$8s32}, $u32"},
    {"f64", "wmma.store.d.sync.aligned.<row|col>.m8n8k4.@ [%A], {$2f64}, $u32"},
    {"f32", "wmma.mma.sync.aligned.<row|col>.<row|col>.<m16n16k16|m32n8k16|m8n32k16>.@.@ {$8f32}, {$8b32}, "
            "{$8b32}, {$8f32}"},
    {"f16", "wmma.mma.sync.aligned.<row|col>.<row|col>.<m16n16k16|m32n8k16|m8n32k16>.@.@ {$4b32}, {$8b32}, "
            "{$8b32}, {$4b32}"},
    {"bf16",
     "wmma.mma.sync.aligned.<row|col>.<row|col>.m16n16k16.f32.@.@.f32 {$8f32}, {$4b32}, {$4b32}, {$8f32}"},
    {"s8 u8", "wmma.mma.sync.aligned.<row|col>.<row|col>.m16n16k16.s32.@.@.s32<.satfinite|> {$8s32}, "
              "{$2b32}, {$2b32}, {$8s32}"},
    {"tf32",
     "wmma.mma.sync.aligned.<row|col>.<row|col>.m16n16k8.f32.@.@.f32 {$8f32}, {$4b32}, {$4b32}, {$8f32}"},
    {"f64", "wmma.mma.sync.aligned.<row|col>.<row|col>.m8n8k4.@.@.@.@ {$2f64}, {$1f64}, {$1f64}, {$2f64}"},
    {"", "wgmma.fence.sync.aligned"},
    {"", "tcgen05.fence::before_thread_sync"},
    // video
    {"u32 s32",
     "<vadd|vsub|vabsdiff|vmin|vmax>.<u32|s32>.@.@<.sat|><.add|.min|.max|> $b32, $b32.b0, $b32.h1, $b32"},
    {"u32 s32", "<vshl|vshr>.<u32|s32>.@.u32<.sat|>.<clamp|wrap><.add|> $b32, $b32, $b32, $b32"},
    {"u32 s32", "vmad.<u32|s32>.@.@<.sat|><.shr7|.shr15|> $b32, $b32.h0, $b32.h0, $b32"},
    {"u32 s32", "vset.@.@.<eq|ne|lt|le|gt|ge><.add|.min|.max|> $b32, $b32, $b32, $b32"},
    {"u32 s32", "<vadd|vsub|vavrg|vabsdiff|vmin|vmax><2|4>.<u32|s32>.@.@<.sat|.add|> $b32, $b32, $b32, $b32"},
    {"u32 s32", "vset<2|4>.@.@.<eq|ne|lt|le|gt|ge><.add|> $b32, $b32, $b32, $b32"},
};

// "<a|b>" outside of others becomes one text for each alternative.
void expand(const std::string& text, std::vector<std::string>& out) {
  std::size_t open = text.find('<');
  if (open == std::string::npos) {
    out.push_back(text);
    return;
  }
  std::size_t close = text.find('>', open), at = open + 1;
  while (at <= close) {
    std::size_t end = std::min(text.find('|', at), close);
    expand(text.substr(0, open) + text.substr(at, end - at) + text.substr(close + 1), out);
    at = end + 1;
  }
}

// The type of a register that holds values of a type.
std::string register_type(const std::string& type) {
  if (type == "f16" || type == "bf16" || type == "u8" || type == "s8")
    return "b16";
  if (type == "f16x2" || type == "bf16x2" || type == "tf32")
    return "b32";
  return type;
}

struct Form {
  std::string text;                   // with registers filled in
  std::vector<std::string> registers; // their types
};

// "$f32" and "$4f32" to registers.
Form filled(const std::string& pattern, const std::string& type) {
  Form form;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == '@') {
      form.text += type;
      continue;
    }
    if (pattern[i] != '$') {
      form.text += pattern[i];
      continue;
    }
    std::size_t end = i + 1, count = 1;
    if (pattern[end] >= '1' && pattern[end] <= '9')
      count = static_cast<std::size_t>(pattern[end++] - '0');
    std::size_t start = end;
    while (end < pattern.size() &&
           (std::isalnum(static_cast<unsigned char>(pattern[end])) || pattern[end] == '@'))
      ++end;
    std::string name = pattern.substr(start, end - start);
    for (std::size_t k = 0; k < count; ++k) {
      form.text += (k ? ", " : "") + std::string("%r") + std::to_string(form.registers.size());
      form.registers.push_back(name == "@" ? type : name);
    }
    i = end - 1;
  }
  return form;
}

std::string kernel_around(const Form& form) {
  std::string text =
      ".version 8.7\n.target sm_100a\n.address_size 64\n.func F() { ret; }\n"
      ".visible .entry k() {\n.shared .align 16 .b8 memory[256];\n.reg .b64 %A;\n.reg .b32 %S;\n";
  for (std::size_t i = 0; i < form.registers.size(); ++i)
    text += ".reg ." + register_type(form.registers[i]) + " %r" + std::to_string(i) + ";\n";
  return text + "L: .branchtargets M, N;\n" + form.text + ";\nM: N: ret;\n}\n";
}

// Why the form is refused; empty where it is taken.
std::string refusal_of(const Form& form) {
  ptx::Module module;
  ptx::ParseError error;
  std::string text = kernel_around(form);
  if (!ptx::parse(text, module, error))
    return error.message;
  std::vector<std::string> found = refusals(module);
  return found.empty() ? std::string() : found[0].substr(found[0].find(": ") + 2);
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (char c : text)
    out += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  return out + "\"";
}

void print_form(const Form& form, const std::string& refusal) {
  std::size_t space = form.text.find(' ');
  std::string name = form.text.substr(0, space), operands, types;
  if (space != std::string::npos)
    operands = form.text.substr(space + 1);
  for (const std::string& type : form.registers)
    types += (types.empty() ? "" : ", ") + quoted(type);
  std::printf("{\"form\": %s, \"operands\": %s, \"registers\": [%s], \"implemented\": %s, \"refusal\": %s}\n",
              quoted(name).c_str(), quoted(operands).c_str(), types.c_str(),
              refusal.empty() ? "true" : "false", quoted(refusal).c_str());
}

} // namespace

int list_forms() {
  std::set<std::string> reached;
  for (const Proposal& proposal : kProposals) {
    std::istringstream types(*proposal.types ? proposal.types : "-");
    for (std::string type; types >> type;) {
      std::vector<std::string> patterns;
      expand(proposal.pattern, patterns);
      for (const std::string& pattern : patterns) {
        Form form = filled(pattern, type);
        reached.insert(form.text.substr(0, form.text.find_first_of(". ")));
        print_form(form, refusal_of(form));
      }
    }
  }
  int missing = 0;
  for (std::string_view opcode : instructions())
    if (!reached.contains(std::string(opcode))) {
      std::fprintf(stderr, "exec-run: no form of %.*s is proposed\n", static_cast<int>(opcode.size()),
                   opcode.data());
      ++missing;
    }
  return missing ? 1 : 0;
}

} // namespace aliquot::simgpu::exec
