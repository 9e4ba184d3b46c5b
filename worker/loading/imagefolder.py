"""Opens images in an archive, one folder a class, as `torchvision.datasets.ImageFolder` reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import PurePosixPath

import pyarrow as pa  # type: ignore[import-untyped]

from worker.loading.archive import Archive
from worker.loading.errors import LoadError, at, pointer, quoted
from worker.loading.members import Member, Members
from worker.loading.source import BLOCK_BYTES
from worker.loading.table import Batch, Table

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".ppm", ".pgm")
MOST_ROWS = 4096
HOW = "Pack one folder a class, with its images inside: cat/1.png, cat/2.png, dog/1.png."


def open_imagefolder(archive: Archive) -> Table:
    """Images with the names of their folders as labels and their paths as ids, sorted by class, then by path.

    Raises:
        LoadError: a file lies in no folder, or is no image.
    """
    root = _root(archive.members)
    archive.members.sort(lambda member: _key(_parts(member)[root:]))

    def batches(columns: Sequence[str]) -> Iterator[Batch]:
        rows: list[tuple[str, str, Member]] = []
        size = 0
        for member in archive.members.sorted():
            parts = _parts(member)[root:]
            rows.append((parts[0], "/".join(parts), member))
            size += member.size if "image" in columns else 0
            if size >= BLOCK_BYTES or len(rows) == MOST_ROWS:
                yield _batch(archive, rows, columns)
                rows, size = [], 0
        if rows:
            yield _batch(archive, rows, columns)

    return Table(
        ("image", "label", "id"),
        batches,
        media={"image": "image"},
        roles={"inputs": "image", "targets": "label", "id": "id"},
    )


def _batch(archive: Archive, rows: list[tuple[str, str, Member]], columns: Sequence[str]) -> Batch:
    made = {
        "image": lambda: pa.array([archive.read(member) for *_, member in rows], pa.large_binary()),
        "label": lambda: pa.array([label for label, *_ in rows], pa.large_string()),
        "id": lambda: pa.array([path for _, path, _ in rows], pa.large_string()),
    }
    return pa.RecordBatch.from_arrays([made[name]() for name in columns], names=list(columns))


def _root(members: Members) -> int:
    """How many folders lie around those of the classes: those that all files share."""
    shared: tuple[str, ...] | None = None
    shortest = 0
    for member in members:
        path = _parts(member)
        if not path[-1].lower().endswith(ENDINGS):
            raise _refused(member, "is no image")
        if len(path) < 2:
            raise _refused(member, "lies in no folder")
        if shared is None:
            shared, shortest = path, len(path)
        common = (a == b for a, b in zip(shared, path, strict=False))
        shared = shared[: sum(takewhile(bool, common))]
        shortest = min(shortest, len(path))
    if shared is None:
        raise LoadError("shape_mismatch", f"The archive holds no images. {HOW}")
    return min(len(shared), shortest - 2)


def _parts(member: Member) -> tuple[str, ...]:
    return PurePosixPath(member.name).parts


def _key(path: tuple[str, ...]) -> bytes:
    """Bytes in the order of (class, folders below it, name): no name holds characters as low as these."""
    *folders, name = path
    return ("".join(f"{folder}\x01" for folder in folders) + f"\x00{name}").encode()


def _refused(member: Member, what: str) -> LoadError:
    return LoadError(
        "unknown_array",
        f"{quoted(member.name)!r} in the archive {what}; images end in {', '.join(ENDINGS)}. {HOW}",
        [at(pointer(member.name), what)],
    )
