"""Reads a zip's directory an entry at a time, and its files: Python's own reader holds 1.2 kB of each entry.

Format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, 4.3
"""

from __future__ import annotations

import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from worker.loading.errors import LoadError, corrupt, quoted, reading
from worker.loading.members import Member

END, END_64, LOCATOR_64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
ENTRY, LOCAL = struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s5H3L2H")
COMMENT = 65_535
FULL = 0xFFFFFFFF  # the value stands in the extra field of 64 bits
ENCRYPTED, UTF8 = 0x41, 0x800
SPARE = 65_536  # bytes that packing may add


class Entry(NamedTuple):
    """An entry of the directory; `kind` is the file type of its mode, 0 where it has none."""

    member: Member
    kind: int
    flags: int

    @property
    def is_folder(self) -> bool:
        return self.member.name.endswith("/")


def entries(file: IO[bytes]) -> Iterator[Entry]:
    """The entries of the directory, in its order.

    Raises:
        LoadError: the directory is broken.
    """
    with reading("The zip"):
        start, size, shift = _directory(file)
        file.seek(start)
        left = size
        while left:
            fixed = _exactly(file, ENTRY.size)
            (magic, _, _, flags, method, _, _, crc, packed, unpacked, name_bytes, extra_bytes, comment_bytes,
             _, _, mode, place) = ENTRY.unpack(fixed)  # fmt: skip
            if magic != b"PK\x01\x02":
                raise zipfile.BadZipFile("its directory is broken")
            raw, extra = _exactly(file, name_bytes), _exactly(file, extra_bytes)
            file.seek(comment_bytes, os.SEEK_CUR)
            left -= ENTRY.size + name_bytes + extra_bytes + comment_bytes
            if left < 0:
                raise zipfile.BadZipFile("its directory is longer than it says")
            unpacked, packed, place = _in_full(extra, unpacked, packed, place)
            member = Member(_name(raw, flags), unpacked, place + shift, packed, method, crc)
            yield Entry(member, stat.S_IFMT(mode >> 16), flags)


def _directory(file: IO[bytes]) -> tuple[int, int, int]:
    """(where the directory starts, its bytes, how far all places are off for what stands before the zip)."""
    length = file.seek(0, os.SEEK_END)
    tail = max(0, length - COMMENT - END.size)
    file.seek(tail)
    found = file.read(COMMENT + END.size)
    at = _end(found)
    _, _, _, _, _, size, start, _ = END.unpack_from(found, at)
    end = tail + at
    file.seek(max(0, end - LOCATOR_64.size))
    if end >= LOCATOR_64.size and _exactly(file, LOCATOR_64.size).startswith(b"PK\x06\x07"):
        end -= LOCATOR_64.size + END_64.size
        file.seek(max(0, end))
        magic, *_, size, start = END_64.unpack(_exactly(file, END_64.size))
        if magic != b"PK\x06\x06":
            raise zipfile.BadZipFile("the end of its directory is broken")
    shift = end - size - start
    if shift < 0:
        raise zipfile.BadZipFile("its directory lies outside the file")
    return start + shift, size, shift


def _end(found: bytes) -> int:
    """Where the directory's end begins: what follows it is its comment, in which anything may stand."""
    at = len(found)
    while (at := found.rfind(b"PK\x05\x06", 0, at)) != -1:
        left = len(found) - at - END.size
        if left >= 0 and END.unpack_from(found, at)[-1] == left:
            return at
    raise zipfile.BadZipFile("it has no directory")


def _in_full(extra: bytes, *values: int) -> list[int]:
    """The values, those that are FULL out of the extra field of 64 bits."""
    wide: list[int] = []
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            wide = list(struct.unpack_from(f"<{min(length, len(extra) - 4) // 8}Q", extra, 4))
        extra = extra[4 + length :]
    if values.count(FULL) > len(wide):
        return list(values)
    return [wide.pop(0) if value == FULL else value for value in values]


def _name(raw: bytes, flags: int) -> str:
    return raw.decode("utf-8" if flags & UTF8 else "cp437")


def check_entry(entry: Entry) -> None:
    """Raises LoadError for what is no plain file that can be read."""
    name = quoted(entry.member.name)
    if entry.kind not in (0, stat.S_IFREG):
        raise LoadError("unsafe_file", f"{name!r} in the zip is a link or a device, no file.")
    if entry.flags & ENCRYPTED:
        raise LoadError("unsafe_file", f"{name!r} in the zip is encrypted: write it without a password.")
    if entry.member.method not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise LoadError("unsafe_file", f"{name!r} is packed in a way other than deflate.")
    stored, packed, size = entry.member.method == zipfile.ZIP_STORED, entry.member.packed, entry.member.size
    if (stored and packed != size) or packed > size + size // 100 + SPARE:
        raise corrupt(f"{name} in the zip", f"{size} bytes are said to be packed into {packed}")


def content(file: IO[bytes], member: Member) -> bytes:
    """The bytes of a file in the zip.

    Raises:
        LoadError: they are not what the directory says.
    """
    what = f"{quoted(member.name)} in the zip"
    with reading(what):
        file.seek(member.place)
        magic, _, flags, method, *_, name_bytes, extra_bytes = LOCAL.unpack(_exactly(file, LOCAL.size))
        if magic != b"PK\x03\x04" or method != member.method:
            raise zipfile.BadZipFile("its header is broken")
        if _name(_exactly(file, name_bytes), flags) != member.name:
            raise zipfile.BadZipFile("its header has another name than the directory")
        file.seek(extra_bytes, os.SEEK_CUR)
        data = _exactly(file, member.packed)
        if member.method == zipfile.ZIP_DEFLATED:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, member.size + 1)
    if len(data) != member.size:
        raise corrupt(what, "it has another size than the directory says")
    if zlib.crc32(data) != member.crc:
        raise corrupt(what, "its checksum is another than the directory says")
    return data


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise EOFError("it ends before its data do")
    return data
