"""The image reader: text, fat binaries as NVIDIA's tools write them, selection, linked images."""

from __future__ import annotations

import struct
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

CORPUS = Path(__file__).resolve().parents[2] / "native/simgpu/fuzz/corpus/image"
PTX = ".version 8.0\n.target sm_{}\n.address_size 64\n.visible .entry k() {{ ret; }}\n"


def vendor(folder: str) -> Path:
    found = find_spec("nvidia")
    assert found is not None
    for place in found.submodule_search_locations or []:
        if (Path(place) / folder).exists():
            return Path(place) / folder
    pytest.fail(f"the development environment has no nvidia/{folder}")


def tool(name: str, *arguments: object) -> None:
    subprocess.run([vendor("cu13/bin") / name, *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture
def fatbinary(tmp_path: Path):
    """Builds a fat binary with NVIDIA's fatbinary and ptxas: `fatbinary("none", ptx=[80], elf=[86])`."""

    def build(mode: str, ptx: tuple[int, ...] = (), elf: tuple[int, ...] = (), text: str = PTX) -> bytes:
        images: list[str] = []
        for sm in sorted({*ptx, *elf}):
            source = tmp_path / f"{sm}.ptx"
            source.write_text(text.format(sm))
            if sm in ptx:
                images.append(f"--image3=kind=ptx,sm={sm},file={source}")
            if sm in elf:
                cubin = tmp_path / f"{sm}.cubin"
                tool("ptxas", f"-arch=sm_{sm}", source, "-o", cubin)
                images.append(f"--image3=kind=elf,sm={sm},file={cubin}")
        result = tmp_path / "result.fatbin"
        tool("fatbinary", "-64", f"--compress-mode={mode}", f"--create={result}", *images)
        return result.read_bytes()

    return build


def texts(answer: dict) -> list[str]:
    assert answer["status"] == "ok", answer["message"]
    return [ptx["text"] for ptx in answer["ptx"]]


@pytest.mark.parametrize("ending", ["", "\0", "\0garbage"])
@pytest.mark.parametrize("unknown", [False, True])
def test_bare_text(image_dump, ending: str, unknown: bool) -> None:
    text = "// a comment first\n" + PTX.format(80)
    options = ["--unknown"] if unknown else []
    (answer,) = image_dump([(text + ending).encode()], *options)
    assert texts(answer) == [text]
    assert answer["ptx"][0]["sm"] == 0


@pytest.mark.parametrize(
    "image", [b"", b"\0", b"hello", b"\x7fEL", b"\x50\xed\x55", b"\xb1\x43\x62", bytes(100)]
)
def test_no_image(image_dump, image: bytes) -> None:
    for options in ([], ["--unknown"]):
        (answer,) = image_dump([image], *options)
        assert answer["status"] == "invalid"
        assert answer["message"]


@pytest.mark.parametrize("mode", ["none", "speed", "balance", "size", "default"])
@pytest.mark.parametrize("unknown", [False, True])
def test_fat_binaries_of_each_compression(image_dump, fatbinary, mode: str, unknown: bool) -> None:
    # Long enough that compressing pays, and not the same all over.
    body = "".join(f".global .u32 v{i * 7919 % 1000}_{i};\n" for i in range(3000))
    container = fatbinary(mode, ptx=(80,), text=PTX + body)
    flags = struct.unpack_from("<Q", container, 16 + 40)[0]
    compressed = {"none": 0, "speed": 0x2000, "balance": None, "size": 0x8000, "default": None}[mode]
    assert compressed is None or flags & 0xA000 == compressed
    (answer,) = image_dump([container], *(["--unknown"] if unknown else []))
    (text,) = texts(answer)
    assert text.split() == (PTX.format(80) + body).split()
    assert answer["ptx"][0]["sm"] == 80


@pytest.mark.parametrize(
    ("present", "card", "chosen"),
    [
        ((75, 80, 90), 75, 75),
        ((75, 80, 90), 89, 80),
        ((75, 80, 90), 90, 90),
        ((75, 80, 90), 120, 90),
        ((90, 100), 80, 90),  # nothing as old as the card: the oldest of the newer ones
        ((120,), 75, 120),
    ],
)
def test_selection(image_dump, fatbinary, present: tuple[int, ...], card: int, chosen: int) -> None:
    (answer,) = image_dump([fatbinary("none", ptx=present)], "--sm", str(card))
    assert texts(answer) == [PTX.format(chosen)]
    assert answer["ptx"][0]["sm"] == chosen


def test_cubins_are_passed_over(image_dump, fatbinary) -> None:
    (answer,) = image_dump([fatbinary("size", ptx=(80,), elf=(75, 86, 90))], "--sm", "86")
    assert texts(answer) == [PTX.format(80)]
    assert sorted(answer["cubins"]) == [75, 86, 90]


def test_only_cubins(image_dump, fatbinary, tmp_path: Path) -> None:
    container = fatbinary("default", elf=(86, 90))
    cubins = [(tmp_path / f"{sm}.cubin").read_bytes() for sm in (86, 90)]
    for image, sms in ((container, [86, 90]), (cubins[0], [86]), (cubins[1], [90])):
        for options in ([], ["--unknown"]):
            (answer,) = image_dump([image], *options)
            assert answer["status"] == "no_ptx"
            assert answer["cubins"] == sms
            assert all(f"sm_{sm}" in answer["message"] for sm in sms)
            assert "compute_80" in answer["message"]


def test_wrappers(image_dump, fatbinary) -> None:
    first, second = fatbinary("none", ptx=(80,)), fatbinary("size", ptx=(75, 80), elf=(80,))
    (one,) = image_dump([first], "--wrapper")
    assert texts(one) == [PTX.format(80)]
    (several,) = image_dump([first, second], "--wrapper")  # version 2: objects that are linked at load
    assert texts(several) == [PTX.format(80)] * 2


def test_wrapper_inside_known_bytes(image_dump) -> None:
    """With a known size nothing outside is read: a wrapper's pointers lead out, and are refused."""
    for version in (1, 2):
        wrapper = struct.pack("<IIQQ", 0x466243B1, version, 0xDEAD0000, 0xBEEF0000)
        (answer,) = image_dump([wrapper + bytes(64)])
        assert answer["status"] == "invalid"


def test_linked_images(image_dump, pack_linked, ptx_dump) -> None:
    header = ".version 8.0 .target sm_80 .address_size 64\n"
    sources = [
        header + ".extern .func f(); .visible .entry k() { call f; ret; }",
        header + ".visible .func f() { ret; }",
        header + "// " + "x" * 1000,
    ]
    image = pack_linked(sources)
    for options in ([], ["--unknown"], ["--sm", "75"], ["--sm", "120"]):
        (answer,) = image_dump([image], *options)
        assert texts(answer) == sources
    linked = ptx_dump.parse(*texts(answer))
    assert {f["name"]: f["has_body"] for f in linked["functions"]} == {"k": True, "f": True}


def test_linked_image_of_nothing(image_dump, pack_linked) -> None:
    (answer,) = image_dump([pack_linked([])])
    assert answer["status"] == "no_ptx"


def elf_section(file: Path, name: str) -> bytes:
    data = file.read_bytes()
    table = struct.unpack_from("<Q", data, 40)[0]
    size, count, names = struct.unpack_from("<HHH", data, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", data, table + i * size) for i in range(count)]
    strings = sections[names][4]
    for section in sections:
        start = strings + section[0]
        if data[start : data.index(b"\0", start)].decode() == name:
            return data[section[4] : section[4] + section[5]]
    pytest.fail(f"{file} has no section {name}")


@pytest.mark.parametrize("mode", ["none", "speed", "size"])
def test_kernels_of_machine_code_alone(image_dump, fatbinary, mode: str) -> None:
    """Named, though none can run; also where the cubin is compressed."""
    (answer,) = image_dump([fatbinary(mode, elf=(80, 90), text=PTX.replace("k()", "a_kernel()"))])
    assert answer["status"] == "no_ptx"
    assert answer["cubin_kernels"] == ["a_kernel"]


def test_library_of_another_project(image_dump, ptx_dump) -> None:
    """CuPy's generator library: eight architectures in one container, megabytes of PTX."""
    found = find_spec("cupy")
    assert found is not None
    assert found.origin is not None
    (library,) = Path(found.origin).parent.glob("random/_generator_api*.so")
    (answer,) = image_dump([elf_section(library, ".nv_fatbin")])
    (text,) = texts(answer)
    assert len(text) > 1_000_000
    assert sum(f["is_entry"] for f in ptx_dump.parse(text)["functions"]) > 10
