"""Bar lines, their bootstrap, and tables in Markdown."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000


def bar(name: str, figure: float, asked: float, *, at_least: bool = True) -> bool:
    """Prints `bar: <name> <figure> <asked> ok|short`; whether it is ok. NaN is short."""
    ok = bool(figure >= asked if at_least else figure <= asked)
    print(f"bar: {name} {figure:.4g} {asked:g} {'ok' if ok else 'short'}", flush=True)
    return ok


def bootstrap(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The 95% percentile interval of the mean of `values`, which are drawn anew 10,000 times."""
    figures = np.asarray(values, dtype=np.float64)
    drawn = np.random.default_rng(seed).choice(figures, (RESAMPLES, len(figures)))
    low, high = np.quantile(drawn.mean(1), (0.025, 0.975))
    return float(low), float(high)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A benchmark's command line: its docstring, and --quick."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="the same comparison on less")
    return made


def table(rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table of `rows`, the first of them its head."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])
