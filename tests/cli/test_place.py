"""`aliquot place` and `aliquot defragment` as a person meets them: golden files of what they say.

ALIQUOT_UPDATE_GOLDEN=1 writes the files anew.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = Path("examples/placement")
GOLDEN = Path(__file__).parent / "golden" / "place"
STATE = ("--state", str(EXAMPLES / "state.yaml"))

CASES: Mapping[str, tuple[int, tuple[str, ...]]] = {
    "share": (0, ("place", *STATE, "--claim", str(EXAMPLES / "share.yaml"), "--strategy", "best-fit")),
    "share-explained": (
        0,
        ("place", *STATE, "--claim", str(EXAMPLES / "share.yaml"), "--strategy", "best-fit", "--explain"),
    ),
    "too-much": (6, ("place", *STATE, "--claim", str(EXAMPLES / "too-much.yaml"), "--strategy", "best-fit")),
    "too-much-explained": (
        6,
        ("place", *STATE, "--claim", str(EXAMPLES / "too-much.yaml"), "--strategy", "best-fit", "--explain"),
    ),
    "gang": (0, ("place", *STATE, "--claim", str(EXAMPLES / "gang.yaml"), "--strategy", "best-fit")),
    "urgent": (
        6,
        (
            *("place", *STATE, "--claim", str(EXAMPLES / "urgent.yaml"), "--strategy", "best-fit"),
            *("--preempt", "--moves", "2"),
        ),
    ),
    "cards": (0, ("defragment", *STATE, "--cards", "2", "--strategy", "best-fit")),
    "hosts": (0, ("defragment", *STATE, "--hosts", "--strategy", "best-fit")),
}


def compare(name: str, said: str) -> None:
    file = GOLDEN / name
    if os.environ.get("ALIQUOT_UPDATE_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(said, encoding="utf-8")
    assert said == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", CASES)
def test_what_is_said(aliquot: Run, name: str) -> None:
    status, arguments = CASES[name]
    done = aliquot(*arguments, cwd=ROOT)
    assert done.returncode == status, done.stderr
    compare(f"{name}.txt", done.stdout + done.stderr)


@pytest.mark.parametrize("name", ["share-explained", "too-much", "gang", "urgent", "hosts"])
def test_what_programs_read(aliquot: Run, name: str) -> None:
    status, arguments = CASES[name]
    done = aliquot(*arguments, "--json", cwd=ROOT)
    assert done.returncode == status, done.stderr
    json.loads(done.stdout)
    compare(f"{name}.json", done.stdout)


def answers(
    aliquot: Run, claim: str, *more: str, state: Path = EXAMPLES / "state.yaml"
) -> list[dict[str, Any]]:
    done = aliquot("place", "--state", str(state), "--claim", "-", "--json", *more, input=claim, cwd=ROOT)
    assert done.returncode in (0, 6), done.stderr + done.stdout
    return json.loads(done.stdout)["decisions"]


def test_claims_of_one_file_are_placed_beside_each_other(aliquot: Run) -> None:
    claim = "name: {}\ndevices: 'h100:3'\n"
    first, second = answers(aliquot, claim.format("a") + "---\n" + claim.format("b"))
    assert first["placed"]
    assert not second["placed"]


def test_the_default_strategy_explains_its_terms(aliquot: Run) -> None:
    (answer,) = answers(aliquot, "name: c\ncompute: 20%\nvram: 8Gi\n", "--explain")
    assert answer["placed"]
    assert answer["strategy"] == "default"
    assert answer["score"] == pytest.approx(sum(answer["terms"].values()))
    assert answer["others"]


@pytest.mark.parametrize(
    ("state", "claim", "code"),
    [
        ("nodes: []\nclaims: [{name: c, at: {node: a, devices: [0]}}]", "name: c", "invalid-value"),
        (
            "nodes: [{name: a, cpu: 1, memory: 1Gi, devices: [t4]}]\n"
            "claims: [{name: b, compute: 60%, at: {node: a, devices: [0]}},"
            " {name: c, compute: 60%, at: {node: a, devices: [0]}}]",
            "name: d",
            "does-not-fit",
        ),
        (
            "nodes: [{name: a, cpu: 1, memory: 1Gi, devices: [t4]}]\n"
            "claims: [{name: b, compute: 60%, at: {node: a, devices: [0]}},"
            " {name: b, compute: 20%, at: {node: a, devices: [0]}}]",
            "name: d",
            "claim-exists",
        ),
        (
            "nodes: [{name: a, cpu: 1, memory: 1Gi, devices: [t4]}]\n"
            "claims: [{name: b, compute: 60%, mechanisms: mig, at: {node: a, devices: [0]}}]",
            "name: d",
            "illegal-grant",
        ),
        ("nodes: [{name: a}, {name: a}]", "name: d", "invalid-document"),
        ("nodes: []", "name: d\nmodels: zx81", "unknown-model"),
    ],
)
def test_a_state_that_cannot_be_is_refused_with_a_code(
    aliquot: Run, tmp_path: Path, state: str, claim: str, code: str
) -> None:
    (tmp_path / "state.yaml").write_text(state, encoding="utf-8")
    done = aliquot("place", "--state", "state.yaml", "--claim", "-", "--json", input=claim)
    assert done.returncode in (2, 6)
    assert json.loads(done.stdout)["error"]["code"] == code


def test_a_file_that_is_not_there(aliquot: Run) -> None:
    done = aliquot("place", "--state", "nowhere.yaml", "--claim", "c.yaml")
    assert done.returncode == 2
    assert "nowhere.yaml cannot be read: No such file" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_strategy_that_does_not_exist(aliquot: Run) -> None:
    done = aliquot("place", *STATE, "--claim", str(EXAMPLES / "share.yaml"), "--strategy", "best", cwd=ROOT)
    assert done.returncode == 2
    assert "there is no strategy 'best'" in done.stderr
    assert "best-fit" in done.stderr


def test_a_pool_places_by_weights_of_ones_own(aliquot: Run, tmp_path: Path) -> None:
    state = """
strategies: [{name: fullest, weights: {best_fit: 2}}]
pools: [{name: default, strategy: fullest}]
nodes: [{name: a, cpu: 4, memory: 8Gi, devices: ["t4:2"]}, {name: b, cpu: 4, memory: 8Gi, devices: [t4]}]
"""
    (tmp_path / "state.yaml").write_text(state, encoding="utf-8")
    (answer,) = answers(aliquot, "name: c\ncompute: 30%", state=tmp_path / "state.yaml")
    assert answer["strategy"] == "fullest"
    assert list(answer["terms"]) == ["best_fit"]
    assert answer["grant"]["node"] == "b"


def test_strategies_are_completed(aliquot: Run) -> None:
    line = "aliquot place --strategy best"
    asked = {"COMP_WORDS": line, "COMP_CWORD": "3", "_ALIQUOT_COMPLETE": "complete_bash"}
    assert "best-fit" in aliquot(env={**os.environ, **asked}).stdout.split()
