"""Checkpoints: every tensor the network expects, by name, shape and dtype, and no other."""

from __future__ import annotations

import io
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from tests.worker.loading.files import allocating_at_most
from worker.influence.networks import build, expected_tensors
from worker.loading import CheckpointInfo, LoadError, load_checkpoint

CONFIG = {"in_channels": 1, "num_classes": 3, "channels": [4, 6], "norm": "batch"}
State = dict[str, Tensor]
Load = Callable[..., CheckpointInfo]
Refuse = Callable[..., LoadError]


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return build("cnn", CONFIG)


@pytest.fixture
def state(network: nn.Module) -> State:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "canonical.safetensors"


@pytest.fixture
def load(tmp_path: Path, out: Path, network: nn.Module) -> Load:
    """Loads a checkpoint of the network from a state or the bytes given."""

    def load_state(state: State | bytes) -> CheckpointInfo:
        path = tmp_path / "upload"
        path.write_bytes(state if isinstance(state, bytes) else save(state))
        return load_checkpoint(path, expected_tensors(network), out)

    return load_state


@pytest.fixture
def refuse(load: Load, out: Path) -> Refuse:
    """Loads a checkpoint, which must be refused with nothing left behind."""

    def refuse_state(state: State | bytes, code: str = "invalid_checkpoint") -> LoadError:
        with pytest.raises(LoadError) as refused:
            load(state)
        assert refused.value.code == code, refused.value.detail
        assert not out.exists()
        return refused.value

    return refuse_state


def test_a_state_dict_comes_through_bit_for_bit(
    load: Load, out: Path, state: State, network: nn.Module
) -> None:
    info = load(state)
    kept = load_file(out)
    assert kept.keys() == state.keys()
    assert all(torch.equal(kept[name], state[name]) for name in state)
    parameters = sum(p.numel() for p in network.parameters())
    assert info.as_dict() == {
        "num_tensors": len(state),
        "num_parameters": parameters,
        "dtype": "float32",
        "parameters": [name for name, _ in network.named_parameters()],
        "shapes": [list(parameter.shape) for parameter in network.parameters()],
    }


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(load: Load, out: Path, state: State, half: torch.dtype) -> None:
    halved = {name: t.to(half) if t.is_floating_point() else t for name, t in state.items()}
    assert load(halved).dtype == "float32"
    kept = load_file(out)
    assert all(torch.equal(kept[name], halved[name].to(state[name].dtype)) for name in state)


def test_double_precision_stays_and_takes_the_others_along(load: Load, out: Path, state: State) -> None:
    state["convs.0.weight"] = torch.randn(4, 1, 3, 3, dtype=torch.float64)
    assert load(state).dtype == "float64"
    kept = load_file(out)
    assert torch.equal(kept["convs.0.weight"], state["convs.0.weight"])
    assert {t.dtype for t in kept.values()} == {torch.float64, torch.int64}


def test_the_count_of_batches_may_be_left_out(load: Load, out: Path, state: State) -> None:
    load({name: t for name, t in state.items() if "num_batches" not in name})
    assert load_file(out)["norms.0.num_batches_tracked"].item() == 0


class Tied(nn.Module):
    """As a language model whose head is its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.head.weight = self.embedding.weight


@pytest.fixture
def tied(tmp_path: Path, out: Path) -> Load:
    def load_state(state: State) -> CheckpointInfo:
        (tmp_path / "upload").write_bytes(save(state))
        return load_checkpoint(tmp_path / "upload", expected_tensors(Tied()), out)

    return load_state


@pytest.mark.parametrize("names", [("embedding",), ("head",), ("embedding", "head")])
def test_a_tied_tensor_may_have_any_of_its_names(tied: Load, out: Path, names: tuple[str, ...]) -> None:
    value = torch.randn(5, 3)
    info = tied({f"{name}.weight": value.clone() for name in names})
    assert (info.num_parameters, info.parameters) == (15, ["embedding.weight"])
    kept = load_file(out)
    assert list(kept) == ["embedding.weight"] and torch.equal(kept["embedding.weight"], value)


def test_tied_tensors_that_differ_are_refused(tied: Load, out: Path) -> None:
    with pytest.raises(LoadError, match="tied") as refused:
        tied({"embedding.weight": torch.zeros(5, 3), "head.weight": torch.ones(5, 3)})
    assert refused.value.code == "invalid_checkpoint"
    with pytest.raises(LoadError, match=r"'?head\.weight"):
        tied({"embedding.weight": torch.zeros(5, 3), "head.weight": torch.zeros(3, 5)})
    assert not out.exists()


def test_a_count_of_batches_that_the_network_lost_is_dropped(tmp_path: Path, out: Path) -> None:
    network = nn.BatchNorm1d(2)
    network.num_batches_tracked = None  # as in a graph that was exported
    (tmp_path / "upload").write_bytes(save(nn.Sequential(nn.BatchNorm1d(2)).state_dict()))
    load_checkpoint(tmp_path / "upload", expected_tensors(nn.Sequential(network)), out)
    assert sorted(load_file(out)) == ["0.bias", "0.running_mean", "0.running_var", "0.weight"]


def test_missing_extra_and_misshapen_tensors_are_all_named(refuse: Refuse, state: State) -> None:
    del state["convs.0.bias"], state["norms.1.running_var"]
    state["fc.weight"] = torch.zeros(2)
    state["layers.0.weight"] = torch.zeros(3, 7)
    refused = refuse(state)
    assert {error["pointer"]: error["detail"] for error in refused.errors} == {
        "/convs.0.bias": "is missing: expected float32 [4]",
        "/norms.1.running_var": "is missing: expected float32 [6]",
        "/fc.weight": "is not a tensor of this network",
        "/layers.0.weight": "has shape [3, 7]: expected [3, 6]",
    }
    for words in (
        "2 missing (convs.0.bias, norms.1.running_var)",
        "1 not expected (fc.weight)",
        "layers.0.weight",
    ):
        assert words in refused.detail


def test_the_prefix_of_a_wrapper_is_recognised(refuse: Refuse, state: State) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    assert "begin with 'module.'" in refuse(wrapped).detail


def test_a_long_list_of_faults_is_cut(refuse: Refuse, state: State) -> None:
    refused = refuse(state | {f"extra.{i}": torch.zeros(1) for i in range(500)})
    assert len(refused.errors) == 51 and "450 more" in refused.errors[-1]["detail"]
    assert len(refused.detail) < 500


def test_integers_where_floats_belong_are_refused(refuse: Refuse, state: State) -> None:
    state["convs.0.bias"] = state["convs.0.bias"].to(torch.int32)
    assert refuse(state).errors[0]["detail"] == "is of dtype I32: expected float32"


def test_floats_where_integers_belong_are_refused(refuse: Refuse, state: State) -> None:
    state["norms.0.num_batches_tracked"] = torch.tensor(1.0)
    assert "expected int64" in refuse(state).errors[0]["detail"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_named(refuse: Refuse, state: State, value: float) -> None:
    state["convs.0.weight"][1, 0, 2, 2] = value
    state["norms.1.running_mean"][:2] = value
    refused = refuse(state, "non_finite")
    assert [error["pointer"] for error in refused.errors] == ["/convs.0.weight", "/norms.1.running_mean"]
    assert "2 NaN or infinite" in refused.errors[1]["detail"]


def test_values_beyond_float32_are_named_before_a_job_meets_them(refuse: Refuse, state: State) -> None:
    state["convs.0.weight"] = state["convs.0.weight"].double()
    state["convs.0.weight"][1, 0, 2, 2] = -1e300
    state["norms.1.running_mean"] = torch.full_like(state["norms.1.running_mean"], 4e38, dtype=torch.float64)
    refused = refuse(state, "out_of_range")
    assert [error["pointer"] for error in refused.errors] == ["/convs.0.weight", "/norms.1.running_mean"]
    assert "1 values beyond float32" in refused.errors[0]["detail"] and "3.4e+38" in refused.detail
    state["norms.1.running_var"][0] = torch.nan
    assert [error["pointer"] for error in refuse(state, "non_finite").errors] == ["/norms.1.running_var"]


def test_the_largest_number_of_float32_is_taken(load: Load, out: Path, state: State) -> None:
    most = torch.finfo(torch.float32).max
    state["convs.0.weight"] = state["convs.0.weight"].double()
    state["convs.0.weight"][0, 0, 0, :2] = torch.tensor([most, -most], dtype=torch.float64)
    assert load(state).dtype == "float64"
    assert load_file(out)["convs.0.weight"].float().isfinite().all()


def test_a_file_of_torch_save_is_told_how_to_convert(refuse: Refuse, state: State) -> None:
    for legacy in (False, True):
        buffer = io.BytesIO()
        torch.save(state, buffer, _use_new_zipfile_serialization=not legacy)
        assert (
            "safetensors.torch.save_file(model.state_dict()"
            in refuse(buffer.getvalue(), "unsafe_file").detail
        )
    refuse(pickle.dumps({"a": 1}), "unsafe_file")


def test_an_empty_file_and_noise_are_refused(refuse: Refuse) -> None:
    refuse(b"", "empty_file")
    assert "save_file" in refuse(b"not a checkpoint at all", "corrupt_file").detail


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(refuse: Refuse, state: State, share: float) -> None:
    whole = save(state)
    refuse(whole[: int(len(whole) * share)], "corrupt_file")


def test_a_header_asking_for_more_than_the_file_holds_costs_nothing(refuse: Refuse) -> None:
    text = b'{"convs.0.weight":{"dtype":"F32","shape":[4000000000],"data_offsets":[0,16000000000]}}'
    with allocating_at_most(2**20):
        refuse(struct.pack("<Q", len(text)) + text + bytes(64), "corrupt_file")


def test_a_large_checkpoint_passes_in_small_pieces(tmp_path: Path, out: Path) -> None:
    network = build("mlp", {"in_features": 4000, "hidden": [4000], "num_classes": 2})
    path = tmp_path / "large"
    path.write_bytes(save(network.state_dict()))
    with allocating_at_most(32 * 2**20):
        load_checkpoint(path, expected_tensors(network), out)
    assert torch.equal(load_file(out)["layers.0.weight"], network.state_dict()["layers.0.weight"])
