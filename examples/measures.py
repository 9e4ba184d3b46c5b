"""How well a ranking finds the samples known to be wrong."""

from __future__ import annotations

import numpy as np


def auc(scores: np.ndarray, wrong: np.ndarray) -> float:
    """Probability that a wrong sample scores higher than a right one, ties counting half (Mann-Whitney).

    Args:
        scores: [N], higher = more suspicious.
        wrong: [N], bool, with both kinds in it.
    """
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[place]  # of each score, from 1; ties share the mean
    positives = int(wrong.sum())
    pairs = positives * (len(wrong) - positives)
    return float((ranks[wrong].sum() - positives * (positives + 1) / 2) / pairs)


def precision_at(k: int, scores: np.ndarray, wrong: np.ndarray) -> float:
    """Share of wrong samples among the k that score highest, ties by index."""
    return float(wrong[np.argsort(-scores, kind="stable")[:k]].mean())
