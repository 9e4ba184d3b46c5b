"""What retraining with and without really changed, over several seeds, in figures and in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# The 97.5% quantile of Student's t, by degrees of freedom
T975 = (
    12.706,
    4.303,
    3.182,
    2.776,
    2.571,
    2.447,
    2.365,
    2.306,
    2.262,
    2.228,
    2.201,
    2.179,
    2.16,
    2.145,
    2.131,
)

Values = Sequence[float | None]


def summary(values: Values) -> dict[str, Any] | None:
    """{mean, interval, each}: the mean of what is known and its 95% interval by Student's t.

    None where nothing is known; the interval is None for a single value.
    """
    known = np.array([value for value in values if value is not None and np.isfinite(value)])
    if not len(known):
        return None
    mean = float(known.mean())
    if len(known) == 1:
        return {"mean": mean, "interval": None, "each": known.tolist()}
    half = T975[min(len(known) - 1, len(T975)) - 1] * float(known.std(ddof=1)) / len(known) ** 0.5
    return {"mean": mean, "interval": [mean - half, mean + half], "each": known.tolist()}


def compared(before: Values, after: Values) -> dict[str, Any] | None:
    """`summary` of each side and of the differences, paired by seed; None where one side is unknown."""
    sides = summary(before), summary(after)
    difference = summary(
        [None if a is None or b is None else b - a for a, b in zip(before, after, strict=True)]
    )
    if None in sides or difference is None:
        return None
    return {"before": sides[0], "after": sides[1], "difference": difference}


def changed(figures: dict[str, Any] | None) -> bool:
    """Whether the difference is told apart from none: its interval leaves 0 out."""
    interval = figures["difference"]["interval"] if figures else None
    return interval is not None and (interval[0] > 0 or interval[1] < 0)


def words(loss: dict[str, Any] | None, accuracy: dict[str, Any] | None, seeds: int) -> str:
    """One sentence for people."""
    if loss is None:
        return "Nothing can be said: training diverged with all seeds on one side."
    runs = "1 seed" if seeds == 1 else f"{seeds} seeds"
    parts = [("query loss", loss, "{:+.4g}", 1.0, ""), ("accuracy", accuracy, "{:+.2f}", 100.0, " points")]
    told: list[str] = []
    plain: list[str] = []
    for name, figures, form, scale, unit in parts:
        if figures is None:
            continue
        mean, interval = figures["difference"]["mean"], figures["difference"]["interval"]
        within = (
            f" ({' to '.join(_signed('{:+.3g}', scale * end) for end in interval)}{unit})" if interval else ""
        )
        if changed(figures):
            told.append(f"the {name} by {_signed(form, scale * mean)}{unit}{within}")
        else:
            plain.append(f"the {name}{within}")
    if not told:
        return f"Nothing changed that {runs} could tell of {' and '.join(plain)}."
    rest = f"; no change that {runs} could tell of {' and '.join(plain)}" if plain else ""
    return f"It changed {' and '.join(told)}, over {runs}{rest}."


def _signed(form: str, value: float) -> str:
    """With a minus sign that is one."""
    text = form.format(value)
    return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text
