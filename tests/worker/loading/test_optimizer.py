"""What an optimizer carries fits the network's parameters, tensor by tensor, or is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from worker.influence.networks import build, expected_tensors
from worker.loading import LoadError, load_optimizer_state

CONFIG = {"in_channels": 1, "num_classes": 3, "channels": [4], "norm": "batch"}
State = dict[str, Tensor]
Accept = Callable[[State | bytes], list[str]]
Refuse = Callable[[State | bytes, str], LoadError]


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build("cnn", CONFIG)


@pytest.fixture
def state(network: nn.Module) -> State:
    """Adam's, as torch.optim has it."""
    moments = ("exp_avg", "exp_avg_sq")
    return {
        f"{kind}.{name}": p.detach().square() for kind in moments for name, p in network.named_parameters()
    }


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "canonical.safetensors"


@pytest.fixture
def accept(tmp_path: Path, out: Path, network: nn.Module) -> Accept:
    def accept_state(given: State | bytes) -> list[str]:
        path = tmp_path / "upload"
        path.write_bytes(given if isinstance(given, bytes) else save(given))
        return load_optimizer_state(path, expected_tensors(network), out)

    return accept_state


@pytest.fixture
def refuse(accept: Accept, out: Path) -> Refuse:
    """Loads a state, which must be refused with nothing left behind."""

    def refuse_state(given: State | bytes, code: str) -> LoadError:
        with pytest.raises(LoadError) as refused:
            accept(given)
        assert refused.value.code == code, refused.value.detail
        assert not out.exists()
        return refused.value

    return refuse_state


def test_a_state_comes_through_bit_for_bit(accept: Accept, out: Path, state: State) -> None:
    assert accept(state) == ["exp_avg", "exp_avg_sq"]
    kept = load_file(out)
    assert kept.keys() == state.keys()
    assert all(torch.equal(kept[name], state[name]) for name in state)


def test_momentum_alone_is_enough(accept: Accept, network: nn.Module) -> None:
    momentum = {f"momentum_buffer.{name}": -p.detach() for name, p in network.named_parameters()}
    assert accept(momentum) == ["momentum_buffer"]


def test_half_precision_is_widened(accept: Accept, out: Path, state: State) -> None:
    accept({name: value.bfloat16() for name, value in state.items()})
    assert all(value.dtype == torch.float32 for value in load_file(out).values())


def test_every_tensor_at_fault_is_named(refuse: Refuse, state: State) -> None:
    missing, misshapen, extra = (
        "exp_avg.layers.0.bias",
        "exp_avg_sq.layers.0.weight",
        "exp_avg.norms.0.running_mean",
    )
    del state[missing]
    state[misshapen] = torch.zeros(2)
    state[extra] = torch.zeros(4)
    error = refuse(state, "invalid_checkpoint")
    assert {one["pointer"] for one in error.errors} == {f"/{missing}", f"/{misshapen}", f"/{extra}"}


def test_squares_are_not_negative(refuse: Refuse, state: State) -> None:
    state["exp_avg_sq.layers.0.weight"][0, 0] = -1e-9
    assert "exp_avg_sq.layers.0.weight" in refuse(state, "out_of_range").detail


def test_a_state_beyond_float32_is_refused(refuse: Refuse, state: State) -> None:
    state["exp_avg_sq.layers.0.bias"] = torch.full_like(
        state["exp_avg_sq.layers.0.bias"], 1e300, dtype=torch.float64
    )
    assert refuse(state, "out_of_range").errors[0]["pointer"] == "/exp_avg_sq.layers.0.bias"


def test_a_diverged_state_is_refused(refuse: Refuse, state: State) -> None:
    state["exp_avg.layers.0.bias"][1] = torch.nan
    assert refuse(state, "non_finite").errors[0]["pointer"] == "/exp_avg.layers.0.bias"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (b"\x80\x02}q\x00.", "unsafe_file"),
        (b"PK\x03\x04" + bytes(40), "unsafe_file"),
        (b"not tensors", "corrupt_file"),
        ({"layers.0.weight": torch.zeros(2)}, "missing_array"),
        ({"step": torch.zeros(())}, "missing_array"),
    ],
)
def test_what_is_no_state_is_refused(refuse: Refuse, given: State | bytes, code: str) -> None:
    refuse(given, code)
