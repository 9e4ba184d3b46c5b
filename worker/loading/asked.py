"""What the owner of a data set says about its file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Asked:
    """How a file is to be read; all of it may be left out.

    Attributes:
        columns: {inputs: a name or a list, targets, id, names (of a csv without a header)}.
        tokenizer: a `tokenizer.json`.
        max_length: of token ids.
        padding_id: the token id that fills up what is shorter.
        image_size: (height, width) that images are brought to.
        image_mode: "L", "RGB" or "RGBA".
        like: the encoding of another data set, which holds for this one too.
    """

    columns: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Path | None = None
    max_length: int | None = None
    padding_id: int | None = None
    image_size: tuple[int, int] | None = None
    image_mode: str | None = None
    like: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any], tokenizer: Path | None) -> Asked:
        """From a data set's record."""
        size = options.get("image_size")
        return cls(
            columns=options.get("columns") or {},
            tokenizer=tokenizer,
            max_length=options.get("max_length"),
            padding_id=options.get("padding_id"),
            image_size=(size[0], size[1]) if size else None,
            image_mode=options.get("image_mode"),
            like=options.get("encoding"),
        )
