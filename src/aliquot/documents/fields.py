"""The fields of documents: amounts as people write them, parsed once."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, PlainValidator

from aliquot.documents.reading import Strict
from aliquot.errors import InvalidValueError
from aliquot.model import (
    ComputeRequest,
    DeviceSpecification,
    VramRequest,
    parse_device_specification,
    parse_mib,
    parse_percent,
    parse_tflops,
)

_CORES: Final = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<milli>m?)")
_RATIO: Final = re.compile(r"(?P<number>[0-9]{1,9}(?:\.[0-9]{1,9})?)\s*(?P<percent>%?)")
_TFLOPS: Final = re.compile(r"(?P<number>[0-9.]+)\s*tflops", re.I)


def _text(value: Any, what: str, example: str) -> str:
    """Numbers are taken for what they look like; lists, mappings and yes/no are not amounts."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidValueError(f"{value!r} is not {what}", hint=f"e.g. {example}")
    return str(value).strip()


def _mib(value: Any) -> int:
    if isinstance(value, int | float):
        raise InvalidValueError(f"{value!r} has no unit", hint="e.g. 16Gi, 24GB, 512MiB")
    return parse_mib(_text(value, "a size", "16Gi"))


def _cores(value: Any) -> int:
    text = _text(value, "a number of CPU cores", "4, 0.5 or 500m")
    match = _CORES.fullmatch(text)
    milli = Decimal(match["number"]) * (1 if match["milli"] else 1000) if match else None
    if milli is None or milli != milli.to_integral_value():
        raise InvalidValueError(f"{text!r} is not a number of CPU cores", hint="e.g. 4, 0.5 or 500m")
    return int(milli)


def _compute(value: Any) -> ComputeRequest:
    text = _text(value, "an amount of compute", "30% or 20TFLOPS")
    if match := _TFLOPS.fullmatch(text):
        return ComputeRequest(tflops=parse_tflops(match["number"]))
    if text.endswith("%"):
        return ComputeRequest(part=parse_percent(text))
    raise InvalidValueError(f"{text!r} is not an amount of compute", hint="e.g. 30% or 20TFLOPS")


def _vram(value: Any) -> VramRequest:
    if isinstance(value, str) and value.strip().endswith("%"):
        return VramRequest(part=parse_percent(value))
    mib = _mib(value)
    if not mib:
        raise InvalidValueError("no VRAM at all is asked for", hint="leave vram out, or ask for e.g. 8Gi")
    return VramRequest(mib=mib)


def _ratio(value: Any) -> Fraction:
    text = _text(value, "a ratio", "1.5")
    match = _RATIO.fullmatch(text)
    if match is None:
        raise InvalidValueError(f"{text!r} is not a ratio", hint="e.g. 1.5 or 150%")
    return Fraction(match["number"]) / (100 if match["percent"] else 1)


def _specification(value: Any) -> DeviceSpecification:
    return parse_device_specification(_text(value, "a line about devices", "H100:2"))


def _names(value: Any) -> Any:
    """One name stands for a list of one."""
    return [value] if isinstance(value, str) else value


Mib = Annotated[int, PlainValidator(_mib)]
CpuMilli = Annotated[int, PlainValidator(_cores)]
Compute = Annotated[ComputeRequest, PlainValidator(_compute)]
Vram = Annotated[VramRequest, PlainValidator(_vram)]
Ratio = Annotated[Fraction, PlainValidator(_ratio)]
Specification = Annotated[DeviceSpecification, PlainValidator(_specification)]
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class ComputeBounds(Strict):
    """`{request: 20%, limit: 50%}`."""

    request: Compute
    limit: Compute | None = None


class VramBounds(Strict):
    """`{request: 8Gi, limit: 16Gi}`."""

    request: Vram
    limit: Vram | None = None


def _bounds(value: Any) -> Any:
    """An amount alone is a request without a limit."""
    return value if isinstance(value, dict) else {"request": value}


ComputeField = Annotated[ComputeBounds, BeforeValidator(_bounds)]
VramField = Annotated[VramBounds, BeforeValidator(_bounds)]
