"""From the rows of a table to canonical arrays, in two passes: what there is, then what is written.

The first pass finds the kinds of the columns, categories, means and names of labels, the second writes;
neither holds more than a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from math import prod
from pathlib import Path
from typing import Any, Protocol

from worker.loading.asked import Asked
from worker.loading.canonical import ArrayWriter, Layout, Range
from worker.loading.errors import LoadError, at, pointer, quoted
from worker.loading.features import Features
from worker.loading.ids import MOST_CHARACTERS, IdWriter, check_distinct
from worker.loading.images import Images
from worker.loading.labels import Labels
from worker.loading.layouts import input_layout, target_layout, token_layout
from worker.loading.lists import Lists
from worker.loading.npy_files import NpyFiles
from worker.loading.roles import Roles, no_targets, roles
from worker.loading.room import check_least, check_room
from worker.loading.shown import MOST_COLUMNS, ShownWriter, as_json
from worker.loading.source import BLOCK_BYTES, Block
from worker.loading.table import Batch, Table, at_rows, first_kind, plain, slices, value_kind
from worker.loading.text import UNUSED, NextTokens, Text, known_length, texts

MOST_PART_ROWS = 4096  # as Python objects, rows take many times their room


class Encoder(Protocol):
    """Columns on their way to one canonical array."""

    columns: tuple[str, ...]

    def scan(self, batch: Batch, start: int) -> None:
        """Looks at rows `start` and on, in the first pass."""

    def settle(self) -> Layout:
        """What the array will be, once all rows have been seen."""

    def encode(self, batch: Batch, start: int) -> Block:
        """[B, *shape] of rows `start` and on, in the second pass."""


def load_table(table: Table, asked: Asked, out_dir: Path, sent: int) -> dict[str, Any]:
    """Writes `inputs.npy`, `targets.npy` and, where there are such, `ids.npy` and `shown.bin`.

    Args:
        sent: bytes of the file, which bound those of the arrays.

    Returns:
        {rows, layouts: (inputs, targets), ranges: (inputs, targets), encoding, has_ids, taken_from}.

    Raises:
        LoadError: the file is refused.
    """
    chosen = roles(table, asked)
    inputs = _inputs(table, chosen, asked)
    targets = _targets(table, chosen, asked, inputs)
    _check_used(asked, inputs, targets)
    if table.rows is not None and isinstance(inputs, Features):
        check_least(table.rows, len(inputs.columns) + len(targets.columns), sent)
    ids = Ids(chosen.id) if chosen.id else None
    rows = _scan(table, [inputs, targets, *([ids] if ids else [])])
    layouts = inputs.settle(), targets.settle()
    if isinstance(inputs, Features) and not chosen.together and inputs.categories:
        raise _needs_tokenizer(chosen.inputs[0])  # of a csv it could have been numbers
    check_room(rows, layouts, out_dir, sent)
    shown = _shown(inputs, targets, chosen)
    ranges = _write(table, rows, (inputs, targets), layouts, ids, shown, out_dir)
    return {
        "rows": rows,
        "layouts": layouts,
        "ranges": ranges,
        "has_ids": ids is not None,
        "taken_from": "inputs" if chosen.targets is None or isinstance(targets, NextTokens) else None,
        "encoding": {
            "columns": {
                "inputs": list(chosen.inputs) if chosen.together else chosen.inputs[0],
                "targets": chosen.targets,
                "id": chosen.id,
            },
            "inputs": inputs.told(),
            "classes": getattr(targets, "classes", None),
            "shown": shown,
        },
    }


def _inputs(table: Table, chosen: Roles, asked: Asked) -> Any:
    if len(chosen.inputs) > 1:
        return Features(table, chosen.inputs, asked.like)
    name = chosen.inputs[0]
    kind, value = first_kind(table, name)
    if kind == "binary" and table.media.get(name) == "npy":
        return NpyFiles(table, name)
    if kind == "binary" or (kind == "struct" and "bytes" in value):
        return Images(table, name, asked.image_size, asked.image_mode, asked.like)
    if kind == "lists":
        length, padding = known_length(asked.like)
        padding = padding if asked.padding_id is None else asked.padding_id
        length = asked.max_length or length
        return Lists(name, input_layout, length, padding)
    if kind == "text" and asked.tokenizer:
        length, padding = known_length(asked.like)
        padding = padding if asked.padding_id is None else asked.padding_id
        return Text(name, asked.tokenizer, asked.max_length or length, padding)
    if kind == "text" and not chosen.together and not table.is_untyped(name):
        raise _needs_tokenizer(name)
    if kind in ("text", "flags", "integers", "floats"):
        return Features(table, chosen.inputs, asked.like)
    raise _unreadable(name, kind)


def _needs_tokenizer(name: str) -> LoadError:
    return LoadError(
        "tokenizer_required",
        f"{quoted(name)!r} holds text. Send the network's tokenizer as tokenizer_file (a tokenizer.json), or "
        f'token ids in place of the text; for a category, name it as a list: columns: {{"inputs": ["…"]}}.',
        [at("/tokenizer_file", "is required for text")],
    )


def _unreadable(name: str, kind: str) -> LoadError:
    return LoadError(
        "unsupported_dtype",
        f"{quoted(name)!r} holds {kind}; inputs are numbers, text, lists of numbers, or images.",
        [at(pointer(name), f"holds {kind}")],
    )


def _targets(table: Table, chosen: Roles, asked: Asked, inputs: Any) -> Any:
    """Labels, numbers or lists; captions where the inputs are images; where they are text and nothing else is
    the target, the text itself; likewise its token ids.
    """
    if isinstance(inputs, Text) and chosen.targets in (None, chosen.inputs[0]) and asked.tokenizer:
        told = inputs.told()
        return NextTokens(chosen.inputs[0], asked.tokenizer, told["max_length"], told["padding_id"])
    if isinstance(inputs, Lists) and chosen.targets in (None, chosen.inputs[0]):
        arrange = token_layout if chosen.targets is None else target_layout
        return Lists(chosen.inputs[0], arrange, inputs.max_length, UNUSED)
    if chosen.targets is None:
        raise no_targets(table)
    kind, _ = first_kind(table, chosen.targets)
    if kind == "lists":
        return Lists(chosen.targets, target_layout, None, asked.padding_id)
    if kind == "text" and asked.tokenizer and isinstance(inputs, Images):
        return Text(chosen.targets, asked.tokenizer, asked.max_length, asked.padding_id)
    return Labels(table, chosen.targets, asked.like)


def _check_used(asked: Asked, inputs: Any, targets: Any) -> None:
    """Nothing that was said about the file passes silently."""
    text = isinstance(inputs, Text) or isinstance(targets, Text)
    uses = {
        "tokenizer_file": (asked.tokenizer is None or text, "text"),
        "max_length": (asked.max_length is None or text or isinstance(inputs, Lists), "text or token ids"),
        "padding_id": (
            asked.padding_id is None or text or isinstance(inputs, Lists),
            "text or token ids",
        ),
        "image_size": (asked.image_size is None or isinstance(inputs, Images), "images"),
        "image_mode": (asked.image_mode is None or isinstance(inputs, Images), "images"),
    }
    for name, (used, what) in uses.items():
        if not used:
            raise LoadError(
                "option_not_used",
                f"{name} was sent, but the columns read hold no {what}: leave it out, or name the column.",
                [at(f"/{name}", "is not used")],
            )


class Ids:
    """A column of ids: text or integers."""

    def __init__(self, column: str) -> None:
        self.columns = (column,)
        self.name, self.width = column, 1

    def scan(self, batch: Batch, start: int) -> None:
        texts = self.texts(batch)
        self.width = max(self.width, *map(len, texts))
        if self.width > MOST_CHARACTERS:
            rows = [row for row, text in enumerate(texts, start) if len(text) > MOST_CHARACTERS]
            raise at_rows(
                "invalid_ids",
                self.name,
                f"is longer than {MOST_CHARACTERS} characters",
                rows,
                "Ids are names, or numbers: shorten them.",
            )

    def texts(self, batch: Batch) -> list[str]:
        column = plain(batch.column(self.name), self.name)
        if value_kind(column.type) not in ("text", "integers"):
            raise LoadError(
                "invalid_ids",
                f"{quoted(self.name)!r} holds {column.type}; ids are text or integers.",
                [at(pointer(self.name), "are no ids")],
            )
        return ["" if one is None else str(one) for one in column.to_pylist()]


def _scan(table: Table, readers: list[Any]) -> int:
    """Shows every row to the readers; how many there are."""
    columns = list(dict.fromkeys(name for reader in readers for name in reader.columns))
    rows = 0
    for batch in table.batches(columns):
        if not batch.num_rows:
            continue
        for reader in readers:
            reader.scan(batch, rows)
        rows += batch.num_rows
    if not rows:
        raise LoadError("shape_mismatch", "The data set has no samples.", [at("/inputs", "is empty")])
    return rows


def _shown(inputs: Any, targets: Any, chosen: Roles) -> str | None:
    """How a person looks at a sample; None where its array says it all."""
    if isinstance(inputs, Text) or isinstance(targets, Text):
        return "text"
    if isinstance(inputs, Features) and chosen.together and len(chosen.inputs) <= MOST_COLUMNS:
        return "row"
    return None


def _write(
    table: Table,
    rows: int,
    encoders: tuple[Any, Any],
    layouts: tuple[Layout, Layout],
    ids: Ids | None,
    shown: str | None,
    out_dir: Path,
) -> tuple[Range, Range]:
    inputs, targets = encoders
    read = [getattr(inputs, "column", None), *inputs.columns, *targets.columns, *(ids.columns if ids else ())]
    columns = list(dict.fromkeys(filter(None, read)))
    with ExitStack() as opened:
        into_inputs = opened.enter_context(ArrayWriter("inputs", rows, layouts[0], out_dir / "inputs.npy"))
        into_targets = opened.enter_context(ArrayWriter("targets", rows, layouts[1], out_dir / "targets.npy"))
        into_ids = (
            opened.enter_context(IdWriter(rows, ids.width, out_dir / "ids.npy", ids.name)) if ids else None
        )
        into_shown = opened.enter_context(ShownWriter(out_dir / "shown.bin", out_dir)) if shown else None
        for start, batch in _parts(table, columns, layouts):
            into_inputs.write(inputs.encode(batch, start))
            into_targets.write(targets.encode(batch, start))
            if ids and into_ids:
                into_ids.write(ids.texts(batch))
            if into_shown and shown == "text":
                told = inputs if isinstance(inputs, Text) else targets
                into_shown.write(texts(batch, told.columns[0], start))
            elif into_shown:
                into_shown.write(as_json(batch.select(list(inputs.columns)).to_pylist()))
        if into_shown:
            into_shown.finish()
    if ids:
        check_distinct(out_dir / "ids.npy", ids.name)
    return into_inputs.range, into_targets.range


def _parts(table: Table, columns: list[str], layouts: tuple[Layout, Layout]) -> Iterator[tuple[int, Batch]]:
    """(first row, batch) in parts whose arrays take a few mebibytes."""
    size = sum(prod(one.shape) * 8 for one in layouts)
    rows = max(1, min(MOST_PART_ROWS, BLOCK_BYTES // size))
    start = 0
    for batch in table.batches(columns):
        for first, part in slices(batch, rows):
            yield start + first, part
        start += batch.num_rows
