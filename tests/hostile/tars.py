"""Tars that lead outside, link to what is not theirs, or lie about themselves."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable

from tests.hostile import good
from tests.hostile.case import READY, SLIPPED, Case
from tests.worker.loading.archives import link, tarred
from tests.worker.loading.files import zipped

PNG = good.PNG
MIB = 1024**2


def _special(kind: bytes, to: str = "/etc/passwd") -> Callable[[], bytes]:
    """Images, and one that is a link or a device."""
    return lambda: tarred({**good.IMAGES, "cat/x.png": link("cat/x.png", to, kind)})


def _named(name: str, **told: str) -> Callable[[], bytes]:
    return lambda: tarred({**good.IMAGES, name: PNG})


def _block(name: bytes = b"cat/1.png", size: bytes = b"%011o" % len(PNG), kind: bytes = b"0") -> bytes:
    """A header by hand, with the checksum of what it says."""
    head = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size.ljust(12, b"\0")
    head += b"0" * 11 + b"\0" + b" " * 8 + kind + bytes(100) + b"ustar\x0000" + bytes(32 + 32 + 16 + 155 + 12)
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def _file(head: bytes, data: bytes = PNG) -> bytes:
    return head + data + bytes(-len(data) % 512)


def _end(*files: bytes) -> bytes:
    return b"".join(files) + bytes(1024)


def _pax(**records: str) -> bytes:
    """Images, one of them with these records of its own."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in ("cat/1.png", "dog/1.png"):
            info = tarfile.TarInfo(name)
            info.size = len(PNG)
            info.pax_headers = records if name.startswith("dog") else {}
            archive.addfile(info, io.BytesIO(PNG))
    return buffer.getvalue()


def _sparse() -> bytes:
    """A file of 2**40 bytes, all of them holes."""
    return _pax(**{"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": str(2**40)})


def _long_name(kind: bytes, size: int) -> bytes:
    """A GNU header whose name is so long."""
    return _end(_file(_block(b"././@LongLink", b"%011o" % size, kind), b"x" * size), _file(_block()))


def _many_long_names(count: int) -> bytes:
    """Headers that each say that the next one has a long name."""
    one = _file(_block(b"././@LongLink", b"%011o" % 600, b"L"), b"x" * 600)
    return _end(one * count, _file(_block()))


def tiny(files: int) -> bytes:
    return _end(*(_block(b"%s/%d.png" % ((b"cat", b"dog")[i % 2], i), b"%011o" % 0) for i in range(files)))


def _gzipped(data: bytes, times: int = 1) -> bytes:
    for _ in range(times):
        data = gzip.compress(data)
    return data


def _linked_then_written() -> bytes:
    """A link to a folder outside, then a file in it."""
    return tarred({"cat/1.png": PNG, "out": link("out", "/tmp"), f"out/{SLIPPED}": PNG})


SLIPS = [
    *(
        Case(f"a path {what}", "tar", _named(name), "unsafe_file", "leads outside")
        for what, name in {
            "up": f"../../{SLIPPED}", "absolute": f"/tmp/{SLIPPED}", "of a drive": f"c:{SLIPPED}",
            "with backslashes": f"cat\\..\\..\\{SLIPPED}", "up within": f"cat/../../{SLIPPED}",
        }.items()
    ),
    Case("a link", "tar", _special(tarfile.SYMTYPE), "unsafe_file", "cat/x.png"),
    Case("a link up", "tar", _special(tarfile.SYMTYPE, "../../../etc/passwd"), "unsafe_file", "cat/x.png"),
    Case("a link to itself", "tar", _special(tarfile.SYMTYPE, "cat/x.png"), "unsafe_file", "cat/x.png"),
    Case("a hard link", "tar", _special(tarfile.LNKTYPE), "unsafe_file", "cat/x.png"),
    Case("a device of characters", "tar", _special(tarfile.CHRTYPE), "unsafe_file", "cat/x.png"),
    Case("a device of blocks", "tar", _special(tarfile.BLKTYPE), "unsafe_file", "cat/x.png"),
    Case("a pipe", "tar", _special(tarfile.FIFOTYPE), "unsafe_file", "cat/x.png"),
    Case("a link to a folder, then a file in it", "tar", _linked_then_written, "unsafe_file", "out"),
    Case("a type of file nobody knows", "tar", lambda: _end(_file(_block(kind=b"Z"))), "shape_mismatch|unsafe_file|ready|unknown_array"),
    Case("a path outside in its records", "tar", lambda: _pax(path=f"../../{SLIPPED}"), "unsafe_file", "leads outside"),
    Case("a link in its records", "tar", lambda: _pax(linkpath="/etc/passwd"), READY),
    Case("a name with NUL in its records", "tar", lambda: _pax(path="dog/\0.png"), "unsafe_file|corrupt_file"),
    Case("a name of 100,000 characters", "tar", lambda: _pax(path="dog/" + "x" * 100_000), "unsafe_file"),
    Case("a name that cannot be printed", "tar", _named("cat/\x1b[2J.png"), "unsafe_file", "unprintable"),
    Case("two files of one name", "tar", lambda: _end(_file(_block()), _file(_block())), "unsafe_file", "one name"),
]  # fmt: skip
LIES = [
    Case("a size of 8 GiB", "tar", lambda: _end(_file(_block(size=b"77777777777"))), "corrupt_file|sample_too_large", "cat/1.png"),
    Case("a size of 2**60 in its records", "tar", lambda: _pax(size=str(2**60)), "corrupt_file|sample_too_large"),
    Case("a negative size", "tar", lambda: _end(_file(_block(size=b"\xff" * 12))), "corrupt_file"),
    Case("a size of 2**88", "tar", lambda: _end(_file(_block(size=b"\x80" + b"\xff" * 11))), "corrupt_file|sample_too_large"),
    Case("a size that is no number", "tar", lambda: _end(_file(_block(size=b"99999999999"))), "corrupt_file"),
    Case("a size that is no number in its records", "tar", lambda: _pax(size="lots"), "corrupt_file|missing_value"),
    Case("a negative size in its records", "tar", lambda: _pax(size="-5"), "corrupt_file"),
    Case("a wrong checksum", "tar", lambda: _end(_file(_block().replace(b"cat", b"dog"))), "corrupt_file|shape_mismatch"),
    Case("a second header that is broken", "tar", lambda: _end(_file(_block()), _file(_block(b"dog/1.png").replace(b"dog", b"owl"))), "corrupt_file", "at byte"),
    Case("cut within a file", "tar", lambda: good.GOOD["tar"][:700], "corrupt_file"),
    Case("cut within a header", "tar", lambda: good.GOOD["tar"][:1300], "corrupt_file"),
    Case("a hole of 2**40 bytes", "tar", _sparse, "unsafe_file|corrupt_file"),
    Case("a sparse file of old", "tar", lambda: _end(_file(_block(kind=b"S"))), "unsafe_file|corrupt_file"),
    Case("a long name of 100 MiB", "tar", lambda: _long_name(b"L", 100 * MIB), "unsafe_file", seed=False, heavy=True),
    Case("a long name that never ends", "tar", lambda: _end(_block(b"././@LongLink", b"%011o" % 2**30, b"L")), "corrupt_file|unsafe_file"),
    Case("a long link of 2 MiB", "tar", lambda: _long_name(b"K", 2 * MIB), "unsafe_file", seed=False),
    Case("20,000 long names, one after the other", "tar", lambda: _many_long_names(20_000), "corrupt_file|unsafe_file", seed=False),
    Case("an empty tar", "tar", lambda: _end(_file(_block(b"x/", b"%011o" % 0, b"5"), b"")), "shape_mismatch"),
]  # fmt: skip
BOMBS = [
    Case("a tar.gz of 200 MiB of nothing", "tar", lambda: _gzipped(_end(_file(_block(size=b"%011o" % (200 * MIB)), bytes(200 * MIB)))), "unsafe_file", "bomb", heavy=True, seed=False),
    Case("a tar.gz in a gzip, four times", "tar", lambda: _gzipped(good.GOOD["tar"], 4), "corrupt_file"),
    Case("a tar in the tar", "tar", lambda: tarred({**good.IMAGES, "cat/x.tar": good.GOOD["tar"]}), "unsafe_file", "cat/x.tar"),
    Case("a tar.gz in the tar", "tar", lambda: tarred({**good.IMAGES, "cat/x.tgz": _gzipped(good.GOOD["tar"])}), "unsafe_file", "cat/x.tgz"),
    Case("a zip in the tar", "tar", lambda: tarred({**good.IMAGES, "cat/x.zip": zipped({})}), "unsafe_file", "cat/x.zip"),
    Case("a gzip with a wrong checksum", "tar", lambda: _gzipped(good.GOOD["tar"])[:-8] + bytes(8), "corrupt_file"),
    Case("a gzip that ends too early", "tar", lambda: _gzipped(good.GOOD["tar"])[:-30], "corrupt_file"),
    Case("a hundred thousand files of nothing", "tar", lambda: tiny(100_000), "missing_value|corrupt_file", seed=False, heavy=True),
    Case("a hundred thousand gzips, end to end", "tar", lambda: gzip.compress(b"") * 100_000, "corrupt_file", seed=False),
    Case("samples that lack a file", "webdataset", lambda: tarred({"0.png": PNG, "0.cls": b"1", "1.png": PNG}), "missing_value", "Sample 1"),
    Case("a class that is no number", "webdataset", lambda: tarred({"0.png": PNG, "0.cls": b"\xff\xfe"}), "corrupt_file", "0.cls"),
    Case("JSON a hundred thousand deep", "webdataset", lambda: tarred({"0.png": PNG, "0.json": b'{"a":' * 100_000}), "corrupt_file", "0.json"),
    Case("JSON with keys of every kind", "webdataset", lambda: tarred({"0.png": PNG, "0.json": b'{"png": 1, "": 2, "__key__": 3}'}), "unknown_array|invalid_name"),
    Case("an integer of 10,000 digits", "webdataset", lambda: tarred({"0.png": PNG, "0.json": b'{"a": ' + b"9" * 10_000 + b"}"}), "corrupt_file", "0.json"),
    Case("samples without an ending", "webdataset", lambda: tarred({"README": b"hello"}), "unknown_array", "README"),
]  # fmt: skip
CASES = [*SLIPS, *LIES, *BOMBS]
