"""Reads what a shared library needs and offers, from its file (System V gABI, chapters 4 and 5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

_SHT_STRTAB, _SHT_DYNAMIC, _SHT_DYNSYM, _SHT_VERNEED = 3, 6, 11, 0x6FFFFFFE
_DT_NEEDED, _DT_SONAME, _DT_INIT_ARRAYSZ, _DT_RUNPATH = 1, 14, 27, 29
_LOCAL = 0


@dataclass
class Library:
    """The dynamic part of one library."""

    soname: str = ""
    runpath: str = ""
    needed: list[str] = field(default_factory=list)
    exported: list[str] = field(default_factory=list)
    imported: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    """Symbol versions that it asks of others, e.g. GLIBC_2.2.5."""
    constructors: int = 0


@dataclass(frozen=True)
class _Section:
    type: int
    offset: int
    size: int
    link: int


def read(path: Path) -> Library:
    """Reads a 64-bit little-endian library."""
    image = path.read_bytes()
    assert image[:6] == b"\x7fELF\x02\x01", path
    (table,) = struct.unpack_from("<Q", image, 0x28)
    size, count = struct.unpack_from("<HH", image, 0x3A)
    sections = [_section(image, table + i * size) for i in range(count)]
    library = Library()
    for section in sections:
        if section.type == _SHT_DYNAMIC:
            _read_dynamic(image, section, sections, library)
        elif section.type == _SHT_DYNSYM:
            _read_symbols(image, section, sections, library)
        elif section.type == _SHT_VERNEED:
            _read_versions(image, section, sections, library)
    return library


def _section(image: bytes, at: int) -> _Section:
    _, kind, _, _, offset, size, link = struct.unpack_from("<IIQQQQI", image, at)
    return _Section(kind, offset, size, link)


def _text(image: bytes, strings: _Section, offset: int) -> str:
    begin = strings.offset + offset
    return image[begin : image.index(b"\0", begin)].decode()


def _read_dynamic(image: bytes, section: _Section, sections: list[_Section], library: Library) -> None:
    strings = sections[section.link]
    for at in range(section.offset, section.offset + section.size, 16):
        tag, value = struct.unpack_from("<qQ", image, at)
        if tag == _DT_NEEDED:
            library.needed.append(_text(image, strings, value))
        elif tag == _DT_SONAME:
            library.soname = _text(image, strings, value)
        elif tag == _DT_RUNPATH:
            library.runpath = _text(image, strings, value)
        elif tag == _DT_INIT_ARRAYSZ:
            library.constructors = value // 8


def _read_symbols(image: bytes, section: _Section, sections: list[_Section], library: Library) -> None:
    for at in range(section.offset + 24, section.offset + section.size, 24):
        name, info, _, where = struct.unpack_from("<IBBH", image, at)
        if info >> 4 == _LOCAL:
            continue
        (library.exported if where else library.imported).append(_text(image, sections[section.link], name))


def _read_versions(image: bytes, section: _Section, sections: list[_Section], library: Library) -> None:
    at = section.offset
    while True:
        _, count, _, first, following = struct.unpack_from("<HHIII", image, at)
        entry = at + first
        for _ in range(count):
            _, _, _, name, step = struct.unpack_from("<IHHII", image, entry)
            library.versions.append(_text(image, sections[section.link], name))
            entry += step
        if not following:
            return
        at += following
