"""What is made of the figures, in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from worker.influence.agreement import Agreement
from worker.influence.verdict import Evidence, Judged, level_of, verdict


def figures(spearman: float, low: float, high: float, n: int = 60, **others: Any) -> Agreement:
    known: dict[str, Any] = {"pearson": spearman, "pearson_interval": (low, high), "slope": 1.1}
    known |= {"relative_error": 0.2} | others
    return Agreement(n=n, spearman=spearman, spearman_interval=(low, high), **known)


def judged(
    name: str, spearman: float, low: float, high: float, *, this_run: bool = False, **others: Any
) -> Judged:
    return Judged(name, this_run, figures(spearman, low, high, **others))


GOOD = judged("diff_in", 0.93, 0.88, 0.96)
BAD = judged("diff_in", 0.3, 0.05, 0.52)
STEPS = judged("diff_in:2", 0.95, 0.9, 0.98, this_run=True)
FAILED = judged("exact", 0.35, 0.1, 0.55, this_run=True)
OPEN = judged("exact", 0.48, 0.11, 0.71, this_run=True)
BY_CHANCE = judged("exact", 0.48, 0.11, 0.71, this_run=True, relative_error=1e5)


@pytest.mark.parametrize(
    ("method", "level"),
    [
        (GOOD, "trustworthy"),
        (replace(GOOD, rank_only="Adam's steps"), "ranking_only"),
        (replace(GOOD, leave_one_out=None, subsets=figures(0.93, 0.88, 0.96)), "ranking_only"),
        (judged("tracin", 0.8, 0.7, 0.9, slope=0.1), "ranking_only"),
        (judged("tracin", 0.8, 0.7, 0.9, relative_error=0.8), "ranking_only"),
        (judged("tracin", 0.65, 0.58, 0.73), "trustworthy"),  # narrow enough for its middle to decide
        (judged("tracin", 0.65, 0.4, 0.8), "undecided"),
        (judged("tracin", 0.55, 0.48, 0.63), "unreliable"),
        (BAD, "unreliable"),
        (judged("tracin", float("nan"), float("nan"), float("nan")), "unreliable"),
    ],
)
def test_levels(method: Judged, level: str) -> None:
    assert level_of(method) == level


@pytest.mark.parametrize(
    ("evidence", "level", "words"),
    [
        (
            Evidence([judged("tracin", 0.7, 0.62, 0.8), GOOD]),
            "trustworthy",
            "diff_in, ranking and size: Spearman 0.93 (0.88 to 0.96) against 60 leave-one-out retrainings of",
        ),
        (
            Evidence([replace(GOOD, rank_only="Adam's steps")]),
            "ranking_only",
            "Adam's steps.",
        ),
        (Evidence([judged("tracin", 0.8, 0.7, 0.9, slope=0.1)]), "ranking_only", "0.1 times the predicted"),
        (
            Evidence([replace(GOOD, leave_one_out=None, subsets=figures(0.93, 0.88, 0.96, 40))]),
            "ranking_only",
            "against 40 half-subset retrainings",
        ),
        (
            Evidence([BAD], exact=FAILED, steepest=(2.3, 3)),
            "unreliable",
            "exact steps reach 0.35 (0.10 to 0.55); learning rate times largest curvature was 2.3 at checkp",
        ),
        (Evidence([judged("tracin", 0.5, 0.3, 0.7)], exact=FAILED), "unreliable", "Linearisation fails"),
        (Evidence([BAD], exact=BY_CHANCE), "unreliable", "Linearisation fails"),
        (Evidence([BAD], exact=OPEN), "unreliable", "exact steps reach 0.48"),
        (Evidence([BAD], exact=replace(BY_CHANCE, rank_only="Adam")), "unreliable", "exact steps reach 0.48"),
        (Evidence([BAD], exact=FAILED, orders=4, reliability=0.9), "unreliable", "Exact steps reach 0.35"),
        (Evidence([BAD], exact=STEPS), "unreliable", 'Ask for diff_in with resolution "steps"'),
        (Evidence([BAD], exact=STEPS, orders=4, reliability=0.9), "unreliable", "use more checkpoints"),
        (Evidence([BAD], floor=0.01, spread=0.02), "unreliable", "chaotic: rounding alone changes"),
        (Evidence([BAD], floor=1e-15, spread=2e-15), "undecided", "nothing to hold scores against"),
        (Evidence([BAD], orders=4, reliability=0.4), "undecided", "take more orders"),
        (Evidence([judged("tracin", 0.5, 0.3, 0.7)]), "undecided", "About 240 retrainings"),
        (Evidence([GOOD], diverged=3, retrainings=61), "unreliable", "3 of 61 retrainings diverged"),
        (Evidence([GOOD], reproduces=False), "trustworthy", "did not reproduce the recorded run"),
        (Evidence([GOOD], orders=4, reliability=0.9), "trustworthy", "averaged over 4 batch orders"),
    ],
)
def test_a_verdict_says_what_to_do(evidence: Evidence, level: str, words: str) -> None:
    found = verdict(evidence)
    assert found.level == level
    assert words in found.text
    assert found.text.endswith(".") and "nan" not in found.text


def test_the_best_method_is_the_one_to_trust_most() -> None:
    noisy = judged("tracin", 0.95, 0.3, 0.97)
    found = verdict(Evidence([BAD, noisy, STEPS]))
    assert found.best_method == "diff_in:2"
    assert found.levels == {"diff_in": "unreliable", "tracin": "undecided", "diff_in:2": "trustworthy"}
