"""One number a sample, the higher the more likely its label is wrong: the loss, and what clean queries add.

With L_z the mean loss of sample z over the checkpoints, and h_z = N · (its harmful score), which is in units
of loss like L_z:

    S_z = L_z + tanh(3 · r · g · h_z)
    r = mean |h| / mean L,   g = min(1, mean h₊² / mean h₋²)²
    suspicion(z) = (rank of S_z - 1/2)/N, ties sharing their mean rank

- L_z alone is hard to beat while wrong labels look wrong to the network. Where they follow a pattern (sevens
  labelled one) the network learns it, losses of right and wrong labels meet, and only clean queries can tell.
- L is about -log p(label). The tanh adds at most one such unit either way: it decides between samples whose
  losses are close, and never outvotes a loss that is plain. r is how much of the loss the queries dispute.
- g asks whether they can be believed. Wrong labels are few and do much harm each, so believable scores have a
  longer tail on the harmful side. With labels of the queries wrong too, or a network that is only
  overconfident on them, it is the helpful tail that is longer, and g takes the term away.

Take h from the last checkpoint only: earlier segments carry ∇L_V(θ_T) back to states it says little about.
The constants, and this choice, are provisional: the table they are to be judged by is still to come.
"""

from __future__ import annotations

import torch

from worker.influence.evaluate import ranks

WEIGHT = 3.0


def suspicion(
    losses: torch.Tensor, harmful: torch.Tensor | None = None, *, train_size: int | None = None
) -> torch.Tensor:
    """How suspicious each label is among those given; without `harmful` the rank of the mean loss.

    Args:
        losses: [m, N], at each checkpoint. NaN where unknown, and left out of the mean.
        harmful: [N], what the last checkpoint contributes to `diff_in` against clean queries, positive =
            harmful; None: there were no queries. A score that is not finite says nothing.
        train_size: N of the run the scores come from; None: as many as there are samples here.

    Returns:
        [N] float64 in [0, 1]; ½ for a sample of which no loss is known.

    Raises:
        ValueError: shapes that do not belong together.
    """
    if losses.dim() != 2 or losses.shape[0] == 0:
        raise ValueError(f"losses must be [checkpoints, samples], not {list(losses.shape)}")
    if harmful is not None and harmful.shape != losses.shape[1:]:
        raise ValueError(f"{list(harmful.shape)} scores for {losses.shape[1]} samples")
    signal = losses.double().nanmean(0)
    known = ~signal.isnan()
    if harmful is not None:
        size = losses.shape[1] if train_size is None else train_size
        signal = signal + _queries_say(signal, size * harmful.double())
    found = torch.full_like(signal, 0.5)
    found[known] = (ranks(signal[known]) - 0.5) / max(int(known.sum()), 1)
    return found


def _queries_say(loss: torch.Tensor, harm: torch.Tensor) -> torch.Tensor:
    """tanh(3·r·g·h) [N], 0 where the loss or the score is not finite, or where all are 0."""
    usable = loss.isfinite() & harm.isfinite()
    harm = torch.where(usable, harm, 0.0)
    squares, positive = harm.square(), harm > 0
    harmful, helpful = squares[positive].sum(), squares[~positive].sum()
    trust = (harmful / helpful).clamp(max=1).square() if helpful > 0 else torch.ones_like(helpful)
    share = harm.abs().sum() / loss[usable].sum()
    weight = torch.nan_to_num(WEIGHT * share * trust, nan=0.0, posinf=0.0)
    return torch.tanh(weight * harm)
