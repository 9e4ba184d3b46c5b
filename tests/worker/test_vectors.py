"""What passes between the units of a job comes back as it was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from worker.influence.methods import Chunk, Sweep
from worker.vectors import block_columns, load_sweep, save_sweep

NAMES = ["b", "a"]  # not in alphabetical order, as networks' parameters are not


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {name: torch.full((2, 3), value) for name in NAMES}


def test_vectors_and_carry_come_back_in_the_networks_order(tmp_path: Path) -> None:
    written = Sweep(vectors={"s": tensors(1.5), "v": tensors(2.5)}, carry={"w": tensors(3.5)})
    save_sweep(written, tmp_path / "sweep")
    vectors, carry = load_sweep(tmp_path / "sweep", NAMES, torch.device("cpu"))
    assert list(vectors["s"]) == NAMES
    assert carry is not None and list(carry["w"]) == NAMES
    assert torch.equal(vectors["v"]["a"], written.vectors["v"]["a"])
    assert torch.equal(carry["w"]["b"], tensors(3.5)["b"])


def test_a_vector_over_other_names_stays_as_it_is(tmp_path: Path) -> None:
    save_sweep(Sweep(vectors={"batch": {"inputs": torch.zeros(4)}}), tmp_path / "sweep")
    vectors, carry = load_sweep(tmp_path / "sweep", NAMES, torch.device("cpu"))
    assert list(vectors["batch"]) == ["inputs"]
    assert carry is None


def test_a_block_joins_its_chunks_and_marks_what_is_missing() -> None:
    chunks = [
        Chunk(torch.arange(n, dtype=torch.float64), torch.ones(n), torch.full((n,), 3), None) for n in (2, 3)
    ]
    block = block_columns(chunks)
    assert block["contribution"].tolist() == [0, 1, 0, 1, 2]
    assert block["prediction"].tolist() == [3.0] * 5
    assert np.isnan(block["self_influence"]).all()
