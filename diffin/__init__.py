"""Diff-In influence scores from Python: `Diffin` asks the service, `Recorder` keeps a training run for it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from diffin.client import Diffin
from diffin.errors import DiffinError, InputInvalid, JobFailed, SelectionFailed

if TYPE_CHECKING:
    from diffin.recorder import Recorder

try:
    __version__ = version("diffin")
except PackageNotFoundError:  # run from a checkout that was never installed
    __version__ = "0+unknown"

__all__ = ["Diffin", "DiffinError", "InputInvalid", "JobFailed", "Recorder", "SelectionFailed", "__version__"]


def __getattr__(name: str) -> Any:
    # The recorder needs torch, which a client of the service need not have.
    if name == "Recorder":
        from diffin.recorder import Recorder

        return Recorder
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
