"""Writes docs/operators.md, and the list that the front end tells, from the operators there are.

python tools/list_operators.py
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from worker.influence.networks.graph import OPERATORS  # noqa: E402
from worker.loading.onnx_checks import EXPORT, MOST_NODES, OPSETS  # noqa: E402

PAGE = ROOT / "docs" / "operators.md"
LIST = ROOT / "app" / "catalog" / "operators.py"


def page() -> str:
    kinds: dict[str, list[str]] = defaultdict(list)
    for name in sorted(OPERATORS):
        kinds[OPERATORS[name].kind].append(name)
    rows = [f"| {kind} | {', '.join(f'`{name}`' for name in kinds[kind])} |" for kind in sorted(kinds)]
    return "\n".join([
        "# Operators of ONNX graphs",
        "",
        "Written by `python tools/list_operators.py`; a test holds it up to date.",
        "",
        f"{len(OPERATORS)} operators of ONNX's own domain, opsets {OPSETS[0]} to {OPSETS[-1]}, at most "
        f"{MOST_NODES:,} nodes.",
        "`Constant` is read where it stands. Not supported: graphs within graphs (`If`, `Loop`, `Scan`),",
        "recurrent cells, and whatever chooses a shape by data. A graph with others is refused, and all of",
        "them are named. What a graph makes of a sample must not depend on those beside it: each is",
        "computed with random samples, and refused (`mixed_samples`) where it does",
        "([0034](decisions/0034-graphs-are-computed-once.md)). Export a network with",
        "",
        "```",
        EXPORT,
        "```",
        "",
        "| kind | operators |",
        "|---|---|",
        *rows,
        "",
    ])  # fmt: skip


def module() -> str:
    return "\n".join([
        '"""The operators that graphs may have, for who must not load torch; by tools/list_operators.py."""',
        "",
        f"OPSETS = {OPSETS[0]}, {OPSETS[-1]}  # the first and the last",
        "OPERATORS = (",
        *(f'    "{name}",' for name in sorted({*OPERATORS, "Constant"})),
        ")",
        "",
    ])  # fmt: skip


if __name__ == "__main__":
    PAGE.write_text(page())
    LIST.write_text(module())
