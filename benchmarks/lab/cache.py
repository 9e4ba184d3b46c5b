"""Ground truth that takes long to compute, kept from one run of a benchmark to the next."""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from worker.influence import retraining


def cached(compute: Callable[[], torch.Tensor], *depends_on: object) -> torch.Tensor:
    """`compute()`, or what it gave when everything it depends on was the same.

    Kept in $XDG_CACHE_HOME/diffin-benchmarks (~/.cache/diffin-benchmarks), under a hash of `depends_on`, of
    torch's version and of the retraining's code.

    Args:
        depends_on: tensors, mappings of them, and whatever has a faithful `repr`.
    """
    path = _folder() / f"{_digest(torch.__version__, _code(), *depends_on)}.pt"
    if path.exists():
        kept: torch.Tensor = torch.load(path)
        return kept
    made = compute()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    torch.save(made, partial)
    partial.replace(path)
    return made


def _folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "diffin-benchmarks"


def _code() -> str:
    """The retraining's code but for its form and comments."""
    return ast.dump(ast.parse(Path(retraining.__file__).read_text()))


def _digest(*parts: object) -> str:
    found = hashlib.sha256()

    def add(part: object) -> None:
        if isinstance(part, torch.Tensor):
            found.update(repr((part.dtype, tuple(part.shape))).encode())
            found.update(part.detach().cpu().contiguous().numpy().tobytes())
        elif isinstance(part, Mapping):
            for name, value in part.items():
                found.update(repr(name).encode())
                add(value)
        else:
            found.update(repr(part).encode())

    for part in parts:
        add(part)
    return found.hexdigest()[:32]
