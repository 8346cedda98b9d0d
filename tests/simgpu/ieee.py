"""IEEE 754 arithmetic by exact fractions: what tests hold the simulated GPU's floating point against.

Slow and plain on purpose, and nothing of the interpreter in it. Values are bit patterns; NaNs are one NaN, as
PTX promises no payload.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import isqrt


@dataclass(frozen=True)
class Format:
    """A binary interchange format: `width` bits, of which `fraction` hold the fraction."""

    width: int
    fraction: int

    @property
    def precision(self) -> int:
        """Significant bits, the hidden one included."""
        return self.fraction + 1

    @property
    def exponent_bits(self) -> int:
        """Bits of the exponent."""
        return self.width - 1 - self.fraction

    @property
    def bias(self) -> int:
        """What is added to an exponent when it is stored."""
        return (1 << (self.exponent_bits - 1)) - 1

    @property
    def sign(self) -> int:
        """The sign bit."""
        return 1 << (self.width - 1)

    @property
    def infinity(self) -> int:
        """The pattern of +infinity."""
        return ((1 << self.exponent_bits) - 1) << self.fraction

    @property
    def largest(self) -> int:
        """The pattern of the largest finite number."""
        return self.infinity - 1

    @property
    def nan(self) -> int:
        """The pattern that stands for every NaN."""
        return self.infinity | 1 << (self.fraction - 1)

    def is_nan(self, bits: int) -> bool:
        """Whether a pattern is a NaN."""
        return bits & ~self.sign > self.infinity

    def is_inf(self, bits: int) -> bool:
        """Whether a pattern is an infinity."""
        return bits & ~self.sign == self.infinity

    def is_negative(self, bits: int) -> bool:
        """Whether a pattern has its sign bit set."""
        return bits & self.sign != 0

    def value(self, bits: int) -> Fraction:
        """The number that a finite pattern stands for."""
        stored = (bits & ~self.sign) >> self.fraction
        significand = bits & ((1 << self.fraction) - 1)
        if stored:
            significand |= 1 << self.fraction
        exponent = max(stored, 1) - self.bias - self.fraction
        magnitude = Fraction(significand) * Fraction(2) ** exponent
        return -magnitude if self.is_negative(bits) else magnitude

    def flush(self, bits: int) -> int:
        """`.ftz`: a subnormal becomes the zero of its sign."""
        return bits & self.sign if 0 < bits & ~self.sign < 1 << self.fraction else bits


F16, BF16, F32, F64 = Format(16, 10), Format(16, 7), Format(32, 23), Format(64, 52)


def _rounded(exact: Fraction, mode: str, negative: bool) -> int:
    """An integer near a non-negative fraction; `negative` is the sign that it will get."""
    whole, rest = divmod(exact.numerator, exact.denominator)
    if rest == 0:
        return whole
    if mode == "rn":
        twice = 2 * rest - exact.denominator
        return whole + (twice > 0 or (twice == 0 and whole % 2 == 1))
    away = {"rz": False, "rm": negative, "rp": not negative}[mode]
    return whole + away


def encode(fmt: Format, exact: Fraction, mode: str = "rn", negative_zero: bool = False) -> int:
    """The pattern of a number after rounding (`rn`, `rz`, `rm`, `rp`)."""
    if exact == 0:
        return fmt.sign if negative_zero else 0
    negative, magnitude = exact < 0, abs(exact)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if Fraction(2) ** exponent > magnitude:
        exponent -= 1
    quantum = max(exponent, 1 - fmt.bias) - fmt.fraction
    count = _rounded(magnitude / Fraction(2) ** quantum, mode, negative)
    # Counting quanta from zero is what a pattern does: a carry out of the fraction runs into the exponent.
    bits = count + ((quantum + fmt.fraction + fmt.bias - 1) << fmt.fraction)
    if bits >= fmt.infinity:
        outward = {"rn": True, "rz": False, "rm": negative, "rp": not negative}[mode]
        bits = fmt.infinity if outward else fmt.largest
    return bits | (fmt.sign if negative else 0)


def add(fmt: Format, a: int, b: int, mode: str = "rn") -> int:
    """a + b."""
    return fma(fmt, a, encode(fmt, Fraction(1)), b, mode)


def sub(fmt: Format, a: int, b: int, mode: str = "rn") -> int:
    """a - b."""
    return fmt.nan if fmt.is_nan(b) else add(fmt, a, b ^ fmt.sign, mode)


def mul(fmt: Format, a: int, b: int, mode: str = "rn") -> int:
    """a * b."""
    if fmt.is_nan(a) or fmt.is_nan(b):
        return fmt.nan
    sign = (a ^ b) & fmt.sign
    if fmt.is_inf(a) or fmt.is_inf(b):
        zero = a & ~fmt.sign == 0 or b & ~fmt.sign == 0
        return fmt.nan if zero else fmt.infinity | sign
    return encode(fmt, fmt.value(a) * fmt.value(b), mode, sign != 0)


def fma(fmt: Format, a: int, b: int, c: int, mode: str = "rn") -> int:
    """a * b + c, rounded once."""
    if any(fmt.is_nan(x) for x in (a, b, c)):
        return fmt.nan
    sign = (a ^ b) & fmt.sign
    if fmt.is_inf(a) or fmt.is_inf(b):
        zero = a & ~fmt.sign == 0 or b & ~fmt.sign == 0
        clash = fmt.is_inf(c) and (c & fmt.sign) != sign
        return fmt.nan if zero or clash else fmt.infinity | sign
    if fmt.is_inf(c):
        return c
    product, addend = fmt.value(a) * fmt.value(b), fmt.value(c)
    same_zero = product == 0 and addend == 0 and sign == c & fmt.sign
    return encode(fmt, product + addend, mode, sign != 0 if same_zero else mode == "rm")


def div(fmt: Format, a: int, b: int, mode: str = "rn") -> int:
    """a / b."""
    if fmt.is_nan(a) or fmt.is_nan(b):
        return fmt.nan
    sign = (a ^ b) & fmt.sign
    a_zero, b_zero = a & ~fmt.sign == 0, b & ~fmt.sign == 0
    if (a_zero and b_zero) or (fmt.is_inf(a) and fmt.is_inf(b)):
        return fmt.nan
    if fmt.is_inf(a) or b_zero:
        return fmt.infinity | sign
    if fmt.is_inf(b):
        return sign
    return encode(fmt, fmt.value(a) / fmt.value(b), mode, sign != 0)


def sqrt(fmt: Format, a: int, mode: str = "rn") -> int:
    """The square root."""
    if fmt.is_nan(a) or a & ~fmt.sign == 0 or a == fmt.infinity:
        return fmt.nan if fmt.is_nan(a) else a
    if fmt.is_negative(a):
        return fmt.nan
    value = fmt.value(a)
    scale = 1200  # bits, far more than any rounding looks at
    whole = value.numerator * (1 << 2 * scale) // value.denominator
    root = isqrt(whole)
    inexact = root * root != whole
    return encode(fmt, Fraction(2 * root + inexact, 2 << scale), mode)


def minimum(fmt: Format, a: int, b: int, sign: int = 1, nan_wins: bool = False) -> int:
    """min, or max with `sign` -1: a number beats a NaN unless `nan_wins`, and -0 is below +0."""
    if fmt.is_nan(a) or fmt.is_nan(b):
        if nan_wins or (fmt.is_nan(a) and fmt.is_nan(b)):
            return fmt.nan
        return b if fmt.is_nan(a) else a

    def key(bits: int) -> int:
        return (-1 if fmt.is_negative(bits) else 1) * (bits & ~fmt.sign) * 2 - fmt.is_negative(bits)

    return min(a, b, key=lambda bits: sign * key(bits))


def saturate(fmt: Format, bits: int) -> int:
    """`.sat`: clamped to [0, 1], NaN to +0."""
    one = encode(fmt, Fraction(1))
    if fmt.is_nan(bits) or fmt.is_negative(bits):
        return 0
    return min(bits, one)


def to_integer(fmt: Format, bits: int, mode: str, width: int, signed: bool) -> int:
    """cvt to an integer (`rni`, `rzi`, `rmi`, `rpi`): clamped to the type's range.

    A NaN gives 0, or the highest bit alone where 64 bits are on either side (PTX ISA 9.7.9, cvt).
    """
    low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else (0, (1 << width) - 1)
    if fmt.is_nan(bits):
        top = low if signed else 1 << (width - 1)
        return top if 64 in (fmt.width, width) else 0
    negative = fmt.is_negative(bits)
    if fmt.is_inf(bits):
        return low if negative else high
    whole = _rounded(abs(fmt.value(bits)), mode[:2], negative)
    return max(low, min(high, -whole if negative else whole))


def convert(source: Format, target: Format, bits: int, mode: str = "rn") -> int:
    """cvt between formats."""
    if source.is_nan(bits):
        return target.nan
    sign = target.sign if source.is_negative(bits) else 0
    if source.is_inf(bits):
        return target.infinity | sign
    return encode(target, source.value(bits), mode, sign != 0)


def round_to_integral(fmt: Format, bits: int, mode: str) -> int:
    """cvt.rni and its kin within a format."""
    if fmt.is_nan(bits):
        return fmt.nan
    if fmt.is_inf(bits):
        return bits
    negative = fmt.is_negative(bits)
    whole = _rounded(abs(fmt.value(bits)), mode[:2], negative)
    return encode(fmt, Fraction(-whole if negative else whole), "rn", negative)
