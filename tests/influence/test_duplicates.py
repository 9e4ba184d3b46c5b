"""Samples that are all but the same are found, and others are not."""

from __future__ import annotations

import numpy as np
import torch

from worker.influence.selection.duplicates import crowding, near, sketches
from worker.influence.trajectory import Arrays


def test_near_duplicates_of_images_are_found_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(60, 1, 8, 8, generator=generator)
    images[40] = images[3]
    images[41] = images[3] + 0.01 * torch.randn(1, 8, 8, generator=generator)
    images[42] = images[5].flip(-1)  # a mirrored one is another image
    found = near(sketches(Arrays(images, torch.zeros(60)), chunk=7), [3, 5, 40])
    assert [(one.inside, one.outside) for one in found] == [(3, 41), (40, 41)]
    assert all(0.99 <= one.similarity <= 1.001 for one in found)


def test_texts_are_compared_as_bags_of_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(1, 900, (30, 12), generator=generator)
    tokens[20] = tokens[4].flip(0)
    tokens[21] = torch.cat([tokens[6, :6], torch.zeros(6, dtype=torch.int64)])
    found = near(sketches(Arrays(tokens, torch.zeros(30)), chunk=16), [4, 6])
    assert [(one.inside, one.outside) for one in found] == [(4, 20)]


def test_samples_that_are_all_the_mean_are_no_duplicates() -> None:
    data = Arrays(torch.ones(5, 3), torch.zeros(5))
    assert near(sketches(data, chunk=5), [0]) == []


def test_of_samples_alike_all_but_the_first_in_the_order_crowd() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(50, 64, generator=generator)
    images[40] = images[3] = images[7]
    order = np.roll(np.arange(50), 10)  # 40 comes first
    found = crowding(sketches(Arrays(images, torch.zeros(50)), chunk=50), order)
    assert found.nonzero().squeeze(1).tolist() == [3, 7]
