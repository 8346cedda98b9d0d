"""Fat binaries that lie: every field, every cut, every kind of bomb is answered, never believed."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import lz4.block
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CORPUS = Path(__file__).resolve().parents[2] / "native/simgpu/fuzz/corpus/image"
LZ4, ZSTD = 0x2000, 0x8000
NUMBERS = [
    *(0, 1, 7, 15, 16, 47, 48, 63, 64, 0x7FFF, 0xFFFF),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1),
]
examples = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def entry(payload: bytes, flags: int = 0, uncompressed: int = 0, kind: int = 1, sm: int = 80) -> bytes:
    padded = payload + bytes(-len(payload) % 8)
    stored = len(payload) if flags & (LZ4 | ZSTD) else 0
    header = struct.pack(
        "<HHIQIIHHIIIQQQ",
        *(kind, 0x101, 64, len(padded), stored, 0, 0, 8, sm, 0, 0, flags | 1, 0, uncompressed),
    )
    return header + padded


def container(*entries: bytes) -> bytes:
    body = b"".join(entries)
    return struct.pack("<IHHQ", 0xBA55ED50, 1, 16, len(body)) + body


def lz4_entry(text: bytes) -> bytes:
    return entry(lz4.block.compress(text, store_size=False), LZ4, len(text))


def zstd_entry(text: bytes, **options: Any) -> bytes:
    return entry(zstandard.ZstdCompressor(**options).compress(text), ZSTD, len(text))


@pytest.mark.sanitized
@pytest.mark.parametrize("name", ["plain.fatbin", "lz4.fatbin", "zstd.fatbin", "wrapper1.bin"])
def test_every_truncation(image_dump, name: str) -> None:
    image = (CORPUS / name).read_bytes()
    answers = image_dump([image[:end] for end in range(len(image))])
    assert {answer["status"] for answer in answers} == {"invalid"}
    assert all(answer["message"] for answer in answers)


STO_CUDA_ENTRY = 0x10


def cubin(*kernels: bytes) -> bytes:
    """As little ELF as names kernels: a header, two sections with their headers, no code."""
    names = b"\0" + b"\0".join(kernels) + b"\0"
    symbols = bytes(24)
    for name in kernels:
        symbols += struct.pack(
            "<IBBHQQ", names.index(b"\0" + name + b"\0") + 1, 0x12, STO_CUDA_ENTRY, 1, 0, 0
        )
    at_symbols = 64 + len(names) + -len(names) % 8
    at_sections = at_symbols + len(symbols)
    header = struct.pack(
        "<4s5B7xHHIQQQIHHHHHH",
        *(b"\x7fELF", 2, 1, 1, 51, 7, 2, 190, 1, 0, 0, at_sections, 80, 64, 0, 0, 64, 3, 1),
    )
    strings = struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, 64, len(names), 0, 0, 1, 0)
    table = struct.pack("<IIQQQQIIQQ", 0, 2, 0, 0, at_symbols, len(symbols), 1, 1, 8, 24)
    return (header + names).ljust(at_symbols, b"\0") + symbols + bytes(64) + strings + table


def of_cubin(file: bytes) -> bytes:
    return container(entry(file, kind=2))


@pytest.mark.sanitized
def test_cubin_with_every_field_and_number(image_dump) -> None:
    """Of machine code alone the names of kernels are read, and nothing that leads to them is believed."""
    good = cubin(b"first", b"second")
    (answer,) = image_dump([of_cubin(good)])
    assert answer["cubin_kernels"] == ["first", "second"]
    images = [of_cubin(good[:end]) for end in range(len(good))]
    for at in range(len(good)):
        for width in (1, 2, 4, 8):
            images += [
                of_cubin(good[:at] + number.to_bytes(width, "little") + good[at + width :])
                for number in NUMBERS
                if at % width == 0 and number < 256**width
            ]
    answers = image_dump(images)
    assert {each["status"] for each in answers} == {"no_ptx"}
    assert len(answers) == len(images)
    assert max(len(each["cubin_kernels"]) for each in answers) <= 16


@pytest.mark.sanitized
@pytest.mark.parametrize("make", [entry, lz4_entry, zstd_entry], ids=["plain", "lz4", "zstd"])
def test_every_field_with_every_number(image_dump, make) -> None:
    text = b".version 8.0\n" + b"// something to compress\n" * 40
    good = container(make(text), make(text))
    images: list[bytes] = []
    for at in range(16 + 64):
        for width in (1, 2, 4, 8):
            for number in NUMBERS:
                if at % width == 0 and number < 256**width:
                    images.append(good[:at] + number.to_bytes(width, "little") + good[at + width :])
    answers = image_dump(images)
    assert len(answers) == len(images)
    for image, answer in zip(images, answers, strict=True):
        assert answer["status"] in ("ok", "invalid", "no_ptx", "unsupported")
        assert (answer["status"] == "ok") == (answer["message"] == "") == bool(answer["ptx"])
        # What is accepted as it stands lies inside the image; nothing from outside comes along.
        if make is entry:
            assert all(ptx["text"].encode("latin-1") in image for ptx in answer["ptx"])


@pytest.mark.sanitized
@pytest.mark.parametrize("make", [lz4_entry, zstd_entry])
def test_every_byte_of_a_compressed_text(image_dump, make) -> None:
    text = bytes((i * 7 + i // 5) % 94 + 32 for i in range(700)) + b"abcabcabc" * 30
    good = container(make(text))
    images = [
        good[:at] + bytes([good[at] ^ bit]) + good[at + 1 :]
        for at in range(80, len(good))
        for bit in (1, 0x10, 0x80, 0xFF)
    ]
    for answer in image_dump(images):
        assert answer["status"] in ("ok", "invalid")
        assert all(len(ptx["text"]) <= len(text) for ptx in answer["ptx"])


@examples
@given(
    st.one_of(
        st.binary(max_size=3000),
        st.lists(st.sampled_from([b"ld.global.u32 ", b"%r", b"1", b", ", b";\n"]), max_size=4000).map(
            b"".join
        ),
        st.tuples(st.binary(min_size=1, max_size=9), st.integers(1, 60000)).map(lambda p: p[0] * p[1]),
    ),
    st.sampled_from([-7, 1, 3, 9, 19, 22]),
    st.booleans(),
)
def test_decompression_agrees_with_the_reference(image_dump, text: bytes, level: int, checksum: bool) -> None:
    text = text.replace(b"\0", b"0")  # a text ends at its first NUL
    images = [
        container(lz4_entry(text)),
        container(zstd_entry(text, level=level, write_checksum=checksum, write_content_size=not checksum)),
    ]
    for answer in image_dump(images):
        assert answer["status"] == "ok", answer["message"]
        assert answer["ptx"][0]["text"].encode("latin-1") == text


def test_wrong_checksum(image_dump) -> None:
    frame = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(b"x" * 100))
    frame[-1] ^= 1
    (answer,) = image_dump([container(entry(bytes(frame), ZSTD, 100))])
    assert answer["status"] == "invalid"


@pytest.mark.parametrize("lie", [-1, 1])
def test_a_size_that_is_not_the_texts(image_dump, lie: int) -> None:
    text = b"// text\n" * 50
    for payload, flag in (
        (lz4.block.compress(text, store_size=False), LZ4),
        (zstandard.ZstdCompressor().compress(text), ZSTD),
    ):
        (answer,) = image_dump([container(entry(payload, flag, len(text) + lie))])
        assert answer["status"] == "invalid"


def zstd_of_repeated_blocks(blocks: int) -> bytes:
    """A frame of run-length blocks of 128 KiB: four bytes each."""
    header = bytes.fromhex("28b52ffd") + bytes([0x00, 0x58])
    block = struct.pack("<I", 1 << 1 | (128 << 10) << 3)[:3] + b"a"
    last = struct.pack("<I", 1 | 1 << 1 | (128 << 10) << 3)[:3] + b"a"
    return header + block * (blocks - 1) + last


def test_bombs(image_dump, native_build: Path, tmp_path: Path) -> None:
    """Neither a lying declaration nor an honest giant takes memory that was not asked for."""
    gigabytes = zstd_of_repeated_blocks(80_000)  # 10 GB in 320 kB
    images = [
        container(entry(gigabytes, ZSTD, 1000)),
        container(entry(gigabytes, ZSTD, 80_000 * (128 << 10))),
        container(entry(b"\x28\xb5\x2f\xfd", ZSTD, 250 << 20)),
        container(entry(b"\x1fa\x01\x00" + b"\xff" * 100, LZ4, 250 << 20)),
        container(entry(b"", LZ4, 2**64 - 1)),
    ]
    assert {answer["status"] for answer in image_dump(images)} == {"invalid"}
    files = [tmp_path / f"{number}.bin" for number in range(len(images))]
    for file, image in zip(files, images, strict=True):
        file.write_bytes(image)
    # In a process of its own: the largest child of this one may have been any other test's.
    measure = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=-3);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    program = native_build / "native/simgpu/image/image-dump"
    command = [sys.executable, "-c", measure, program, *files]
    kilobytes = int(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)
    assert kilobytes < 64 << 10


def test_two_compressions_at_once(image_dump) -> None:
    (answer,) = image_dump([container(entry(b"x" * 8, LZ4 | ZSTD, 8))])
    assert answer["status"] == "invalid"


def test_a_compression_that_nobody_knows(image_dump) -> None:
    (answer,) = image_dump([container(entry(b"\x93NUMPY-like", flags=0x4000))])
    assert answer["status"] == "unsupported"
    assert answer["message"]


def test_entries_of_unknown_kinds_are_passed_over(image_dump) -> None:
    text = b".version 8.0\n"
    (answer,) = image_dump([container(entry(b"?" * 40, kind=8), entry(text), entry(b"?", kind=77))])
    assert [ptx["text"].encode() for ptx in answer["ptx"]] == [text]


@pytest.mark.sanitized
def test_mutations_hold_every_property(fuzz) -> None:
    assert "100000 mutations" in fuzz("image", "--seed", "3", "--iterations", "100000", str(CORPUS))
