"""A hostile file, and what must come of it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

READY = "ready"  # it holds something that is never looked at: read as if that were not there
# what payloads make: nothing may be there afterwards
CANARY = Path(tempfile.gettempdir()) / f"diffin-canary-{os.getpid()}"
SLIPPED = f"diffin-slipped-{os.getpid()}.png"  # the file that archives try to write outside


@dataclass(frozen=True, eq=False)
class Case:
    """A file for a reader (of `tests.hostile.readers`).

    Attributes:
        codes: of the refusals that are right, apart by "|"; or `READY`.
        says: what stands in the refusal, its pointers included: the entry at fault, or the way out.
        asked: as a data set's form has it.
        heavy: takes seconds to build or to read.
        seed: whether the fuzzing begins with it, too.
    """

    name: str
    reader: str
    build: Callable[[], bytes]
    codes: str
    says: str = ""
    asked: Mapping[str, Any] = field(default_factory=dict)
    heavy: bool = False
    seed: bool = True

    def __str__(self) -> str:
        return f"{self.reader}: {self.name}"
