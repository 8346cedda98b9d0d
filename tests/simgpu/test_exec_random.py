"""Random programs give the same results on every instruction set.

The baseline's handlers are compiled from scalar loops where the others use vector instructions, so a wrong
lane, mask or row shows as a difference. Whether results are right is for the tests of single instructions.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from exec_runner import ISAS, Runner, find_program

pytestmark = pytest.mark.sanitized

INTEGER = [
    "add.u32", "sub.s32", "mul.lo.u32", "mul.hi.u32", "mul.hi.s32", "min.s32", "max.u32", "and.b32",
    "xor.b32", "shl.b32", "shr.u32", "shr.s32", "div.u32", "div.s32", "rem.s32", "rem.u32",
]  # fmt: skip
LONG = [
    "add.u64",
    "sub.s64",
    "mul.lo.u64",
    "mul.hi.u64",
    "mul.hi.s64",
    "min.s64",
    "max.u64",
    "div.u64",
    "rem.s64",
]
FLOAT = [
    "add.rn.f32",
    "sub.f32",
    "mul.rn.f32",
    "min.f32",
    "max.ftz.f32",
    "div.rn.f32",
    "add.rz.f32",
    "mul.rp.f32",
]
SHORT = ["add.f16", "mul.f16", "add.s16", "mul.lo.u16", "min.u16"]


class Program:
    """Text of a random kernel over 12 integers, floats and long integers, 8 short ones and 8 predicates."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._open: list[int] = []  # labels of forward branches not yet placed
        self._labels = 0
        self.lines = [
            ".reg .pred %p<8>; .reg .b32 %r<20>; .reg .b64 %rd<20>; .reg .f32 %f<12>; .reg .b16 %h<8>;"
        ]
        self._initialise()
        for _ in range(150):
            self._step()
        self.lines += [f"L{label}:" for label in reversed(self._open)]
        self._store()

    def text(self) -> str:
        return ".visible .entry k(.param .u64 out)\n{\n" + "\n".join(self.lines) + "\nret;\n}\n"

    def _initialise(self) -> None:
        number = self._random.randrange
        self.lines.append("mov.u32 %r12, %tid.x;")
        self.lines += [f"mad.lo.u32 %r{i}, %r12, {number(1 << 31)}, {number(1 << 31)};" for i in range(12)]
        self.lines += [f"cvt.rn.f32.s32 %f{i}, %r{i};" for i in range(12)]
        self.lines += [f"mul.wide.u32 %rd{i}, %r{i}, %r{(i + 1) % 12};" for i in range(12)]
        self.lines += [f"setp.lt.s32 %p{i}, %r{i}, %r{i + 1};" for i in range(8)]
        self.lines += [f"cvt.u16.u32 %h{i}, %r{i};" for i in range(8)]

    def _any(self, bank: str) -> str:
        return f"%{bank}{self._random.randrange(8 if bank in 'ph' else 12)}"

    def _step(self) -> None:
        kind = self._random.randrange(40)
        if kind == 0 and len(self._open) < 4:
            self.lines.append(f"@{self._any('p')} bra L{self._labels};")
            self._open.append(self._labels)
            self._labels += 1
        elif kind == 1 and self._open:
            self.lines.append(f"L{self._open.pop()}:")
        elif kind == 2 and not self._open:
            lane = self._random.randrange(32)
            self.lines.append(
                f"shfl.sync.bfly.b32 {self._any('r')}, {self._any('r')}, {lane}, 31, 0xffffffff;"
            )
        else:
            guard = self._random.choice(["", "", "", f"@{self._any('p')} ", f"@!{self._any('p')} "])
            self.lines.append(guard + self._instruction())

    def _instruction(self) -> str:
        choice = self._random.choice
        form = choice([
            f"{choice(INTEGER)} r, r, r", f"{choice(LONG)} d, d, d", f"{choice(FLOAT)} f, f, f",
            f"{choice(SHORT)} h, h, h", "fma.rn.f32 f, f, f, f", "sqrt.rn.f32 f, f", "fma.rn.f16 h, h, h, h",
            f"setp.{choice(['lt', 'ge', 'eq'])}.{choice(['s32', 'u32'])} p, r, r",
            f"setp.{choice(['lt', 'geu', 'equ', 'nan'])}.f32 p, f, f", "selp.b32 r, r, r, p",
            f"bfe.{choice(['u32', 's32'])} r, r, r, r", "bfi.b32 r, r, r, r, r", "prmt.b32 r, r, r, r",
            f"lop3.b32 r, r, r, r, {self._random.randrange(256)}", "popc.b64 r, d", "clz.b32 r, r",
            "brev.b32 r, r", f"shf.{choice('lr')}.{choice(['wrap', 'clamp'])}.b32 r, r, r, r",
            "dp4a.s32.u32 r, r, r, r",
            f"cvt.{choice(['rzi', 'rni', 'rmi'])}.{choice(['s32', 'u32'])}.f32 r, f", "cvt.rn.f32.u32 f, r",
            "cvt.s64.s32 d, r", "cvt.u32.u64 r, d", "cvt.rn.f32.s64 f, d", "cvt.rn.f16.f32 h, f",
            "cvt.f32.f16 f, h", "add.f16x2 r, r, r", "mad.wide.s32 d, r, r, d",
        ])  # fmt: skip
        opcode, operands = form.split(" ", 1)
        banks = {"r": "r", "d": "rd", "f": "f", "h": "h", "p": "p"}
        names = [self._any(banks[o]) if o in banks else o for o in operands.split(", ")]
        return f"{opcode} {', '.join(names)};"

    def _store(self) -> None:
        self.lines.append("mov.u32 %r13, %tid.x; ld.param.u64 %rd12, [out]; mul.wide.u32 %rd13, %r13, 256;")
        self.lines.append("add.u64 %rd12, %rd12, %rd13;")
        for i in range(12):
            self.lines.append(
                f"st.global.u32 [%rd12+{4 * i}], %r{i}; st.global.u64 [%rd12+{96 + 8 * i}], %rd{i};"
            )
            # Which NaN an operation gives is not specified.
            self.lines.append(f"mov.b32 %r14, %f{i}; setp.nan.f32 %p0, %f{i}, %f{i};")
            self.lines.append(
                f"selp.b32 %r14, 0x7fffffff, %r14, %p0; st.global.u32 [%rd12+{48 + 4 * i}], %r14;"
            )
        self.lines += [f"st.global.u16 [%rd12+{200 + 2 * i}], %h{i};" for i in range(8)]


@pytest.mark.parametrize("seed", range(24))
def test_instruction_sets_agree_on_random_programs(native_build: Path, tmp_path: Path, seed: int) -> None:
    runner = Runner(find_program(native_build), tmp_path)
    text = Program(seed).text()
    threads = 44  # a full warp and a partial one
    results = [
        runner.run(text, "k", np.zeros((threads, 64), np.uint32), block=(threads,), isa=isa).arrays[0]
        for isa in ISAS
    ]
    for result in results[1:]:
        assert np.array_equal(results[0], result)
