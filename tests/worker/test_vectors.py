"""What passes between the units of a job comes back as it was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from worker.influence.methods import Chunk, Sweep
from worker.vectors import block_columns, load_sweeps, save_sweeps

NAMES = ["b", "a"]  # not in alphabetical order, as networks' parameters are not


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {name: torch.full((2, 3), value) for name in NAMES}


def test_vectors_and_carry_come_back_in_the_networks_order(tmp_path: Path) -> None:
    written = Sweep(vectors={"s": tensors(1.5), "v": tensors(2.5)}, carry={"w": tensors(3.5)})
    save_sweeps([written], tmp_path / "sweep")
    [read] = load_sweeps(tmp_path / "sweep", NAMES, torch.device("cpu"))
    assert list(read.vectors["s"]) == NAMES
    assert read.carry is not None and list(read.carry["w"]) == NAMES
    assert torch.equal(read.vectors["v"]["a"], written.vectors["v"]["a"])
    assert torch.equal(read.carry["w"]["b"], tensors(3.5)["b"])


def test_the_sweeps_of_several_queries_stay_apart(tmp_path: Path) -> None:
    written = [Sweep({"s": tensors(float(n))}, {"w": tensors(-float(n))}) for n in range(11)]
    written.append(Sweep({}, {"w": tensors(7.0)}))  # a checkpoint without steps has a carry only
    save_sweeps(written, tmp_path / "sweep")
    read = load_sweeps(tmp_path / "sweep", NAMES, torch.device("cpu"))
    assert [float(one.vectors["s"]["a"][0, 0]) for one in read[:-1]] == list(range(11))
    assert read[-1].vectors == {} and read[-1].carry is not None


def test_a_vector_over_other_names_stays_as_it_is(tmp_path: Path) -> None:
    save_sweeps([Sweep(vectors={"batch": {"inputs": torch.zeros(4)}})], tmp_path / "sweep")
    [read] = load_sweeps(tmp_path / "sweep", NAMES, torch.device("cpu"))
    assert list(read.vectors["batch"]) == ["inputs"]
    assert read.carry is None


def chunk(contribution: torch.Tensor) -> Chunk:
    n = len(contribution)
    return Chunk(contribution.double(), torch.ones(n), torch.full((n,), 3), None)


def test_a_block_joins_its_chunks_and_marks_what_is_missing() -> None:
    block = block_columns([[chunk(torch.arange(n))] for n in (2, 3)])
    assert block["contribution"].tolist() == [0, 1, 0, 1, 2]
    assert block["prediction"].tolist() == [3.0] * 5
    assert np.isnan(block["self_influence"]).all()
    assert "influences" not in (block.dtype.names or ())


def test_a_block_of_several_queries_keeps_each_and_their_mean() -> None:
    block = block_columns([[chunk(torch.arange(n)), chunk(torch.arange(n) + 4)] for n in (1, 2)])
    assert block["influences"].tolist() == [[0, 4], [0, 4], [1, 5]]
    assert block["contribution"].tolist() == [2, 2, 3]
