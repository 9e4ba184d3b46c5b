"""From figures to words: how far to trust the scores of a run (thresholds: docs/decisions/0015)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from worker.influence.agreement import Agreement

Level = Literal["trustworthy", "ranking_only", "unreliable", "undecided"]

BAR = 0.6  # of Spearman: below it the truth does not follow the ranking
NARROW = 0.2  # width of an interval below which its middle decides
SIZES = (0.5, 2.0)  # of the slope: true effects are between half and twice the predicted ones
SIZE_ERROR = 0.5  # most of the median relative error where sizes are to be trusted
FLOOR = 0.3  # of rounding, against the spread of the effects
CHAOS = 1e-8  # of rounding, against the loss: in float64 a run that is not chaotic stays far below
NEAR_INSTABILITY = 1.8  # of learning rate times curvature
ORDER = ("unreliable", "undecided", "ranking_only", "trustworthy")


@dataclass(frozen=True)
class Judged:
    """One method's figures.

    Attributes:
        this_run: whether its scores say what a sample did in this very run, and not on average.
        rank_only: why the size of its scores means nothing; empty where it does mean something.
        leave_one_out, subsets: how they agree with retraining; None where there was none.
    """

    name: str
    this_run: bool
    leave_one_out: Agreement | None
    subsets: Agreement | None = None
    rank_only: str = ""

    @property
    def main(self) -> Agreement:
        """Leave-one-out where there is any: it is what the scores estimate."""
        found = self.leave_one_out or self.subsets
        if found is None:
            raise ValueError(f"{self.name} was held against no retraining")
        return found


@dataclass(frozen=True)
class Evidence:
    """All that was measured of one run.

    Attributes:
        methods: those in question.
        exact: the exact steps of this run; None where they could not be taken.
        orders: batch orders over which the truth is the mean; 1: the run's own.
        reliability: of that mean (`agreement.reliability`); None for the run's own order.
        steepest: largest learning rate times curvature, and the number of its checkpoint, from 1.
        floor: what another order of summation does to the query loss.
        spread: standard deviation of the effects of leaving samples out; None where none was.
        loss: query loss of the run retrained whole.
        diverged: retrainings that ended in NaN or infinity, of `retrainings`.
        reproduces: whether the recorded run came out again; None: not looked at.
    """

    methods: Sequence[Judged]
    exact: Judged | None = None
    orders: int = 1
    reliability: float | None = None
    steepest: tuple[float, int] | None = None
    floor: float = 0.0
    spread: float | None = None
    loss: float = 1.0
    diverged: int = 0
    retrainings: int = 0
    reproduces: bool | None = None


@dataclass(frozen=True)
class Verdict:
    """How far to trust the best of the methods, why, and the level of each."""

    level: Level
    text: str
    best_method: str
    levels: dict[str, Level]


def level_of(method: Judged) -> Level:
    """Ranking first, by the interval of Spearman against `BAR`; then sizes, by leave-one-out alone."""
    figures = method.main
    low, high = figures.spearman_interval
    if not math.isfinite(figures.spearman):
        return "unreliable"  # one score for all ranks nothing
    if high - low <= NARROW:
        low = high = figures.spearman
    if high < BAR:
        return "unreliable"
    if low < BAR:
        return "undecided"
    alone = method.leave_one_out
    right = alone is not None and SIZES[0] <= alone.slope <= SIZES[1] and alone.relative_error <= SIZE_ERROR
    return "trustworthy" if right and not method.rank_only else "ranking_only"


def verdict(evidence: Evidence) -> Verdict:
    """The level and its reasons in words a user can act on."""
    levels = {method.name: level_of(method) for method in evidence.methods}
    best = max(evidence.methods, key=lambda one: (ORDER.index(levels[one.name]), _known(one.main.spearman)))
    level: Level = levels[best.name]
    if evidence.diverged or (level == "undecided" and _linearisation_fails(evidence)):
        level = "unreliable"
    elif level == "unreliable" and (_effects_too_small(evidence) or _truth_is_noisy(evidence)):
        level = "undecided"
    words = {
        "trustworthy": _trustworthy,
        "ranking_only": _ranking_only,
        "unreliable": _unreliable,
        "undecided": _undecided,
    }[level](best, evidence)
    if evidence.reproduces is False:
        words += (
            " Retraining did not reproduce the recorded run (another machine, augmentation, optimizer): this"
            " is about the recipe, not about that very run."
        )
    return Verdict(level, words, best.name, levels)


def _trustworthy(best: Judged, evidence: Evidence) -> str:
    return f"Trust the scores of {best.name}, ranking and size: {_against(best, evidence)}."


def _ranking_only(best: Judged, evidence: Evidence) -> str:
    words = f"Trust the ranking of {best.name}, not the size of its scores: {_against(best, evidence)}"
    alone = best.leave_one_out
    if best.rank_only:
        return f"{words}; {best.rank_only}."
    if alone is None:
        return f"{words}; only leave-one-out would tell of sizes."
    return (
        f"{words}; true effects are {alone.slope:.2g} times the predicted ones, and half of them are off by "
        f"{alone.relative_error:.0%} or more."
    )


def _unreliable(best: Judged, evidence: Evidence) -> str:
    if evidence.diverged:
        return (
            f"Training is unstable: {evidence.diverged} of {evidence.retrainings} retrainings diverged. "
            "Lower the learning rate; no score can be trusted before."
        )
    exact, words = evidence.exact, f"Do not trust {best.name}: {_against(best, evidence)}."
    if _chaotic(evidence):
        return (
            f"{words} This run is chaotic: rounding alone changes its query loss by {evidence.floor:.1g}, "
            f"{_share(evidence):.0%} of what leaving a sample out does{_steep(evidence)}. No score can tell "
            "what one sample did in it; use a lower learning rate."
        )
    if exact is not None and _linearisation_fails(evidence):
        return (
            f"Linearisation fails for this run: exact steps reach {_figure(exact.main)}"
            f"{_steep(evidence)}; leaving one sample out is no small change. Use a lower learning rate, or a "
            f"schedule that ends low. {words}"
        )
    if exact is not None and not best.this_run and evidence.orders == 1:
        return (
            f"{words} Its scores say what a sample does on average, but this run's leave-one-out is dominated"
            f" by its batches: exact steps reach {_figure(exact.main)}. Ask for diff_in with resolution"
            ' "steps", or hold the average against several batch orders (orders: 4).'
        )
    if exact is not None and exact.name != best.name:
        return (
            f"{words} Exact steps reach {_figure(exact.main)}{_steep(evidence)}: use more checkpoints, or "
            'resolution "steps".'
        )
    return f"{words} Use more checkpoints or a lower learning rate{_steep(evidence)}."


def _undecided(best: Judged, evidence: Evidence) -> str:
    if _effects_too_small(evidence):
        return (
            "Leaving a sample out changes the query loss by no more than rounding does "
            f"({evidence.floor:.1g}): there is nothing to hold scores against. Ask about samples or queries "
            "that matter more."
        )
    if _truth_is_noisy(evidence):
        return (
            f"Leave-one-out differs so much between batch orders that its mean over {evidence.orders} says "
            f"little of other orders (reliability {evidence.reliability:.2f}): take more orders. So far: "
            f"{_against(best, evidence)}."
        )
    figures = best.main
    low, high = figures.spearman_interval
    distance = max(abs(figures.spearman - BAR), NARROW / 2)
    more = math.ceil(figures.n * ((high - low) / 2 / distance) ** 2 / 10) * 10
    return (
        f"Still open for {best.name}: {_against(best, evidence)}; the interval holds {BAR:g}. About "
        f"{max(more, figures.n + 10)} retrainings would settle it."
    )


def _linearisation_fails(evidence: Evidence) -> bool:
    """Whether not even the exact steps of this run say what its samples did: what is no more than an
    approximation of them then agrees by chance. So do they where their sizes, if they have any, are further
    off than 0 is.
    """
    exact = evidence.exact
    if exact is None or evidence.orders > 1:
        return False
    level, alone = level_of(exact), exact.leave_one_out
    lost = alone is not None and alone.relative_error > 1 and not exact.rank_only
    return level == "unreliable" or (level == "undecided" and lost)


def _effects_too_small(evidence: Evidence) -> bool:
    return _share(evidence) > FLOOR and not _chaotic(evidence)


def _chaotic(evidence: Evidence) -> bool:
    return _share(evidence) > FLOOR and evidence.floor > CHAOS * abs(evidence.loss)


def _share(evidence: Evidence) -> float:
    """Rounding, relative to what leaving a sample out does."""
    if evidence.spread is None or evidence.floor == 0:
        return 0.0
    return evidence.floor / evidence.spread if evidence.spread else math.inf


def _truth_is_noisy(evidence: Evidence) -> bool:
    return evidence.reliability is not None and evidence.reliability < BAR


def _against(method: Judged, evidence: Evidence) -> str:
    """Spearman 0.93 (0.88 to 0.96) against 60 leave-one-out retrainings of this run."""
    kind = "leave-one-out" if method.leave_one_out is not None else "half-subset"
    which = "of this run" if evidence.orders == 1 else f"averaged over {evidence.orders} batch orders"
    return f"Spearman {_figure(method.main)} against {method.main.n} {kind} retrainings {which}"


def _figure(figures: Agreement) -> str:
    low, high = figures.spearman_interval
    if not math.isfinite(figures.spearman):
        return "nowhere (scores all alike, or not finite)"
    return f"{figures.spearman:.2f} ({low:.2f} to {high:.2f})"


def _steep(evidence: Evidence) -> str:
    if evidence.steepest is None or evidence.steepest[0] < NEAR_INSTABILITY:
        return ""
    value, checkpoint = evidence.steepest
    return (
        f"; learning rate times largest curvature was {value:.2g} at checkpoint {checkpoint} (near 2 "
        "training is unstable)"
    )


def _known(figure: float) -> float:
    return figure if math.isfinite(figure) else -2.0
