"""Zips that lead outside, lie about themselves, or unpack to far more than they are."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping

from tests.hostile import good
from tests.hostile.case import SLIPPED, Case
from tests.worker.loading.archives import tarred
from tests.worker.loading.files import npy, zipped

MIB = 1024**2
LOCAL, ENTRY, END = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L"), struct.Struct("<4s4H2LH")
PNG = good.PNG
Fields = Mapping[str, int]


def raw(
    entries: list[tuple[bytes, bytes, Fields]], *, count: int | None = None, shift: int = 0, more: bytes = b""
) -> bytes:
    """A zip by hand: (name, bytes as they lie there, {what the directory says instead}) of each entry.

    Args:
        count: of entries, as the end says it.
        shift: of the directory's place, as the end says it.
        more: between the directory and its end.
    """
    body, directory = b"", b""
    for name, data, told in entries:
        size, packed = told.get("size", len(data)), told.get("packed", len(data))
        crc, method, flags = (
            told.get("crc", zlib.crc32(data)),
            told.get("method", 0),
            told.get("flags", 0x800),
        )
        place, extra = told.get("place", len(body)), told.get("extra", 0)
        local = LOCAL.pack(b"PK\3\4", 20, flags, method, 0, 0, crc, packed, size, len(name), extra)
        body += local + name + data
        mode = told.get("mode", 0) << 16
        directory += ENTRY.pack(
            b"PK\1\2", 20, 20, flags, method, 0, 0, crc, packed, size, len(name), 0, 0, 0, 0, mode, place
        ) + name  # fmt: skip
    number = len(entries) if count is None else count
    end = END.pack(b"PK\5\6", 0, 0, number & 0xFFFF, number & 0xFFFF, len(directory), len(body) + shift, 0)
    return body + directory + more + end


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    return packer.compress(data) + packer.flush()


def images(**more: bytes) -> bytes:
    return zipped({**good.IMAGES, **more})


def named(name: str | bytes, **told: int) -> Callable[[], bytes]:
    """Images, and one by this name, byte for byte."""
    data = name.encode("utf-8", "surrogatepass") if isinstance(name, str) else name
    return lambda: raw([(b"cat/1.png", PNG, {}), (b"dog/1.png", PNG, {}), (data, PNG, told)])


def changed(**told: int) -> Callable[[], bytes]:
    """Images, of one of which the directory says this."""
    return lambda: raw([(b"cat/1.png", PNG, {}), (b"dog/1.png", PNG, told)])


def _bomb(times: int) -> bytes:
    """One entry of so many mebibytes of nothing."""
    data = deflated(bytes(times * MIB))
    told = {"size": times * MIB, "crc": zlib.crc32(bytes(times * MIB)), "method": 8}
    return raw([(b"cat/1.png", PNG, {}), (b"dog/1.png", data, told)])


def _bombs(entries: int) -> bytes:
    data, crc = deflated(bytes(MIB)), zlib.crc32(bytes(MIB))
    told = {"size": MIB, "crc": crc, "method": 8}
    return raw([(b"dog/%d.png" % i, data, told) for i in range(entries)])


def _overlapping(entries: int) -> bytes:
    """Each entry is the same one (Fifield's bomb): the directory alone grows."""
    data = deflated(bytes(8 * MIB))
    told = {"size": 8 * MIB, "crc": zlib.crc32(bytes(8 * MIB)), "method": 8, "place": 0}
    return raw(
        [(b"cat/%05d.png" % i, data if not i else b"", {**told, "packed": len(data)}) for i in range(entries)]
    )


def _shared() -> bytes:
    """Two names of one place."""
    return raw([(b"cat/1.png", PNG, {}), (b"dog/1.png", b"", {"place": 0, "packed": len(PNG), "size": len(PNG), "crc": zlib.crc32(PNG)})])  # fmt: skip


def tiny(entries: int) -> bytes:
    """So many images of no bytes in two folders."""
    body, directory = io.BytesIO(), io.BytesIO()
    for i in range(entries):
        name = b"%s/%d.png" % ((b"cat", b"dog")[i % 2], i)
        place = body.tell()
        body.write(LOCAL.pack(b"PK\3\4", 20, 0x800, 0, 0, 0, 0, 0, 0, len(name), 0) + name)
        directory.write(
            ENTRY.pack(b"PK\1\2", 20, 20, 0x800, 0, 0, 0, 0, 0, 0, len(name), 0, 0, 0, 0, 0, place) + name
        )
    start, size = body.tell(), directory.tell()
    wide = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, entries, entries, size, start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, start + size, 1)
    end = END.pack(b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return body.getvalue() + directory.getvalue() + wide + locator + end


def _zip64(**told: int) -> bytes:
    """A directory of 64 bits that says this."""
    whole = raw([(b"cat/1.png", PNG, {}), (b"dog/1.png", PNG, {})])
    size, start = END.unpack(whole[-END.size :])[5:7]
    wide = struct.pack(
        "<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, told.get("entries", 2), told.get("entries", 2),
        told.get("size", size), told.get("start", start),
    )  # fmt: skip
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, told.get("at", start + size), 1)
    end = END.pack(b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return whole[: start + size] + wide + locator + end


def _wide_size(value: int) -> bytes:
    """An entry whose size stands in the extra field of 64 bits."""
    extra = struct.pack("<2HQ", 1, 8, value)
    name, crc = b"cat/1.png", zlib.crc32(PNG)
    local = LOCAL.pack(b"PK\3\4", 45, 0x800, 0, 0, 0, crc, len(PNG), len(PNG), len(name), 0) + name + PNG
    entry = ENTRY.pack(
        b"PK\1\2", 45, 45, 0x800, 0, 0, 0, crc, len(PNG), 0xFFFFFFFF, len(name), len(extra), 0, 0, 0, 0, 0
    )
    directory = entry + name + extra
    return local + directory + END.pack(b"PK\5\6", 0, 0, 1, 1, len(directory), len(local), 0)


def _nested(depth: int) -> bytes:
    data = images()
    for _ in range(depth):
        data = zipped({"cat/more.zip": data})
    return data


def _quine() -> bytes:
    """A zip whose one entry is itself, as far as a stored entry can be: its bytes are the whole file's."""
    whole = raw([(b"cat/quine.zip", PNG, {})])
    return raw([(b"cat/quine.zip", whole, {})])


def _other_name() -> bytes:
    """The entry's own header calls it otherwise than the directory."""
    return raw([(b"cat/1.png", PNG, {}), (b"dog/1.png", PNG, {})]).replace(b"dog/1.png", b"../1/2.ng", 1)


def _link() -> bytes:
    return raw([(b"cat/1.png", PNG, {}), (b"dog/1.png", b"/etc/passwd", {"mode": stat.S_IFLNK | 0o777})])


def _two_directories() -> bytes:
    """One directory in the comment of the other: readers differ in which they take."""
    return raw([(b"cat/1.png", PNG, {})]) + raw([(b"../" + SLIPPED.encode(), PNG, {})])


def _prefixed() -> bytes:
    """A program in front, as installers have it."""
    return b"PK\3\4#!/bin/sh\nexit 0\n" + images()


OUTSIDE = {
    "up": f"../../{SLIPPED}", "up within": f"cat/../../../{SLIPPED}", "absolute": f"/tmp/{SLIPPED}",
    "a drive": f"C:/{SLIPPED}", "backslashes": f"..\\..\\{SLIPPED}", "a share": f"\\\\host\\{SLIPPED}",
    "up at the end": "cat/..", "up, twice encoded": f"cat/..%2f..%2f\\{SLIPPED}",
}  # fmt: skip
NAMES = {
    "NUL": "cat/x\0.png", "a line break": "cat/\n.png", "an escape": "cat/\x1b[31m.png",
    "a right-to-left mark": "cat/\u202egnp.exe.png", "a lone surrogate": "cat/\ud800.png",
    "2,000 characters": f"cat/{'x' * 2000}.png", "65,000 characters": f"cat/{'x' * 65_000}.png",
    "a deep path": "/".join(["a"] * 600) + ".png", "a byte-order mark": "cat/\ufeff.png",
}  # fmt: skip
SLIPS = [
    *(Case(f"a path {what}", "imagefolder", named(name), "unsafe_file", "leads outside") for what, name in OUTSIDE.items()),
    *(Case(f"a name with {what}", "imagefolder", named(name), "unsafe_file|corrupt_file") for what, name in NAMES.items()),
    Case("a path up", "npz", lambda: zipped({"../inputs.npy": npy(good.X), "targets.npy": npy(good.Y)}), "unsafe_file", "outside"),
    Case("an absolute path", "npz", lambda: zipped({"/inputs.npy": npy(good.X), "targets.npy": npy(good.Y)}), "unsafe_file", "outside"),
    Case("a drive", "npz", lambda: zipped({"C:inputs.npy": npy(good.X), "targets.npy": npy(good.Y)}), "unsafe_file|missing_array", "inputs"),
    Case("backslashes", "npz", lambda: zipped({"..\\inputs.npy": npy(good.X), "targets.npy": npy(good.Y)}), "unsafe_file", "outside"),
    Case("a name that is no UTF-8", "imagefolder", named(b"cat/\xff\xfe.png"), "corrupt_file"),
    Case("a link", "imagefolder", _link, "unsafe_file", "dog/1.png"),
    Case("a device", "imagefolder", named("cat/x.png", mode=stat.S_IFBLK | 0o666), "unsafe_file", "cat/x.png"),
    Case("a pipe", "imagefolder", named("cat/x.png", mode=stat.S_IFIFO | 0o666), "unsafe_file", "cat/x.png"),
    Case("a link", "npz", lambda: zipped({"inputs.npy": npy(good.X), "targets.npy": b"/etc/passwd"}, lambda info: setattr(info, "external_attr", (stat.S_IFLNK | 0o777) << 16)), "unsafe_file", "link"),
    Case("two files of one name", "imagefolder", named("cat/1.png"), "unsafe_file", "one name"),
    Case("names that differ in case", "imagefolder", named("CAT/1.PNG"), "ready"),
    Case("two directories", "imagefolder", _two_directories, "unsafe_file|corrupt_file"),
    Case("another name in the entry", "imagefolder", _other_name, "corrupt_file", "another name"),
    Case("a program in front", "imagefolder", _prefixed, "ready"),
]  # fmt: skip
LIES = [
    Case("a wrong checksum", "imagefolder", changed(crc=1), "corrupt_file", "checksum"),
    Case("a size too small", "imagefolder", changed(size=3), "corrupt_file", "dog/1.png"),
    Case("a size too large", "imagefolder", changed(size=len(PNG) + 9, packed=len(PNG) + 9), "corrupt_file", "dog/1.png"),
    Case("a size of 4 GiB", "imagefolder", changed(size=2**32 - 2), "sample_too_large|corrupt_file", "dog/1.png"),
    Case("a place outside the file", "imagefolder", changed(place=2**32 - 2), "corrupt_file", "dog/1.png"),
    Case("a place within another", "imagefolder", changed(place=5), "corrupt_file", "dog/1.png"),
    Case("an encrypted entry", "imagefolder", changed(flags=0x801), "unsafe_file", "encrypted"),
    Case("packed by LZMA", "imagefolder", changed(method=14), "unsafe_file", "dog/1.png"),
    Case("packed by method 99", "imagefolder", changed(method=99), "unsafe_file", "dog/1.png"),
    Case("deflate that is none", "imagefolder", changed(method=8), "corrupt_file", "dog/1.png"),
    Case("an entry's header beyond the end", "imagefolder", changed(extra=65_535), "corrupt_file"),
    Case("more entries than there are", "imagefolder", lambda: raw([(b"cat/1.png", PNG, {}), (b"dog/1.png", PNG, {})], count=65_535), "ready"),
    Case("a directory elsewhere", "imagefolder", lambda: raw([(b"cat/1.png", PNG, {})], shift=10_000), "corrupt_file"),
    Case("something behind the directory", "imagefolder", lambda: raw([(b"cat/1.png", PNG, {}), (b"dog/1.png", PNG, {})], more=bytes(100)), "corrupt_file"),
    Case("no directory", "imagefolder", lambda: images()[:-22], "corrupt_file"),
    Case("a comment that is a directory's end", "imagefolder", lambda: images()[:-2] + struct.pack("<H", 22) + END.pack(b"PK\5\6", 0, 0, 9, 9, 9, 9, 0), "corrupt_file"),
    Case("64 bits: 2**60 entries", "imagefolder", lambda: _zip64(entries=2**60), "ready"),
    Case("64 bits: a directory of 2**60 bytes", "imagefolder", lambda: _zip64(size=2**60), "corrupt_file"),
    Case("64 bits: a directory at 2**63", "imagefolder", lambda: _zip64(start=2**63), "corrupt_file"),
    Case("64 bits: an entry of 2**63 bytes", "imagefolder", lambda: _wide_size(2**63), "sample_too_large|corrupt_file", "cat/1.png"),
    Case("64 bits: an entry of 2**64 - 1 bytes", "imagefolder", lambda: _wide_size(2**64 - 1), "sample_too_large|corrupt_file", "cat/1.png"),
    Case("64 bits: an array of 2**60 bytes", "npz", lambda: _wide_size(2**60), "corrupt_file|unknown_array|unsafe_file"),
    Case("an empty zip", "imagefolder", lambda: zipped({}), "shape_mismatch|corrupt_file"),
    Case("folders alone", "imagefolder", lambda: zipped({"cat/": b"", "dog/": b""}), "shape_mismatch"),
]  # fmt: skip
BOMBS = [
    Case("an entry of 200 MiB of nothing", "imagefolder", lambda: _bomb(200), "unsafe_file", "bomb", heavy=True, seed=False),
    Case("100 entries of 1 MiB of nothing", "imagefolder", lambda: _bombs(100), "unsafe_file", "bomb", seed=False),
    Case("2,000 names of one entry", "imagefolder", lambda: _overlapping(2000), "unsafe_file", "bomb", seed=False),
    Case("two names of one entry", "imagefolder", _shared, "corrupt_file"),
    Case("an array of 200 MiB of nothing", "npz", lambda: _npz_bomb(200), "unsafe_file", "bomb", heavy=True, seed=False),
    Case("a zip in the zip", "imagefolder", lambda: _nested(1), "unsafe_file", "more.zip"),
    Case("zips, ten deep", "imagefolder", lambda: _nested(10), "unsafe_file", "more.zip"),
    Case("a zip of itself", "imagefolder", _quine, "unsafe_file", "quine.zip"),
    Case("a tar in the zip", "imagefolder", lambda: images(**{"cat/x.tar": tarred(good.IMAGES)}), "unsafe_file", "cat/x.tar"),
    Case("a zip in the zip, called .png", "imagefolder", lambda: images(**{"cat/x.png": images()}), "corrupt_file"),
    Case("a million entries of nothing", "imagefolder", lambda: tiny(1_000_000), "corrupt_file|missing_value|unsafe_file", heavy=True, seed=False),
    Case("a hundred thousand entries of nothing", "imagefolder", lambda: tiny(100_000), "corrupt_file|missing_value", heavy=True, seed=False),
    Case("100,000 members", "npz", lambda: tiny(100_000), "unsafe_file|unknown_array", seed=False),
    Case("17 arrays", "npz", lambda: zipped({f"{i}.npy": npy(good.X) for i in range(17)}), "unknown_array"),
    Case("an array twice", "npz", lambda: raw([(b"inputs.npy", npy(good.X), {}), (b"inputs.npy", npy(good.X), {}), (b"targets.npy", npy(good.Y), {})]), "unsafe_file", "one name"),
    Case("an array packed by bzip2", "npz", lambda: _packed(zipfile.ZIP_BZIP2), "unsafe_file"),
    Case("an array packed by LZMA", "npz", lambda: _packed(zipfile.ZIP_LZMA), "unsafe_file"),
]  # fmt: skip


def _npz_bomb(times: int) -> bytes:
    array = npy(good.X[:1].repeat(times * MIB // 16, 0) * 0)
    return raw([(b"inputs.npy", deflated(array), {"size": len(array), "crc": zlib.crc32(array), "method": 8}), (b"targets.npy", npy(good.Y), {})])  # fmt: skip


def _packed(method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("inputs.npy", npy(good.X))
        archive.writestr("targets.npy", npy(good.Y))
    return buffer.getvalue()


CASES = [*SLIPS, *LIES, *BOMBS]
