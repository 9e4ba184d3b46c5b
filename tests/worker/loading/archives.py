"""Archives of small files, good and bad."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from tests.worker.loading.files import zipped

RNG = np.random.default_rng(3)


def picture(pixels: Any, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def colour(height: int = 5, width: int = 4) -> Any:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def tarred(members: Mapping[str, bytes | tarfile.TarInfo], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            if isinstance(data, tarfile.TarInfo):
                archive.addfile(data)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, to
    return info


def packed(members: Mapping[str, bytes], how: str) -> bytes:
    """As a zip, a tar or a tar.gz."""
    if how == "zip":
        return zipped(dict(members))
    return tarred(members, "w:gz" if how == "tar.gz" else "w")
