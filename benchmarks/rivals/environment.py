"""Where the other tools are installed: an environment of their own, which `make peers` makes."""

from __future__ import annotations

import os
from pathlib import Path


def interpreter() -> Path:
    """Python of DIFFIN_PEERS_VENV, by default of .venv-peers beside the project's files; may be absent."""
    folder = os.environ.get("DIFFIN_PEERS_VENV") or Path(__file__).parents[2] / ".venv-peers"
    return Path(folder, "bin", "python")
