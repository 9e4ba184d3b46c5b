"""Text as token ids, by a `tokenizer.json` of the tokenizers library, which is data and holds no code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]
from tokenizers import Tokenizer

from worker.loading.canonical import Layout
from worker.loading.errors import LoadError, at, pointer, quoted
from worker.loading.source import Block
from worker.loading.table import Batch, at_rows, plain, value_kind

MOST_TOKENIZER = 64 * 1024**2
MOST_CHARACTERS = 4 * 1024**2  # of one text
MAX_LENGTH = 128
PADDINGS = ("[PAD]", "<pad>", "<|padding|>", "<|pad|>")
UNUSED = -100  # what the losses of token targets leave out


class Text:
    """One column of text as token ids [L]: cut to L = `max_length`, and padded up to it at the end.

    Special tokens are added as the tokenizer has it. Without `max_length` its own truncation holds, or 128;
    the padding is its own too, or a token called [PAD] or the like.
    """

    def __init__(
        self,
        column: str,
        tokenizer: Path,
        max_length: int | None,
        padding_id: int | None,
        *,
        padding: int | None = None,
    ) -> None:
        """`padding`: what stands for padding in the array, where it is not the padding token's id."""
        self.columns = (column,)
        self._name, self._cut = column, 0
        self._tokenizer = read_tokenizer(tokenizer)
        self._length = max_length or (self._tokenizer.truncation or {}).get("max_length") or MAX_LENGTH
        self._padding_id = _padding(self._tokenizer) if padding_id is None else padding_id
        self._padding = padding
        with _working():
            self._tokenizer.no_padding()
            self._tokenizer.enable_truncation(self._length)

    def scan(self, batch: Batch, start: int) -> None:
        """The length is settled beforehand, so that nothing is tokenized twice."""
        longest = max(map(len, texts(batch, self._name, start)), default=0)
        if longest > MOST_CHARACTERS:
            raise LoadError(
                "sample_too_large",
                f"A text of {quoted(self._name)!r} has {longest} characters; {MOST_CHARACTERS} at most.",
                [at(pointer(self._name), "holds a text that long")],
            )

    def settle(self) -> Layout:
        return Layout((self._length,), "int64")

    def encode(self, batch: Batch, start: int) -> Block:
        with _working():
            found = self._tokenizer.encode_batch(texts(batch, self._name, start))
        padding = self._padding if self._padding is not None else self._padding_id
        ids = np.full((len(found), self._length), -1 if padding is None else padding, np.int64)
        for row, one in enumerate(found):
            self._cut += bool(one.overflowing)
            if padding is None and len(one.ids) < self._length:
                raise LoadError(
                    "padding_required",
                    "The tokenizer names no padding token: give padding_id, the token id that fills up "
                    f"texts of less than {self._length} tokens.",
                    [at("/padding_id", "is required")],
                )
            if len(one.ids) > self._length:
                raise LoadError(
                    "shape_mismatch",
                    f"The tokenizer makes {len(one.ids)} tokens of a text, its special ones included, which "
                    f"cannot be cut to max_length {self._length}: give a longer one.",
                    [at("/max_length", f"is less than {len(one.ids)}")],
                )
            ids[row, : len(one.ids)] = one.ids
        return ids

    def told(self) -> dict[str, Any]:
        return {
            "kind": "text",
            "max_length": self._length,
            "padding_id": self._padding_id,
            "vocab_size": self._tokenizer.get_vocab_size(),
            "truncated": self._cut,
        }


class NextTokens(Text):
    """The text itself as the targets of a language model: its token ids, `UNUSED` where it is padded."""

    def __init__(self, column: str, tokenizer: Path, max_length: int | None, padding_id: int | None) -> None:
        super().__init__(column, tokenizer, max_length, padding_id, padding=UNUSED)


def texts(batch: Batch, name: str, start: int) -> list[str]:
    """The texts of a column, none of them missing."""
    column = plain(batch.column(name), name)
    if value_kind(column.type) != "text":
        raise LoadError("unsupported_dtype", f"{quoted(name)!r} holds {column.type}, and text in other rows.")
    if column.null_count:
        rows = (start + np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))).tolist()
        raise at_rows("missing_value", name, "is missing", rows, "Fill in or drop these samples.")
    found: list[str] = column.cast(pa.large_string()).to_pylist()
    return found


def known_length(like: Mapping[str, Any] | None) -> tuple[int | None, int | None]:
    """(max_length, padding_id) of the other data set."""
    inputs = (like or {}).get("inputs") or {}
    return inputs.get("max_length"), inputs.get("padding_id")


def read_tokenizer(path: Path) -> Any:
    """The tokenizer in the file.

    Raises:
        LoadError: it is no `tokenizer.json`.
    """
    if path.stat().st_size > MOST_TOKENIZER:
        raise LoadError("unsafe_file", f"The tokenizer has over {MOST_TOKENIZER} bytes.")
    try:
        text = path.read_text(encoding="utf-8")
        told = json.loads(text)
    except (ValueError, RecursionError) as broken:
        raise _no_tokenizer("it is no JSON") from broken
    if not isinstance(told, dict) or "model" not in told:
        raise _no_tokenizer("it has no model")
    with _working():
        return Tokenizer.from_str(text)


def _padding(tokenizer: Any) -> int | None:
    if tokenizer.padding:
        return int(tokenizer.padding["pad_id"])
    found = (tokenizer.token_to_id(name) for name in PADDINGS)
    return next((token for token in found if token is not None), None)


@contextmanager
def _working() -> Iterator[None]:
    """The library panics over some tokenizers, which Python sees as an exception of no common kind."""
    try:
        yield
    except MemoryError:
        raise  # which is for the fence to tell
    except Exception as broken:
        raise _no_tokenizer(str(broken)) from broken
    except BaseException as panic:
        if type(panic).__name__ != "PanicException":
            raise
        raise _no_tokenizer("its parts do not fit each other") from panic


def _no_tokenizer(why: str) -> LoadError:
    return LoadError(
        "invalid_tokenizer",
        f"The tokenizer cannot be used: {quoted(why).rstrip('.')}. Write it with "
        "tokenizer.save('tokenizer.json'), or take it from the folder that save_pretrained wrote.",
        [at("/tokenizer_file", "cannot be used")],
    )
