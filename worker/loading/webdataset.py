"""Opens a WebDataset: a tar in which files of one name, but for what follows its first dot, are one sample.

`0001.jpg` and `0001.cls` are a sample `0001` with the columns `jpg` and `cls`; the keys of all `json` are
columns too. Format: https://github.com/webdataset/webdataset#the-webdataset-format
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from worker.loading.archive import Archive
from worker.loading.errors import LoadError, at, pointer, quoted
from worker.loading.json_values import column_of, key_names
from worker.loading.members import Member, Members
from worker.loading.source import BLOCK_BYTES
from worker.loading.table import Batch, Medium, Table, checked_names

IMAGES = ("jpg", "jpeg", "png", "webp", "bmp", "ppm", "pgm")
TEXTS = ("txt", "text", "cls", "caption")
ARRAYS = ("npy",)
KEY = "__key__"
MOST_TEXT = 16 * 1024**2
MOST_ROWS = 4096
Sample = tuple[str, dict[str, Member]]


def open_webdataset(archive: Archive) -> Table:
    """The samples in the order of the archive; each must have the files that the first one has.

    Raises:
        LoadError: a sample lacks a file, or has another; or a file is of no kind we read.
    """
    _, first = next(_samples(archive.members))
    for name in first:
        if name not in (*IMAGES, *TEXTS, *ARRAYS, "json"):
            known = ", ".join((*IMAGES, *ARRAYS, *TEXTS, "json"))
            raise LoadError(
                "unknown_array",
                f"The tar has files .{quoted(name)}; read are {known}.",
                [at(pointer(name), "is of no kind that is read")],
            )
    told = (_json(archive, files["json"]) for _, files in _samples(archive.members) if "json" in first)
    keys, count = key_names(told, "WebDataset")  # all samples are gone through: each has the same files
    names = checked_names([KEY, *(name for name in first if name != "json"), *keys], "WebDataset")
    inputs = next((name for name in first if name in (*IMAGES, *ARRAYS)), None)
    inputs = inputs or next((name for name in first if name in ("txt", "text")), None)
    roles: dict[str, Any] = {"id": KEY} | ({"inputs": inputs} if inputs else {})
    rest = [name for name in first if name not in (inputs, "json")]
    targets = "cls" if "cls" in first else rest[0] if rest else None
    media: dict[str, Medium] = dict.fromkeys(IMAGES, "image")
    media["npy"] = "npy"
    return Table(
        names,
        _batches(archive, tuple(first)),
        untyped=frozenset({"cls"}),
        media=media,
        roles=roles | ({"targets": targets} if targets else {}),
        rows=count if "json" in first else None,
    )


def _samples(members: Members) -> Iterator[Sample]:
    """(key, files by ending) of each sample, which must have the files of the first one."""
    wanted: set[str] | None = None
    for index, (key, files) in enumerate(_grouped(members)):
        wanted = wanted or set(files)
        if set(files) != wanted:
            odd = ", ".join(f".{quoted(one)}" for one in sorted(set(files) ^ wanted))
            raise LoadError(
                "missing_value",
                f"Sample {index} ({quoted(key)!r}) of the tar differs from the first in its files: {odd}. "
                "Files of a sample must lie together, and each sample must have the same.",
                [at(pointer(key), f"differs in {odd}")],
            )
        yield key, files
    if wanted is None:
        raise LoadError("shape_mismatch", "The tar holds no samples.")


def _grouped(members: Members) -> Iterator[Sample]:
    """Files that follow one another and have one key."""
    current, files = "", dict[str, Member]()
    for member in members:
        folder, slash, name = member.name.rpartition("/")
        start, dot, ending = name.partition(".")
        if not dot or not start:
            raise LoadError(
                "unknown_array",
                f"{quoted(member.name)!r} belongs to no sample: name files key.ending.",
            )
        key = folder + slash + start
        if files and key != current:
            yield current, files
            files = {}
        current = key
        files[ending.lower()] = member
    if files:
        yield current, files


def _batches(archive: Archive, endings: Sequence[str]) -> Callable[[Sequence[str]], Iterator[Batch]]:
    def batches(columns: Sequence[str]) -> Iterator[Batch]:
        needed = [name for name in endings if name in columns]
        if any(name not in endings and name != KEY for name in columns):
            needed.append("json")
        rows: list[Sample] = []
        size = start = 0
        for key, files in _samples(archive.members):
            rows.append((key, files))
            size += sum(files[name].size for name in needed)
            if size >= BLOCK_BYTES or len(rows) == MOST_ROWS:
                yield _batch(archive, rows, columns, start)
                start += len(rows)
                rows, size = [], 0
        if rows:
            yield _batch(archive, rows, columns, start)

    return batches


def _batch(archive: Archive, rows: list[Sample], columns: Sequence[str], start: int) -> Batch:
    told: list[dict[str, Any]] | None = None
    made = []
    for name in columns:
        if name == KEY:
            made.append(pa.array([key for key, _ in rows], pa.large_string()))
        elif name in (*IMAGES, *ARRAYS) and name in rows[0][1]:
            made.append(pa.array([archive.read(files[name]) for _, files in rows], pa.large_binary()))
        elif name in rows[0][1]:
            made.append(pa.array([_text(archive, files[name]) for _, files in rows], pa.large_string()))
        else:
            told = told or [_json(archive, files["json"]) for _, files in rows]
            made.append(column_of([one.get(name) for one in told], name, start))
    return pa.RecordBatch.from_arrays(made, names=list(columns))


def _text(archive: Archive, member: Member) -> str:
    if member.size > MOST_TEXT:
        raise LoadError("sample_too_large", f"{quoted(member.name)!r} has over {MOST_TEXT} bytes of text.")
    try:
        return archive.read(member).decode()
    except UnicodeDecodeError as broken:
        raise LoadError("corrupt_file", f"{quoted(member.name)!r} is no UTF-8 text.") from broken


def _json(archive: Archive, member: Member) -> dict[str, Any]:
    try:
        told = json.loads(_text(archive, member))
    except (ValueError, RecursionError) as broken:
        raise LoadError(
            "corrupt_file", f"{quoted(member.name)!r} in the tar is no JSON that can be read."
        ) from broken
    if not isinstance(told, dict):
        raise LoadError("corrupt_file", f"{quoted(member.name)!r} in the tar is no JSON object, {{…}}.")
    return told
