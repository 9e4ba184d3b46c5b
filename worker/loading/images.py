"""Images in files of their own: PNG, JPEG, WebP, BMP and PNM, decoded by Pillow within limits."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping
from struct import unpack
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin, UnidentifiedImageError

from worker.loading.canonical import Layout
from worker.loading.errors import LoadError, at, pointer, quoted
from worker.loading.source import Block
from worker.loading.table import Batch, Column, Table, at_rows, plain, value_kind

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "PPM")
MODES = {"L": 1, "RGB": 3, "RGBA": 4}
GREY = ("1", "L", "LA")
MOST_PIXELS = 64 * 1024**2
MOST_UNPACKED = PngImagePlugin.MAX_TEXT_CHUNK  # of one text in an image
BOMBS = ("MAX_TEXT_CHUNK", "MAX_TEXT_MEMORY")  # Pillow's words for it
# Each scan of a JPEG goes over all of its pixels, for a hundred bytes in the file. Libraries write ten; the
# fuzzers of libjpeg-turbo allow 500, of images 64 times smaller than ours may be.
MOST_SCANS = 100
SCAN = re.compile(rb"\xff\xda\0(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")  # its marker, length, components
PNG, SIDES = b"\x89PNG\r\n\x1a\n", slice(16, 24)
JPEG = b"\xff\xd8\xff"
STARTS = {PNG: "a PNG", JPEG: "a JPEG", b"BM": "a BMP", b"P5": "a PNM", b"P6": "a PNM"}


class Images:
    """One column of images as uint8 [H, W, C].

    They are of the first one's size, or brought to `size` (bilinear, sides apart, as
    `torchvision.transforms.Resize((h, w))` does). Grey where the first one is and `mode` says nothing else;
    else RGB.
    """

    def __init__(
        self,
        table: Table,
        column: str,
        size: tuple[int, int] | None,
        mode: str | None,
        like: Mapping[str, Any] | None,
    ) -> None:
        self.columns: tuple[str, ...] = ()  # of the first pass: it looks at the first image alone
        self.column = column
        known = (like or {}).get("inputs") or {}
        if like is not None and known.get("kind") != "image":
            raise LoadError("unlike", "The data set that this one should be like holds no images.")
        resized = size or (tuple(known["size"]) if known.get("resized") else None)
        first = _first(table, column)
        with _opened(first, column, 0) as image:
            found, grey = (image.height, image.width), image.mode in GREY
        self._resized = resized is not None
        self._size: tuple[int, int] = resized or found
        self._mode = mode or known.get("mode") or ("L" if grey else "RGB")

    def scan(self, batch: Batch, start: int) -> None:
        pass

    def settle(self) -> Layout:
        return Layout((*self._size, MODES[self._mode]), "uint8", "image")

    def encode(self, batch: Batch, start: int) -> Block:
        files = _files(batch.column(self.column), self.column, start)
        return np.stack([self._decoded(data, start + row) for row, data in enumerate(files)])

    def _decoded(self, data: bytes, row: int) -> Block:
        with _opened(data, self.column, row) as image:
            if not self._resized and (image.height, image.width) != self._size:
                raise at_rows(
                    "shape_mismatch",
                    self.column,
                    f"is {image.height} x {image.width}, the first one {self._size[0]} x {self._size[1]},",
                    [row],
                    "Give image_size, [height, width], to bring all to one size.",
                )
            if self._mode == "L" and image.mode not in GREY:
                raise at_rows(
                    "shape_mismatch",
                    self.column,
                    "is in colour, the first one grey,",
                    [row],
                    'Give image_mode "RGB".',
                )
            try:
                if image.mode == "LA" and self._mode == "L":
                    image = image.getchannel(0)
                converted = image.convert(self._mode)
                if self._resized:
                    converted = converted.resize(self._size[::-1], Image.Resampling.BILINEAR)
            except MemoryError:
                raise  # which is for the fence to tell
            except Exception as broken:  # Pillow hands on whatever its decoders raise
                raise _broken(self.column, row, str(broken)) from broken
            pixels: Block = np.asarray(converted, dtype=np.uint8)
        return pixels.reshape(*self._size, MODES[self._mode])

    def told(self) -> dict[str, Any]:
        return {"kind": "image", "size": list(self._size), "mode": self._mode, "resized": self._resized}


def _first(table: Table, column: str) -> bytes:
    for batch in table.batches([column]):
        for data in _files(batch.slice(0, 1).column(column), column, 0):
            return data
    raise LoadError("shape_mismatch", "The data set has no samples.")


def _files(column: Column, name: str, start: int) -> list[bytes]:
    """The bytes of each image: the column itself, or in a struct as the `datasets` library writes it."""
    column = plain(column, name)
    if value_kind(column.type) == "struct":
        column = plain(column.field("bytes"), name)
    files: list[bytes] = column.to_pylist()
    missing = [start + row for row, data in enumerate(files) if not data]
    if missing:
        raise at_rows("missing_value", name, "has no bytes", missing, "Embed the images, not their paths.")
    return files


def _opened(data: bytes, name: str, row: int) -> Image.Image:
    """The image, its header read and nothing decoded yet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata; sizes are checked below
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as huge:
        raise _too_large(name, row, "is an image of too many pixels") from huge
    except UnidentifiedImageError as broken:
        raise _broken(name, row, _unidentified(data)) from broken
    except MemoryError:
        raise
    except Exception as broken:  # Pillow hands on whatever its parsers raise
        if any(words in str(broken) for words in BOMBS):
            raise at_rows(
                "unsafe_file",
                name,
                f"holds text or a colour profile that unpacks to over {MOST_UNPACKED} bytes",
                [row],
                "It is taken for a bomb: write the picture without them.",
            ) from broken
        raise _broken(name, row, str(broken)) from broken
    if image.width * image.height > MOST_PIXELS:
        raise _too_large(name, row, f"is an image of {image.height} x {image.width}")
    if data.startswith(JPEG) and (scans := sum(1 for _ in SCAN.finditer(data))) > MOST_SCANS:
        raise at_rows(
            "unsafe_file",
            name,
            f"is a JPEG of {scans} scans, {MOST_SCANS} at most,",
            [row],
            "Data this empty are taken for a bomb: open the picture and save it anew.",
        )
    if getattr(image, "is_animated", False):
        raise at_rows("unsupported_dtype", name, "is an animation", [row], "Write a picture of one frame.")
    if image.mode.startswith(("I", "F")):
        raise at_rows("unsupported_dtype", name, "has over 8 bits a channel", [row], "Write 8 bits.")
    return image


def _too_large(name: str, row: int, what: str) -> LoadError:
    return at_rows("sample_too_large", name, what, [row], f"{MOST_PIXELS} pixels at most.")


def _unidentified(data: bytes) -> str:
    """Why Pillow takes a file for none of the formats."""
    if data.startswith(PNG) and len(data) >= SIDES.stop:
        width, height = unpack(">II", data[SIDES])
        if not width or not height:
            return f"it is a PNG of {height} x {width} pixels"
    kind = next((kind for start, kind in STARTS.items() if data.startswith(start)), None)
    return f"it begins as {kind}, but is damaged" if kind else "it is no PNG, JPEG, WebP, BMP or PNM"


def _broken(name: str, row: int, why: str) -> LoadError:
    return LoadError(
        "corrupt_file",
        f"The image of sample {row} in {quoted(name)!r} cannot be read: {quoted(why).rstrip('.')}.",
        [at(pointer(name, row), "cannot be read")],
    )
