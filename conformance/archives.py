"""Source archives from the package index: the very one that a suite names, unpacked once, never committed.

What an index is, which one is used and how it is reached (mirrors, proxies, certificates) is pip's to know:
whoever can install packages can fetch archives.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from conformance.suite import SuiteError

_FOLDER: Final = Path(__file__).parents[1] / "build" / "conformance"


@dataclass(frozen=True, slots=True)
class Archive:
    """A source archive of a package."""

    name: str
    version: str
    sha256: str
    members: Sequence[str]
    """Files and folders of it that are wanted, relative to its top folder."""


def unpacked(archive: Archive) -> Path:
    """The folder with the wanted members. Raises `SuiteError` where the archive cannot be had.

    The folder appears at once and whole, so several may ask for it at the same time.
    """
    folder = _FOLDER / f"{archive.name}-{archive.version}-{archive.sha256[:12]}"
    if not folder.is_dir():
        _FOLDER.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_FOLDER) as scratch:
            _unpack(_fetch(archive), archive, Path(scratch))
            _put_in_place(Path(scratch) / f"{archive.name}-{archive.version}", folder)
    return folder


def cache(name: str) -> Path:
    """A folder that is kept between runs."""
    folder = _FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fetch(archive: Archive) -> bytes:
    what = f"the source archive of {archive.name} {archive.version}"
    try:
        with warnings.catch_warnings(action="ignore"):  # pip's own, which tests would make errors of
            content = _download(archive)
    except ImportError as error:
        raise SuiteError(f"{what} is fetched with pip, which is not installed here: {error}") from error
    except Exception as error:  # whatever pip and what it reaches the index with may raise
        raise SuiteError(f"{what} cannot be fetched: {type(error).__name__}: {error}") from error
    if content is None:
        raise SuiteError(f"{what} is not in the package index, or the index cannot be reached")
    found = hashlib.sha256(content).hexdigest()
    if found != archive.sha256:
        raise SuiteError(f"{what} is not the one that the suite names: its sha256 is {found}")
    return content


def _download(archive: Archive) -> bytes | None:
    """`pip download` would also build the package's metadata; this takes its index and session alone."""
    from pip._internal.commands.download import DownloadCommand
    from pip._vendor.packaging.specifiers import SpecifierSet

    command = DownloadCommand("download", "fetches source archives")
    options, _ = command.parse_args(["--quiet", "--no-binary", archive.name, archive.name])
    with command.main_context():
        session = command.get_default_session(options)
        finder = command._build_package_finder(options, session)
        found = finder.find_best_candidate(archive.name, SpecifierSet(f"=={archive.version}")).best_candidate
        if found is None:
            return None
        if found.link.is_file:
            return Path(found.link.file_path).read_bytes()
        response = session.get(found.link.url_without_fragment)
        response.raise_for_status()
        return response.content


def _unpack(content: bytes, archive: Archive, into: Path) -> None:
    top = f"{archive.name}-{archive.version}/"
    with tarfile.open(fileobj=BytesIO(content)) as tar:
        wanted = [
            member
            for member in tar.getmembers()
            if any(
                member.name == top + each or member.name.startswith(f"{top}{each}/")
                for each in archive.members
            )
        ]
        tar.extractall(into, wanted, filter="data")
    for each in archive.members:
        if not (into / top / each).exists():
            raise SuiteError(f"the source archive of {archive.name} {archive.version} has no {each}")


def _put_in_place(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise somebody else was faster
            raise
        shutil.rmtree(made)
