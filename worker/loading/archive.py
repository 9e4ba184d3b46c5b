"""Opens zip and tar: an index of the files in them, and their bytes one at a time; nothing lands by its name.

A tar that is packed whole (tar.gz) is first unpacked into a file without a name, within limits; then its
files lie at known places, as in every tar, and can be read in any order.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from worker.loading.errors import LoadError, corrupt, quoted, reading
from worker.loading.npz import BOMB_BYTES, BOMB_RATIO, Careful
from worker.loading.source import BLOCK_BYTES

MOST_MEMBERS = 1_000_000  # 1.2 kB of memory each in a zip, 0.3 kB in a tar
MOST_MEMBER = 256 * 1024**2  # bytes of a file in it
MOST_DIRECTORY = 128 * 1024**2
MOST_NAME = 1024
NESTED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
PICKLED = (".pkl", ".pickle", ".pt", ".pth", ".pyd", ".joblib")
LITTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")  # what systems leave beside people's files


class Member(NamedTuple):
    """A file in an archive: `place` is where to find it."""

    name: str
    size: int
    place: int


class Archive(NamedTuple):
    """The files in an archive, in its order; `read` gives one file's bytes."""

    members: list[Member]
    read: Callable[[Member], bytes]


@contextmanager
def open_archive(path: Path, kind: str, scratch: Path) -> Iterator[Archive]:
    """The files of a zip, a tar or a tar.gz.

    Args:
        kind: as `kind_of` has it.
        scratch: where a tar.gz is unpacked to.

    Raises:
        LoadError: the archive is broken, or holds paths that lead outside, links, devices, archives,
            pickles, too many files, or far more than its size.
    """
    size = path.stat().st_size
    with path.open("rb", buffering=0) as raw:
        if kind == "a zip archive":
            yield _zip(Careful(raw, MOST_DIRECTORY), size)
        elif kind == "a gzip file":
            with tempfile.TemporaryFile(dir=scratch, buffering=0) as whole:
                _unpack(raw, whole, size)
                yield _tar(whole)
        else:
            yield _tar(raw)


# ---------------------------------------------------------------- zip
def _zip(file: IO[bytes], size: int) -> Archive:
    with reading("The zip"):
        archive = zipfile.ZipFile(file)
    infos = archive.infolist()
    _check_count(len(infos))
    members, total = [], 0
    for place, info in enumerate(infos):
        if info.is_dir() or _litter(info.filename):
            continue
        _check_info(info)
        check_member(info.filename, info.file_size)
        total += info.file_size
        members.append(Member(info.filename, info.file_size, place))
    _check_bomb(total, size)
    _check_distinct(members)

    def read(member: Member) -> bytes:
        with reading(f"{quoted(member.name)} in the zip"), archive.open(infos[member.place]) as opened:
            data = opened.read(member.size + 1)
        if len(data) != member.size:
            raise corrupt(f"{quoted(member.name)} in the zip", "it has another size than the directory says")
        return data

    return Archive(members, read)


def _check_info(info: zipfile.ZipInfo) -> None:
    name = quoted(info.filename)
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
        raise LoadError("unsafe_file", f"{name!r} in the zip is a link or a device, no file.")
    if info.flag_bits & 0x41:
        raise LoadError("unsafe_file", f"{name!r} in the zip is encrypted: write it without a password.")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise LoadError("unsafe_file", f"{name!r} is packed in a way other than deflate.")


# ---------------------------------------------------------------- tar
def _unpack(packed: io.FileIO, into: IO[bytes], size: int) -> None:
    done = 0
    try:
        with gzip.GzipFile(fileobj=packed) as stream:
            while piece := stream.read(BLOCK_BYTES // 8):
                done += len(piece)
                _check_bomb(done, size)
                into.write(piece)
    except (OSError, EOFError, zlib.error) as broken:
        raise corrupt("The tar.gz", str(broken)) from broken


def _tar(file: Any) -> Archive:
    members: list[Member] = []
    length = file.seek(0, os.SEEK_END)
    file.seek(0)
    careful = Careful(file)  # kept open, for it closes the file with itself
    try:
        with tarfile.open(fileobj=careful, mode="r:") as archive:
            while (info := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep them all
                _check_count(len(members))
                if info.isdir() or _litter(info.name):
                    continue
                if not info.isreg() or info.issparse():
                    raise LoadError(
                        "unsafe_file",
                        f"{quoted(info.name)!r} in the tar is a link or a device, no plain file.",
                    )
                check_member(info.name, info.size)
                if info.offset_data + info.size > length:
                    raise corrupt(f"{quoted(info.name)} in the tar", "it ends before its data do")
                members.append(Member(info.name, info.size, info.offset_data))
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as broken:
        raise corrupt("The tar", str(broken)) from broken
    _check_distinct(members)

    def read(member: Member) -> bytes:
        data = os.pread(careful.fileno(), member.size, member.place)
        if len(data) != member.size:
            raise corrupt(f"{quoted(member.name)} in the tar", "it ends before its data do")
        return data

    return Archive(members, read)


# ---------------------------------------------------------------- both
def check_member(name: str, size: int) -> None:
    """Raises LoadError for a file that has no place in a data set."""
    if name.startswith(("/", "\\")) or "\\" in name or ".." in name.split("/") or name[1:2] == ":":
        raise LoadError("unsafe_file", f"A path in the archive leads outside: {quoted(name)!r}.")
    if not name.isprintable() or len(name) > MOST_NAME:
        raise LoadError("unsafe_file", f"A file in the archive has an unprintable name: {quoted(name)!r}.")
    ending = PurePosixPath(name).suffix.lower()
    if ending in PICKLED:
        raise LoadError(
            "unsafe_file", f"{quoted(name)!r} in the archive may be a pickle, which can run code."
        )
    if ending in NESTED:
        raise LoadError("unsafe_file", f"{quoted(name)!r} is an archive in the archive: unpack it first.")
    if size > MOST_MEMBER:
        raise LoadError("sample_too_large", f"{quoted(name)!r} has {size} bytes; {MOST_MEMBER} at most.")


def _litter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part in LITTER or part.startswith("._") for part in parts)


def _check_count(count: int) -> None:
    if count > MOST_MEMBERS:
        raise LoadError("unsafe_file", f"The archive holds over {MOST_MEMBERS} files.")


def _check_bomb(unpacked: int, packed: int) -> None:
    if unpacked > BOMB_BYTES and unpacked > BOMB_RATIO * packed:
        raise LoadError(
            "unsafe_file",
            f"The archive unpacks from {packed} to {unpacked} bytes, over {BOMB_RATIO} times its size, "
            "and is taken for a bomb: write it without packing (tar, or zip -0).",
        )


def _check_distinct(members: list[Member]) -> None:
    if len({member.name for member in members}) < len(members):
        raise LoadError("unsafe_file", "The archive has two files of one name: write it again.")
