"""Opens `.npz`: a zip of `.npy` arrays. Nothing is unpickled, and nothing is allocated on a header's word."""

from __future__ import annotations

import io
import stat
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from worker.loading.errors import LoadError, corrupt, quoted, reading
from worker.loading.source import BLOCK_BYTES, MOST_DIMENSIONS, Block, Source, ranges

MIB = 1024**2
MOST_MEMBERS = 16
MOST_READ = 1 * MIB  # of one read: also bounds the central directory, which zipfile reads whole
MOST_HEADER = 10_000  # bytes of a .npy header; numpy's own limit
BOMB_BYTES, BOMB_RATIO = 64 * MIB, 50
DEFLATE_RATIO = 1032  # deflate never does better, so a member that says so lies


@contextmanager
def open_npz(path: Path, scratch: Path) -> Iterator[dict[str, Source]]:
    """The arrays of an `.npz` by name, without their data.

    Args:
        path: a stranger's file.
        scratch: folder for arrays in Fortran order, which must be turned around before their rows can be
            read.

    Raises:
        LoadError: the archive or a header is not to be trusted, or broken.
    """
    with path.open("rb", buffering=0) as raw, Careful(raw) as file:
        with reading("The npz"):
            archive = zipfile.ZipFile(file)
        with archive:
            members = archive.infolist()
            _check_archive(members, path.stat().st_size)
            yield {m.filename.removesuffix(".npy"): _source(archive, m, scratch) for m in members}


class Careful(io.BufferedReader):
    """Refuses to read more at once than an honest archive of a few arrays needs, or than `most`."""

    def __init__(self, raw: io.RawIOBase, most: int = MOST_READ) -> None:
        super().__init__(raw)
        self._most = most

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or size < 0:
            size = self._most + 1
        if size > self._most:
            data = super().read(self._most + 1)
            if len(data) > self._most:
                raise LoadError(
                    "unsafe_file",
                    f"The archive has a directory of over {self._most} bytes: write it with np.savez or zip.",
                )
            return data
        return super().read(size)


def _check_archive(members: list[zipfile.ZipInfo], size: int) -> None:
    names = [m.filename for m in members]
    if any(name.endswith(("data.pkl", "/constants.pkl")) for name in names):
        raise LoadError(
            "unsafe_file",
            "The file was written by torch.save and holds pickles, which can run code. Write arrays with "
            "np.savez(path, inputs=…, targets=…), and checkpoints with safetensors.torch.save_file.",
        )
    if len(members) > MOST_MEMBERS:
        raise LoadError(
            "unknown_array", f"The npz has {len(members)} members; a data set has inputs, targets and ids."
        )
    if len(set(names)) < len(names):
        raise LoadError("unsafe_file", "The npz has two members of one name: write it again with np.savez.")
    for member in members:
        _check_member(member, size)
    total = sum(m.file_size for m in members)
    if total > BOMB_BYTES and total > BOMB_RATIO * size:
        raise _bomb("The npz", total, size)


def _check_member(member: zipfile.ZipInfo, size: int) -> None:
    name = quoted(member.filename)
    mode = member.external_attr >> 16
    if member.filename.startswith("/") or "\\" in member.filename or ".." in member.filename.split("/"):
        raise LoadError("unsafe_file", f"The npz has a member with a path that leads outside: {name!r}.")
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise LoadError("unsafe_file", f"{name!r} in the npz is a link or a device, no array.")
    if member.flag_bits & 0x41:
        raise LoadError("unsafe_file", f"{name!r} in the npz is encrypted: write it without a password.")
    if not member.filename.endswith(".npy"):
        raise LoadError("unknown_array", f"{name!r} in the npz is no .npy array: write it with np.savez.")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise LoadError("unsafe_file", f"{name!r} is packed by a method np.savez_compressed does not use.")
    packed = min(member.compress_size, size)
    if member.file_size > BOMB_BYTES and member.file_size > BOMB_RATIO * packed:
        raise _bomb(f"{name!r} in the npz", member.file_size, packed)
    stored = member.compress_type == zipfile.ZIP_STORED
    if member.file_size > (packed if stored else DEFLATE_RATIO * packed + MOST_HEADER):
        raise corrupt(name, f"{member.file_size} bytes cannot come out of the {packed} that are there")


def _bomb(what: str, unpacked: int, packed: int) -> LoadError:
    return LoadError(
        "unsafe_file",
        f"{what} unpacks from {packed} to {unpacked} bytes, over {BOMB_RATIO} times its size. Data this "
        "empty are taken for an archive bomb: write them with np.savez (not packed), or as safetensors.",
    )


class Header(NamedTuple):
    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype[Any]
    bytes: int  # of magic, length and header


def _source(archive: zipfile.ZipFile, member: zipfile.ZipInfo, scratch: Path) -> Source:
    name = member.filename.removesuffix(".npy")
    with reading(f"{quoted(member.filename)} in the npz"), archive.open(member) as file:
        header = read_header(file, name)
    needed, held = prod(header.shape) * header.dtype.itemsize, member.file_size - header.bytes
    if needed != held:
        raise corrupt(
            f"{quoted(member.filename)} in the npz",
            f"its header asks for {needed} bytes ({header.dtype} {list(header.shape)}), but it holds {held}",
        )

    def blocks(rows: int) -> Iterator[Block]:
        if header.fortran and len(header.shape) > 1:
            yield from _fortran_blocks(archive, member, header, rows, scratch)
            return
        row_bytes = prod(header.shape[1:]) * header.dtype.itemsize
        with _data(archive, member, header) as file:
            for _, count in ranges(header.shape[0], rows):
                flat = np.frombuffer(_exactly(file, count * row_bytes, member), header.dtype)
                yield _native(flat).reshape(count, *header.shape[1:])

    return Source(name, header.shape, header.dtype.newbyteorder("="), blocks)


def read_header(file: IO[bytes], name: str) -> Header:
    """The header of a `.npy`, by numpy's own parser, which is given no more bytes than an honest header has.

    Raises:
        LoadError: an object array, a record, or a header that makes no sense.
    """
    start = file.read(8)
    major = start[6] if len(start) == 8 and start[:6] == b"\x93NUMPY" else 0
    if major not in (1, 2, 3):
        raise corrupt(name, "it is no .npy array")
    prefix = file.read(2 if major == 1 else 4)
    length = int.from_bytes(prefix, "little")
    if length > MOST_HEADER:
        raise LoadError(
            "unsafe_file", f"The header of {quoted(name)} has {length} bytes; {MOST_HEADER} at most."
        )
    text = io.BytesIO(prefix + file.read(length))
    # version 3 is version 2 with names of fields in UTF-8; arrays with fields are refused anyway
    parse = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # headers written by Python 2
        try:
            shape, fortran, dtype = parse(text, max_header_size=MOST_HEADER)
        except (
            Exception
        ) as broken:  # numpy hands on what Python's own parser raises, MemoryError of depth too
            raise corrupt(name, "its header makes no sense") from broken
    if dtype.hasobject:
        raise LoadError(
            "unsafe_file",
            f"{quoted(name)} is an object array, which is a pickle and can run code. Make it an array of "
            "numbers, all samples of one shape: np.stack(samples), or .astype(np.float32).",
        )
    if dtype.fields is not None or dtype.subdtype is not None or dtype.itemsize == 0:
        raise LoadError(
            "unsupported_dtype", f"{quoted(name)} holds records ({quoted(str(dtype))}), not numbers."
        )
    if any(n < 0 for n in shape):
        told = quoted(str(shape))
        raise LoadError("shape_mismatch", f"{quoted(name)} has a negative axis, by its header: {told}.")
    if len(shape) > MOST_DIMENSIONS:
        raise LoadError("shape_mismatch", f"{quoted(name)} has {len(shape)} axes; {MOST_DIMENSIONS} at most.")
    return Header(tuple(int(n) for n in shape), bool(fortran), dtype, 8 + len(prefix) + length)


def _native(block: Block) -> Block:
    return block.astype(block.dtype.newbyteorder("="), copy=False)


def _data(archive: zipfile.ZipFile, member: zipfile.ZipInfo, header: Header) -> IO[bytes]:
    """The member, read up to its data."""
    with reading(f"{quoted(member.filename)} in the npz"):
        file = archive.open(member)
        file.read(header.bytes)
    return file


def _exactly(file: IO[bytes], size: int, member: zipfile.ZipInfo) -> bytearray:
    """`size` bytes, in small reads: the zip's word on how much there is counts for nothing."""
    data = bytearray()
    with reading(f"{quoted(member.filename)} in the npz"):
        while len(data) < size:
            part = file.read(min(MOST_READ, size - len(data)))
            if not part:
                raise EOFError("it ends before its data do")
            data += part
    return data


def _fortran_blocks(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, header: Header, rows: int, scratch: Path
) -> Iterator[Block]:
    """Columns lie together, so that a row is spread over the file: unpack it, then read it through a memory
    map.
    """
    size = prod(header.shape) * header.dtype.itemsize
    with tempfile.NamedTemporaryFile(dir=scratch) as unpacked:
        with _data(archive, member, header) as file:
            for _, count in ranges(size, BLOCK_BYTES):
                unpacked.write(_exactly(file, count, member))
        unpacked.flush()
        whole: Block = np.memmap(unpacked.name, header.dtype, "r", shape=header.shape, order="F")
        for start, count in ranges(header.shape[0], rows):
            yield _native(np.ascontiguousarray(whole[start : start + count]))
        del whole
