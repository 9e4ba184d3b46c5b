"""How many labels are wrong, estimated from what the network contradicts."""

from __future__ import annotations

import pytest
import torch

from worker.influence.selection.noise import fitted, most_wrong, windows

N, CLASSES = 4000, 6


def drawn(share: float, *, hard: float, softness: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Beliefs [N, C] and labels drawn from them, of which a share is then replaced by any other class.

    `hard` is how often the beliefs hesitate; they are told `softness` times as soft as they are.
    """
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(N, CLASSES, generator=generator, dtype=torch.float64)
    logits *= torch.where(torch.rand(N, 1, generator=generator) < hard, 1.0, 8.0)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    wrong = torch.rand(N, generator=generator) < share
    moves = torch.randint(1, CLASSES, (N,), generator=generator)
    return (logits / softness).softmax(1), torch.where(wrong, (labels + moves) % CLASSES, labels)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.4])
@pytest.mark.parametrize("hard", [0.1, 0.6])
def test_the_share_is_found_whether_the_samples_are_easy_or_hard(share: float, hard: float) -> None:
    found, _ = fitted(*drawn(share, hard=hard))
    assert found == pytest.approx(share, abs=0.025)


def test_beliefs_that_are_too_soft_are_sharpened() -> None:
    found, temperature = fitted(*drawn(0.2, hard=0.3, softness=2.0))
    assert found == pytest.approx(0.2, abs=0.025)
    assert temperature == pytest.approx(0.5, abs=0.1)


def test_the_window_that_shows_most_counts() -> None:
    clean, labels = drawn(0.0, hard=0.1)
    noisy, noise = drawn(0.3, hard=0.1)
    assert most_wrong([(1, noisy), (4, noisy.lerp(torch.eye(CLASSES)[noise].double(), 0.9))], noise)[2] == 1
    assert most_wrong([(1, clean)], labels).share < 0.01


def test_windows_are_shares_of_each_runs_checkpoints() -> None:
    assert windows([10]) == [(1,), (2,), (3,), (5,)]
    assert windows([1]) == [(1,)]
    assert windows([5, 100]) == [(1, 10), (1, 20), (2, 30), (2, 50)]
