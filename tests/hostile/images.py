"""Images that unpack to far more than they are, are cut, or are something else."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from tests.hostile import good
from tests.hostile.case import READY, Case
from tests.worker.loading.archives import colour, picture
from tests.worker.loading.files import zipped
from tests.worker.loading.tables import parquet

MIB = 1024**2
SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIXELS = colour(4, 4)


def among(image: bytes) -> bytes:
    """Good images, and this one."""
    return zipped({**good.IMAGES, "dog/x.png": image})


def _case(name: str, build: Callable[[], bytes], codes: str, says: str = "image", **more: Any) -> Case:
    return Case(name, "imagefolder", lambda: among(build()), codes, says, **more)


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    return (
        struct.pack(">I", len(data))
        + kind
        + data
        + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)
    )


def png(
    width: int = 4, height: int = 4, *, depth: int = 8, colours: int = 2, interlace: int = 0,
    data: bytes | None = None, before: bytes = b"",
) -> bytes:  # fmt: skip
    """A PNG whose header says this, whatever its data are."""
    head = struct.pack(">2I5B", width, height, depth, colours, 0, 0, interlace)
    pixels = zlib.compress(b"".join(b"\0" + bytes(3 * 4) for _ in range(4)) if data is None else data, 9)
    return SIGNATURE + chunk(b"IHDR", head) + before + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _text_bomb(kind: bytes, times: int, mebibytes: int) -> bytes:
    start = b"Comment\0\0" + (b"\0\0\0" if kind == b"iTXt" else b"")
    if kind == b"iTXt":
        start = b"Comment\0\1\0\0\0"
    return png(before=chunk(kind, start + zlib.compress(bytes(mebibytes * MIB), 9)) * times)


def _profile_bomb() -> bytes:
    return png(before=chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(bytes(100 * MIB), 9)))


def _of(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, kind, **options)
    return buffer.getvalue()


def _animated(kind: str) -> bytes:
    buffer = io.BytesIO()
    frames = [Image.fromarray(colour(4, 4)) for _ in range(5)]
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def _jpeg(width: int, height: int) -> bytes:
    """A JPEG that says it has these sides."""
    data = bytearray(picture(PIXELS, "JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">2H", height, width)
    return bytes(data)


def _bmp(**told: int) -> bytes:
    data = bytearray(picture(PIXELS, "BMP"))
    for place, name in ((18, "width"), (22, "height")):
        if name in told:
            data[place : place + 4] = struct.pack("<i", told[name])
    return bytes(data)


def _webp(width: int, height: int) -> bytes:
    """A canvas of these sides, with nothing on it."""
    canvas = (
        b"VP8X"
        + struct.pack("<I", 10)
        + bytes([0x10, 0, 0, 0])
        + (width - 1).to_bytes(3, "little")
        + (height - 1).to_bytes(3, "little")
    )
    return b"RIFF" + struct.pack("<I", 4 + len(canvas)) + b"WEBP" + canvas


def _ppm(text: bytes) -> Callable[[], bytes]:
    return lambda: text + bytes(48)


def _jpeg_markers(count: int) -> bytes:
    """A JPEG with so many segments of 64 KiB before its picture."""
    data = picture(PIXELS, "JPEG")
    return data[:2] + (b"\xff\xe2\xff\xff" + b"ICC_PROFILE\0\1\1" + bytes(65_519)) * count + data[2:]


def _scans(side: int, times: int) -> bytes:
    """A progressive JPEG of one colour whose last scan is there so many times more."""
    buffer = io.BytesIO()
    Image.new("L", (side, side)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    end = len(data) - 2
    return data[:end] + data[data.rindex(b"\xff\xda") : end] * times + data[end:]


def _exif(tag: bytes) -> bytes:
    """A JPEG with EXIF of our making."""
    data = picture(PIXELS, "JPEG")
    body = b"Exif\0\0" + tag
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


def _many_pixels(side: int) -> bytes:
    """A true picture of one colour: small as it lies there."""
    return picture(np.zeros((side, side, 3), np.uint8))


def _column(values: list[Any], **more: Any) -> bytes:
    return parquet({"image": values, "label": list(range(len(values))), **more})


HUGE: Mapping[str, Callable[[], bytes]] = {
    "a PNG of 2**31 - 1 pixels a side": lambda: png(2**31 - 1, 2**31 - 1),
    "a PNG of 2**32 - 1 pixels a side": lambda: png(2**32 - 1, 2**32 - 1),
    "a PNG of 100,000 pixels a side": lambda: png(100_000, 100_000),
    "a PNG of 2**31 - 1 pixels in a row": lambda: png(2**31 - 1, 1),
    "a PNG of 9,000 pixels a side": lambda: png(9000, 9000),
    "a JPEG of 65,535 pixels a side": lambda: _jpeg(65_535, 65_535),
    "a BMP of 2**31 - 1 pixels a side": lambda: _bmp(width=2**31 - 1, height=2**31 - 1),
    "a BMP of negative sides": lambda: _bmp(width=-4, height=-(2**31)),
    "a WebP of 16,384 pixels a side": lambda: _webp(16_384, 16_384),
    "a PNM of 10**9 pixels a side": _ppm(b"P6 1000000000 1000000000 255\n"),
    "a PNM of 10**30 pixels a side": _ppm(b"P6 1" + b"0" * 30 + b" 1 255\n"),
}
SIDES = [
    *(_case(name, build, "sample_too_large|corrupt_file") for name, build in HUGE.items()),
    _case("a PNG of 10,000 pixels a side, and true", lambda: _many_pixels(10_000), "sample_too_large", seed=False, heavy=True),
    _case("a PNG of no pixels", lambda: png(0, 0), "corrupt_file"),
    _case("a JPEG of no pixels", lambda: _jpeg(0, 0), "corrupt_file"),
    _case("a BMP of no pixels", lambda: _bmp(width=0, height=0), "corrupt_file|shape_mismatch"),
    _case("a PNM of negative sides", _ppm(b"P6 -4 4 255\n"), "corrupt_file"),
    _case("a PNM of 2**40 colours", _ppm(b"P6 4 4 1099511627776\n"), "corrupt_file"),
    _case("a PNM with a comment of 1 MiB", lambda: b"P6 #" + b"x" * MIB + b"\n4 4 255\n" + bytes(48), "ready|corrupt_file", "", seed=False),
    _case("an image of another size", lambda: picture(colour(9, 4)), "shape_mismatch", "9 x 4"),
    Case("an image that image_size makes huge", "imagefolder", lambda: among(good.PNG), "dataset_too_large", "image_size", asked={"image_size": [8192, 8192], "image_mode": "RGBA"}, heavy=True, seed=False),
]  # fmt: skip
BOMBS = [
    _case("a PNG whose data unpack to 200 MiB", lambda: png(data=bytes(200 * MIB)), "ready|corrupt_file", "", seed=False, heavy=True),
    _case("a PNG with a text that unpacks to 100 MiB", lambda: _text_bomb(b"zTXt", 1, 100), "unsafe_file", "bomb", seed=False),
    _case("a PNG with 100 texts of 1 MiB each", lambda: _text_bomb(b"zTXt", 100, 1), "unsafe_file", "bomb", heavy=True, seed=False),
    _case("a PNG with a Unicode text of 100 MiB", lambda: _text_bomb(b"iTXt", 1, 100), "unsafe_file", "bomb", heavy=True, seed=False),
    _case("a PNG with a colour profile of 100 MiB", _profile_bomb, "unsafe_file", "bomb", seed=False),
    _case("a PNG with 20,000 chunks", lambda: png(before=chunk(b"teST", b"") * 20_000), READY, "", seed=False),
    _case("a PNG with a chunk of 2**31 bytes", lambda: png(before=struct.pack(">I", 2**31) + b"zTXt"), "corrupt_file"),
    _case("a PNG with a wrong checksum", lambda: png(before=chunk(b"gAMA", bytes(4), 1)), "corrupt_file|ready", ""),
    _case("a PNG with a palette of no colours", lambda: png(colours=3), "corrupt_file|ready|shape_mismatch", ""),
    _case("a PNG of colour type 7", lambda: png(colours=7), "corrupt_file"),
    _case("a PNG of 16 bits a channel", lambda: picture(PIXELS[:, :, 0].astype(np.uint16) * 256), "unsupported_dtype", "8 bits"),
    _case("a PNG without data", lambda: png(data=b""), "corrupt_file"),
    _case("a PNG that is cut", lambda: good.PNG[:-30], "corrupt_file"),
    _case("a PNG interlaced, and cut", lambda: png(interlace=1, data=bytes(5)), "corrupt_file"),
    _case("a JPEG that is cut", lambda: picture(PIXELS, "JPEG")[:200], "corrupt_file"),
    _case("a JPEG with 200 profiles of 64 KiB", lambda: _jpeg_markers(200), "ready|corrupt_file", "", seed=False),
    _case("a JPEG of 64 Mi pixels in 2,500 scans", lambda: _scans(8192, 2500), "unsafe_file", "2506 scans", seed=False),
    _case("a JPEG of 101 scans", lambda: _scans(8, 95), "unsafe_file", "/image/"),
    _case("a JPEG of 100 scans", lambda: _scans(4, 94), READY, ""),
    _case("a JPEG with EXIF that goes round", lambda: _exif(b"II*\0\x08\0\0\0\1\0\x69\x87\4\0\1\0\0\0\x08\0\0\0\x08\0\0\0"), READY, ""),
    _case("a JPEG with EXIF of 2**32 - 1 values", lambda: _exif(b"II*\0\x08\0\0\0\1\0\x0e\1\2\0\xff\xff\xff\xff\x08\0\0\0\0\0\0\0"), READY, ""),
    _case("a PNG with 10,000 frames", lambda: png(before=chunk(b"acTL", struct.pack(">2I", 10_000, 0))), "unsupported_dtype|ready|corrupt_file", ""),
    _case("an animated PNG", lambda: _animated("PNG"), "unsupported_dtype", "animation"),
    _case("an animated WebP", lambda: _animated("WEBP"), "unsupported_dtype", "animation"),
    _case("a WebP that is cut", lambda: _of("WEBP")[:40], "corrupt_file"),
]  # fmt: skip
OTHERS = [
    *(_case(f"a {kind} called .png", partial(_of, kind), "corrupt_file") for kind in ("GIF", "TIFF", "ICO", "PDF")),
    _case("a GIF of 65,535 pixels a side called .png", lambda: b"GIF89a" + struct.pack("<2H", 65_535, 65_535) + bytes(20), "corrupt_file"),
    _case("an SVG with an entity that grows", lambda: b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><svg>&b;</svg>', "corrupt_file"),
    _case("a PostScript program", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\n(%pipe%id) (w) file\n", "corrupt_file"),
    _case("HTML", lambda: b"<script>alert(1)</script>", "corrupt_file"),
    _case("no bytes", lambda: b"", "missing_value|corrupt_file", "no bytes"),
    Case("a text among the images", "imagefolder", lambda: zipped({**good.IMAGES, "cat/README.txt": b"hello"}), "unknown_array", "README.txt"),
    Case("an image in no folder", "imagefolder", lambda: zipped({**good.IMAGES, "x.png": good.PNG}), "unknown_array", "x.png"),
    Case("a PNG of 100,000 pixels a side in a column", "parquet", lambda: _column([good.PNG, png(100_000, 100_000)]), "sample_too_large", "image"),
    Case("a text that unpacks to 10 MiB in a column", "parquet", lambda: _column([good.PNG, _text_bomb(b"zTXt", 1, 10)]), "unsafe_file", "bomb", seed=False),
    Case("paths in place of images", "parquet", lambda: _column([{"bytes": None, "path": "/etc/passwd"}] * 2), "missing_value|missing_array|corrupt_file|unsupported_dtype", "image"),
    Case("no image where one was", "parquet", lambda: _column([good.PNG, None]), "missing_value", "/image/1"),
]  # fmt: skip
CASES = [*SIDES, *BOMBS, *OTHERS]
