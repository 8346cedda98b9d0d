"""What the tests of CUDA clients share: a card, the programs that run on it, a compiler of CUDA C++.

A client's features are functions `check_*` of a script in `features/`, which knows nothing of Aliquot. One
process runs them all (importing a client takes longer than most of them); each is a test of its own here.
Every test runs on the simulated card; with `pytest -m gpu` the same tests run on the real one instead.
"""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
NVIDIA = (
    Path(sys.prefix)
    / "lib"
    / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    / "site-packages"
    / "nvidia"
)


@dataclass(frozen=True)
class Card:
    """A card that programs of a test module run on."""

    simulated: bool
    environment: Mapping[str, str]

    def run(
        self, *command: str | Path, timeout: float = 100, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on the card; keyword arguments are environment variables."""
        return subprocess.run(
            [str(part) for part in command],
            env={**self.environment, **extra},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def python(self, *arguments: str | Path, timeout: float = 100, **extra: str):
        """Run this Python on the card."""
        return self.run(sys.executable, *arguments, timeout=timeout, **extra)


@pytest.fixture(scope="module", params=["simulated", pytest.param("real", marks=pytest.mark.gpu)])
def card(request: pytest.FixtureRequest) -> Iterator[Card]:
    """The card, fresh for each test module where it is a simulated one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ALIQUOT_SIMGPU")}
    if request.param == "real":
        yield Card(simulated=False, environment=environment)
        return
    libraries = request.getfixturevalue("native_dir") / "simgpu"
    home = Path(
        tempfile.mkdtemp(prefix="aliquot-test-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    )
    environment["LD_LIBRARY_PATH"] = ":".join(
        filter(None, [str(libraries), environment.get("LD_LIBRARY_PATH", "")])
    )
    # docs/clients.md says which client needs which of these, and why.
    environment |= {"CUPY_COMPILE_WITH_PTX": "1", "CUPY_ACCELERATORS": "", "CUPY_CACHE_IN_MEMORY": "1"}
    environment["ALIQUOT_SIMGPU_HOME"] = str(home)
    # Shared by all simulated machines of a person; next to nothing of it is touched.
    environment["ALIQUOT_SIMGPU_HOST_BYTES"] = "64GiB"
    if preload := os.environ.get("ALIQUOT_TEST_PRELOAD"):  # the sanitizers' runtime libraries
        environment["LD_PRELOAD"] = preload
    yield Card(simulated=True, environment=environment)
    shutil.rmtree(home, ignore_errors=True)


def features_of(script: str) -> list[str]:
    """The names of the features in `features/<script>.py`, without importing the client."""
    tree = ast.parse((HERE / "features" / f"{script}.py").read_text(encoding="utf-8"))
    return [
        node.name.removeprefix("check_")
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("check_")
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `feature` runs once for each feature of its module's FEATURES script."""
    script = vars(metafunc.module).get("FEATURES")
    if script and "feature" in metafunc.fixturenames:
        metafunc.parametrize("feature", features_of(script))


@dataclass
class FeatureRun:
    """What one process said about all features of a script."""

    process: subprocess.CompletedProcess[str]
    failures: dict[str, str | None] = field(default_factory=dict)
    """By feature: None, or why it failed."""

    def expect(self, name: str) -> None:
        """Fail the test if the feature did not hold, or the process ended before it came to it."""
        if name not in self.failures:
            ended = f"the process ended with {self.process.returncode} before it reported {name}"
            pytest.fail(f"{ended}\n{self.process.stderr[-4000:]}", pytrace=False)
        if self.failures[name] is not None:
            pytest.fail(f"{self.failures[name]}\n{self.process.stderr[-2000:]}", pytrace=False)


@pytest.fixture(scope="module")
def feature_run(request: pytest.FixtureRequest, card: Card) -> FeatureRun:
    """All features of the module's FEATURES script, run once."""
    process = card.python(HERE / "features" / "run.py", HERE / "features" / f"{request.module.FEATURES}.py")
    found = FeatureRun(process)
    for line in process.stdout.splitlines():
        if line.startswith("feature: "):
            report = json.loads(line.removeprefix("feature: "))
            found.failures[report["name"]] = report["failure"]
    return found


BuildProgram = Callable[..., Path]


@pytest.fixture(scope="session")
def cuda_program() -> BuildProgram:
    """Builds `programs/<name>.cu` with nvcc; see `programs/build.py`. Programs are kept in build/clients."""
    build = HERE / "programs" / "build.py"

    def program(name: str, *, toolkit: str, runtime: str, compression: str = "default") -> Path:
        command = [sys.executable, str(build), name, toolkit, runtime, compression]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.fail(f"{name}.cu cannot be built:\n{done.stderr[-4000:]}", pytrace=False)
        return Path(done.stdout.strip())

    return program


Example = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def example(card: Card, tmp_path: Path) -> Example:
    """Runs a program of `examples/`; fails unless it ends well, says `expect` and draws its picture."""

    def run(name: str, *arguments: object, expect: str) -> subprocess.CompletedProcess[str]:
        picture = tmp_path / f"{name}.png"
        draws = () if name == "greedy" else ("--out", str(picture))
        done = card.python(ROOT / "examples" / f"{name}.py", *map(str, arguments), *draws)
        assert done.returncode == 0, done.stdout + done.stderr
        assert expect in done.stdout
        assert not draws or picture.read_bytes().startswith(b"\x89PNG")
        return done

    return run


@pytest.fixture
def on_share(card: Card) -> Example:
    """Runs a command inside `aliquot run` on the module's card."""

    def run(*command: object, vram: str = "1Gi") -> subprocess.CompletedProcess[str]:
        outside = dict(card.environment)
        # As a person has it: `aliquot run` arranges what the program needs.
        for name in ("LD_LIBRARY_PATH", "CUPY_COMPILE_WITH_PTX", "CUPY_ACCELERATORS"):
            outside.pop(name, None)
        simulate = ("--simulate",) if card.simulated else ()
        start = [sys.executable, "-c", "from aliquot.cli.main import main; main()", "run", *simulate]
        return subprocess.run(
            [*start, "--vram", vram, "--", *map(str, command)],
            env=outside,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )

    return run


@pytest.fixture
def feature_on_share(request: pytest.FixtureRequest, on_share: Example) -> Example:
    """Runs one feature of the module's FEATURES script inside `aliquot run`; fails unless it holds there.

    The default leaves 300 MiB beside the context, which takes 464 MiB of an H100.
    """

    def run(name: str, *, vram: str = "764Mi") -> subprocess.CompletedProcess[str]:
        folder = HERE / "features"
        done = on_share(
            sys.executable, folder / "run.py", folder / f"{request.module.FEATURES}.py", name, vram=vram
        )
        assert f'"name": "{name}", "failure": null' in done.stdout, done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def example_on_share(on_share: Example, tmp_path: Path) -> Example:
    """Runs a program of `examples/` inside `aliquot run`; fails unless both end well."""

    def run(name: str, *arguments: object, vram: str = "1Gi") -> subprocess.CompletedProcess[str]:
        draws = () if name == "greedy" else ("--out", tmp_path / f"{name}.png")
        command = (sys.executable, ROOT / "examples" / f"{name}.py", *arguments, *draws)
        done = on_share(*command, vram=vram)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "VRAM peak" in done.stderr
        return done

    return run
