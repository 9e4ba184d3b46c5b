"""Opens zip and tar: an index of the files in them, and their bytes one at a time; nothing lands by its name.

A tar that is packed whole (tar.gz) is first unpacked into a file without a name, within limits; then its
files lie at known places, as in every tar, and can be read in any order.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from worker.loading.errors import LoadError, corrupt, quoted
from worker.loading.members import Member, Members, listed
from worker.loading.npz import BOMB_BYTES, BOMB_RATIO, Careful
from worker.loading.source import BLOCK_BYTES
from worker.loading.zips import check_entry, content, entries

MOST_MEMBERS = 5_000_000
MOST_MEMBER = 256 * 1024**2  # bytes of a file in it
MOST_NAME = 1024
NESTED = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
PICKLED = (".pkl", ".pickle", ".pt", ".pth", ".pyd", ".joblib")
LITTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")  # what systems leave beside people's files


class Archive(NamedTuple):
    """The files in an archive, in its order; `read` gives one file's bytes."""

    members: Members
    read: Callable[[Member], bytes]


@contextmanager
def open_archive(path: Path, kind: str, scratch: Path) -> Iterator[Archive]:
    """The files of a zip, a tar or a tar.gz.

    Args:
        kind: as `kind_of` has it.
        scratch: where a tar.gz is unpacked to, and the files are listed.

    Raises:
        LoadError: the archive is broken, or holds paths that lead outside, links, devices, archives,
            pickles, too many files, or far more than its size.
    """
    size = path.stat().st_size
    with path.open("rb", buffering=0) as raw, listed(scratch) as members:
        if kind == "a zip archive":
            yield _zip(raw, size, members)
        elif kind == "a gzip file":
            with tempfile.TemporaryFile(dir=scratch, buffering=0) as whole:
                _unpack(raw, whole, size)
                yield _tar(whole, members)
        else:
            yield _tar(raw, members)


# ---------------------------------------------------------------- zip
def _zip(raw: io.FileIO, size: int, members: Members) -> Archive:
    file = io.BufferedReader(raw)

    def found() -> Iterator[Member]:
        total = 0
        for count, entry in enumerate(entries(file), 1):
            _check_count(count)
            if entry.is_folder or _litter(entry.member.name):
                continue
            check_member(entry.member.name, entry.member.size)
            check_entry(entry)
            total += entry.member.size
            _check_bomb(total, size)
            yield entry.member

    members.add(found())
    return Archive(members, lambda member: content(file, member))


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


def _tar(file: Any, members: Members) -> Archive:
    careful = Careful(file)  # kept open, for it closes the file with itself
    members.add(_tar_members(careful, file.seek(0, os.SEEK_END)))

    def read(member: Member) -> bytes:
        data = os.pread(careful.fileno(), member.size, member.place)
        if len(data) != member.size:
            raise corrupt(f"{quoted(member.name)} in the tar", "it ends before its data do")
        return data

    return Archive(members, read)


def _tar_members(careful: Careful, length: int) -> Iterator[Member]:
    careful.seek(0)
    count = 0
    try:
        with tarfile.open(fileobj=careful, mode="r:") as archive:
            while (info := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # it would keep them all
                count += 1
                _check_count(count)
                if info.isdir() or _litter(info.name):
                    continue
                if not info.isreg() or info.issparse():
                    raise LoadError(
                        "unsafe_file",
                        f"{quoted(info.name)!r} in the tar is a link or a device, no plain file.",
                    )
                check_member(info.name, info.size)
                if info.size < 0 or info.offset_data + info.size > length:
                    raise corrupt(f"{quoted(info.name)} in the tar", "it ends before its data do")
                yield Member(info.name, info.size, info.offset_data)
            _check_end(careful, archive.offset)
    except (tarfile.TarError, ValueError, EOFError, OverflowError) as broken:
        raise corrupt("The tar", str(broken)) from broken
    except RecursionError as broken:  # the library reads a header of a header by calling itself
        raise LoadError(
            "unsafe_file", "The tar has headers of headers without end: write it again."
        ) from broken


def _check_end(careful: Careful, place: int) -> None:
    """The library takes a header that is broken or cut for the end, and what follows would be lost."""
    block = os.pread(careful.fileno(), tarfile.BLOCKSIZE, place)
    if len(block) < tarfile.BLOCKSIZE or any(block):
        raise corrupt("The tar", f"at byte {place} it has neither a file nor its end")


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
