"""What passes between the units of a job comes back as it was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from worker.influence.methods import Chunk, Sweep
from worker.influence.task import Tensors
from worker.vectors import Sweeps, block_columns, joined, save_sweeps

NAMES = ["b", "a"]  # not in alphabetical order, as networks' parameters are not


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {name: torch.full((2, 3), value) for name in NAMES}


def kept(folder: Path, written: list[Sweep]) -> tuple[list[dict[str, Tensors]], dict[str, Tensors] | None]:
    """The vectors of all, and the first one's carry, as they come back."""
    save_sweeps(written, len(written), folder / "sweep")
    read = Sweeps(folder / "sweep", NAMES, torch.device("cpu"))
    return read.vectors(range(len(written))), read.carry(0)


def test_vectors_and_carry_come_back_in_the_networks_order(tmp_path: Path) -> None:
    written = Sweep(vectors={"s": tensors(1.5), "v": tensors(2.5)}, carry={"w": tensors(3.5)})
    [vectors], carry = kept(tmp_path, [written])
    assert list(vectors["s"]) == NAMES
    assert carry is not None and list(carry["w"]) == NAMES
    assert torch.equal(vectors["v"]["a"], written.vectors["v"]["a"])
    assert torch.equal(carry["w"]["b"], tensors(3.5)["b"])


def test_the_sweeps_of_several_queries_stay_apart(tmp_path: Path) -> None:
    written = [
        Sweep({"s": tensors(float(n)), "exact": {"contribution": torch.full((3,), n).double()}},
              {"w": tensors(-float(n))})
        for n in range(11)
    ]  # fmt: skip
    save_sweeps(iter(written), len(written), tmp_path / "sweep")
    read = Sweeps(tmp_path / "sweep", NAMES, torch.device("cpu"))
    assert len(read) == 11
    assert [float(one["s"]["a"][0, 0]) for one in read.vectors(range(3, 9))] == list(range(3, 9))
    for one, was in zip(read.vectors(range(11)), written, strict=True):
        assert torch.equal(one["exact"]["contribution"], was.vectors["exact"]["contribution"])
    carries = [read.carry(n) for n in range(11)]
    assert [float(one["w"]["b"][0, 0]) for one in carries if one] == [-float(n) for n in range(11)]


def test_a_checkpoint_without_steps_has_a_carry_only(tmp_path: Path) -> None:
    [vectors], carry = kept(tmp_path, [Sweep({}, {"w": tensors(7.0)})])
    assert vectors == {} and carry is not None


def test_one_in_which_a_method_takes_no_part_has_neither(tmp_path: Path) -> None:
    assert kept(tmp_path, [Sweep({})]) == ([{}], None)


def test_a_vector_over_other_names_stays_as_it_is(tmp_path: Path) -> None:
    [vectors], carry = kept(tmp_path, [Sweep(vectors={"batch": {"inputs": torch.zeros(4)}})])
    assert list(vectors["batch"]) == ["inputs"]
    assert carry is None


def chunk(contribution: torch.Tensor) -> Chunk:
    n = len(contribution)
    return Chunk(contribution.double(), torch.ones(n), torch.full((n,), 3), None)


def test_a_block_joins_its_chunks_and_marks_what_is_missing() -> None:
    block = block_columns([joined([chunk(torch.arange(n)) for n in (2, 3)])])
    assert block["contribution"].tolist() == [0, 1, 0, 1, 2]
    assert block["prediction"].tolist() == [3.0] * 5
    assert np.isnan(block["self_influence"]).all()
    assert "influences" not in (block.dtype.names or ())


def test_a_block_of_several_queries_keeps_each_and_their_mean() -> None:
    queries = [[chunk(torch.arange(n) + query) for n in (1, 2)] for query in (0, 4)]
    block = block_columns([joined(chunks) for chunks in queries])
    assert block["influences"].tolist() == [[0, 4], [0, 4], [1, 5]]
    assert block["contribution"].tolist() == [2, 2, 3]
