"""Nodes and pods from files in the form of the openb traces (Alibaba's cluster-trace-gpu-v2023)."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aliquot.errors import InvalidValueError
from aliquot.placement.demand import WHOLE_MILLI, Demand, on_models
from aliquot.placement.packing import DeviceShape, NodeShape
from aliquot.placement.strategies import Mix


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod. `lifetime_s` is None where the trace has no times."""

    demand: Demand
    size_milli: int
    lifetime_s: float | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """A cluster, and what was asked of it."""

    name: str
    shapes: tuple[NodeShape, ...]
    pods: tuple[Pod, ...]
    models: tuple[str, ...] = ()

    @property
    def devices(self) -> int:
        """Cards of all nodes."""
        return sum(len(shape.devices) for shape in self.shapes)

    @property
    def mix(self) -> Mix:
        """How often each demand occurs in the list."""
        return Mix.of(pod.demand for pod in self.pods)


@dataclass(frozen=True, slots=True)
class Sample:
    """One run's arrivals and nodes, drawn by a seed."""

    arrivals: tuple[Pod, ...]
    shapes: tuple[NodeShape, ...]


def read(nodes: Path, pods: Path) -> Trace:
    """Reads both files. Raises `InvalidValueError`, which names file and line."""
    rows = list(_rows(nodes, ("cpu_milli", "memory_mib", "gpu", "model")))
    names = sorted({row["model"] for _, row in rows if row["model"]})
    numbers = {name: number for number, name in enumerate(names)}
    shapes = tuple(_shape(nodes, line, row, numbers) for line, row in rows)
    if not any(shape.devices for shape in shapes):
        raise InvalidValueError(f"{nodes} has no node with a card")
    needed = ("cpu_milli", "memory_mib", "num_gpu", "gpu_milli")
    listed = tuple(_pod(pods, line, row, numbers) for line, row in _rows(pods, needed))
    if not any(pod.size_milli for pod in listed):
        raise InvalidValueError(f"{pods} has no pod that asks for a card")
    return Trace(pods.stem, shapes, listed, tuple(numbers))


def sample(trace: Trace, seed: int, arrivals: float) -> Sample:
    """Shuffles the pods; draws more, or drops some, until `arrivals` times the cards are asked for."""
    generator = random.Random(seed)
    wanted = arrivals * trace.devices * WHOLE_MILLI
    drawn = list(trace.pods)
    generator.shuffle(drawn)
    asked = sum(pod.size_milli for pod in drawn)
    while asked < wanted:
        drawn.append(generator.choice(trace.pods))
        asked += drawn[-1].size_milli
    while drawn and asked - drawn[-1].size_milli >= wanted:  # shuffled: the last is a random one
        asked -= drawn.pop().size_milli
    shapes = list(trace.shapes)
    generator.shuffle(shapes)
    return Sample(tuple(drawn), tuple(shapes))


def _rows(file: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            reader = csv.DictReader(opened)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise InvalidValueError(f"{file} has no column {missing[0]!r}")
            for row in reader:
                yield reader.line_num, {name: value or "" for name, value in row.items() if name}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValueError(f"{file} cannot be read: {error}") from error


def _shape(file: Path, line: int, row: dict[str, str], numbers: dict[str, int]) -> NodeShape:
    count = _number(file, line, row, "gpu")
    model = numbers.get(row["model"], 0)
    return NodeShape(
        _number(file, line, row, "cpu_milli"),
        _number(file, line, row, "memory_mib"),
        tuple(DeviceShape(model) for _ in range(count)),
    )


def _pod(file: Path, line: int, row: dict[str, str], numbers: dict[str, int]) -> Pod:
    cpu, memory = _number(file, line, row, "cpu_milli"), _number(file, line, row, "memory_mib")
    count, milli = _number(file, line, row, "num_gpu"), _number(file, line, row, "gpu_milli")
    if not count:
        return Pod(Demand(cpu, memory), 0, _lifetime(row))
    named = [name for name in row.get("gpu_spec", "").split("|") if name]
    models = {numbers.setdefault(name, len(numbers)) for name in named} or set(numbers.values())
    demand = on_models(models, compute_milli=milli, count=count, cpu_milli=cpu, memory_mib=memory)
    return Pod(demand, count * milli, _lifetime(row))


def _lifetime(row: dict[str, str]) -> float | None:
    begun = row.get("scheduled_time") or row.get("creation_time")
    ended = row.get("deletion_time")
    if not begun or not ended:
        return None
    return max(1.0, float(ended) - float(begun))


def _number(file: Path, line: int, row: dict[str, str], column: str) -> int:
    text = row[column]
    if not text.isascii() or not text.isdigit():
        raise InvalidValueError(f"{file}, line {line}: {column} is not a whole number: {text!r}")
    return int(text)
