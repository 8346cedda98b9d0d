"""Programs of the CUDA runtime API, as nvcc makes them: libcudart 12 and 13, shared and static."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TOOLKITS = [("13", "shared"), ("13", "static"), ("12", "shared"), ("12", "static")]
RUNTIMES = {"12": range(12000, 13000), "13": range(13000, 14000)}


def features_of(program: str) -> list[str]:
    """The names in the table of `programs/<program>.cu`."""
    source = (HERE / "programs" / f"{program}.cu").read_text(encoding="utf-8")
    return re.findall(r'\{"(\w+)", \w+\}', source)


@pytest.fixture(scope="module", params=TOOLKITS, ids="-".join)
def toolkit(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


@pytest.mark.parametrize("feature", features_of("runtime"))
def test_runtime(card, cuda_program, toolkit, feature):
    done = card.run(cuda_program("runtime", toolkit=toolkit[0], runtime=toolkit[1]), feature)
    assert done.stdout.endswith(f"ok {feature}\n"), done.stdout + done.stderr
    assert done.returncode == 0


def test_is_the_toolkit_it_says(card, cuda_program, toolkit):
    done = card.run(cuda_program("runtime", toolkit=toolkit[0], runtime=toolkit[1]), "versions")
    found = re.search(r"^runtime (\d+)$", done.stdout, re.MULTILINE)
    assert found is not None, done.stdout + done.stderr
    assert int(found[1]) in RUNTIMES[toolkit[0]]


@pytest.mark.parametrize("feature", features_of("kernels"))
@pytest.mark.parametrize("version", ["12", "13"])
def test_kernels(card, cuda_program, version, feature):
    done = card.run(cuda_program("kernels", toolkit=version, runtime="shared"), feature)
    assert done.stdout.endswith(f"ok {feature}\n"), done.stdout + done.stderr
    if feature == "device_printf":
        said = [f"thread {n} of 64: {n}.50 words {1 << 40}%" for n in (0, 32)]
        assert sorted(done.stdout.splitlines()[:-1]) == sorted(said)


@pytest.mark.parametrize("compression", ["none", "speed", "balance", "size"])
def test_compressed_code(card, cuda_program, compression):
    program = cuda_program("broken", toolkit="13", runtime="shared", compression=compression)
    done = card.run(program, "illegal_address")
    assert done.stdout == "ok illegal_address\n", done.stderr


@pytest.mark.parametrize("feature", features_of("broken"))
@pytest.mark.parametrize("version", ["12", "13"])
def test_broken_program_gets_its_error_and_lives(card, cuda_program, version, feature):
    done = card.run(cuda_program("broken", toolkit=version, runtime="shared"), feature)
    assert done.stdout.endswith(f"ok {feature}\n"), done.stdout + done.stderr


@pytest.mark.parametrize("version", ["12", "13"])
def test_program_on_a_share(on_share, cuda_program, version):
    program = cuda_program("runtime", toolkit=version, runtime="shared")
    done = on_share(program, "properties", "pools", "out_of_memory", "streams")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "out of memory" in done.stdout
