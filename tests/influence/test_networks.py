"""The registered networks: their tensors, their outputs, and that functional transforms go through them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

from app.catalog import ARCHITECTURES, Architecture
from worker.influence.networks import NETWORKS, build, expected_tensors

# torch 2.13 itself compiles decompositions for forward mode with what it has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

architecture: TypeAdapter[Any] = TypeAdapter(Architecture)

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "linear": ("linear", {"in_features": 12, "num_classes": 3}),
    "mlp gelu": ("mlp", {"in_features": 12, "hidden": [7, 5], "num_classes": 3}),
    "mlp relu": ("mlp", {"in_features": 12, "hidden": [7], "num_classes": 3, "activation": "relu"}),
    "mlp tanh": ("mlp", {"in_features": 12, "hidden": [7], "num_classes": 3, "activation": "tanh"}),
    "cnn": ("cnn", {"in_channels": 2, "num_classes": 3, "channels": [4, 6]}),
    "cnn relu": ("cnn", {"in_channels": 2, "num_classes": 3, "channels": [4], "activation": "relu"}),
    "cnn avg": (
        "cnn",
        {"in_channels": 2, "num_classes": 3, "channels": [4], "pool": "avg", "kernel_size": 5},
    ),
    "cnn batch": ("cnn", {"in_channels": 2, "num_classes": 3, "channels": [4], "norm": "batch"}),
    "cnn group": ("cnn", {"in_channels": 2, "num_classes": 3, "channels": [4], "norm": "group", "groups": 2}),
    "cnn flat": (
        "cnn",
        {"in_channels": 2, "num_classes": 3, "channels": [4, 6], "image_size": [9, 8], "hidden": [5]},
    ),
    "resnet10": ("resnet", {"num_classes": 3, "in_channels": 2, "depth": 10, "width": 4}),
    "resnet18": ("resnet", {"num_classes": 3, "in_channels": 2, "width": 2, "activation": "gelu"}),
    "resnet34": (
        "resnet",
        {"num_classes": 3, "in_channels": 2, "depth": 34, "width": 2, "norm": "group", "groups": 2},
    ),
    "resnet50": ("resnet", {"num_classes": 3, "in_channels": 2, "depth": 50, "width": 2}),
    "transformer": (
        "transformer",
        {
            "vocab_size": 11,
            "max_length": 6,
            "num_classes": 3,
            "d_model": 8,
            "num_heads": 2,
            "dim_feedforward": 10,
        },
    ),
    "transformer norm first": (
        "transformer",
        {
            "vocab_size": 11,
            "max_length": 6,
            "num_classes": 3,
            "d_model": 8,
            "num_heads": 4,
            "num_layers": 1,
            "dim_feedforward": 10,
            "norm_first": True,
            "pad_id": None,
            "activation": "relu",
        },
    ),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return CASES[request.param]


@pytest.fixture
def network(case: tuple[str, dict[str, Any]]) -> nn.Module:
    torch.manual_seed(0)
    return build(*case).double()


@pytest.fixture
def samples(case: tuple[str, dict[str, Any]]) -> Tensor:
    torch.manual_seed(1)
    kind = ARCHITECTURES[case[0]].config.inputs
    if kind == "tokens":
        return torch.tensor([[1, 2, 3, 0, 0], [4, 10, 1, 7, 2], [9, 0, 0, 0, 0], [3, 3, 3, 3, 0]])
    shape = (4, 2, 9, 8) if kind == "image" else (4, 3, 4)
    return torch.randn(shape, dtype=torch.float64)


def losses(network: nn.Module, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    outputs = functional_call(network, parameters, (x,))
    return nn.functional.cross_entropy(outputs, torch.arange(len(x)) % 3, reduction="none")


def directions(network: nn.Module, seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {name: torch.randn_like(p) for name, p in network.named_parameters()}


def detached(network: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in network.named_parameters()}


def test_catalog_and_builders_know_the_same_networks() -> None:
    registered = {name for name in ARCHITECTURES if not name.startswith("hf/")}
    assert set(NETWORKS) == registered


def test_a_config_with_its_defaults_filled_in_builds(case: tuple[str, dict[str, Any]]) -> None:
    name, given_config = case
    config = architecture.validate_python({"name": name, "config": given_config}).config
    with torch.device("meta"):
        filled, bare = build(name, config.model_dump()), build(name, given_config)
    assert expected_tensors(filled) == expected_tensors(bare)
    assert sum(p.numel() for p in filled.parameters()) == config.num_parameters


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("mlp", {"hidden": [9]}),
        ("cnn", {"channels": [4, 4]}),
        ("cnn", {"kernel_size": 5}),
        ("cnn", {"norm": "batch"}),
        ("cnn", {"image_size": [9, 8]}),
        ("cnn", {"hidden": [9]}),
        ("resnet", {"depth": 34}),
        ("resnet", {"width": 8}),
        ("resnet", {"norm": "group"}),
        ("transformer", {"d_model": 64}),
        ("transformer", {"num_layers": 1}),
        ("transformer", {"dim_feedforward": 64}),
        ("transformer", {"norm_first": True}),
    ],
)
def test_a_config_that_shapes_the_network_changes_its_tensors(name: str, change: dict[str, Any]) -> None:
    bases = {
        "mlp": {"in_features": 12, "num_classes": 3},
        "cnn": {"in_channels": 2, "num_classes": 3},
        "resnet": {"num_classes": 3},
        "transformer": {"vocab_size": 11, "max_length": 6, "num_classes": 3},
    }
    with torch.device("meta"):
        assert expected_tensors(build(name, bases[name])) != expected_tensors(
            build(name, bases[name] | change)
        )


@pytest.mark.parametrize(
    ("label", "change"),
    [
        ("mlp gelu", {"activation": "tanh"}),
        ("cnn", {"activation": "tanh"}),
        ("cnn", {"pool": "avg"}),
        ("cnn group", {"groups": 4}),
        ("resnet10", {"activation": "tanh"}),
        ("resnet34", {"groups": 1}),
        ("transformer", {"activation": "relu"}),
        ("transformer", {"num_heads": 4}),
        ("transformer", {"pad_id": None}),
    ],
)
def test_a_config_without_tensors_of_its_own_changes_the_outputs(label: str, change: dict[str, Any]) -> None:
    name, config = CASES[label]
    torch.manual_seed(0)
    one, other = build(name, config), build(name, config | change)
    other.load_state_dict(one.state_dict())
    tokens = torch.tensor([[1, 2, 3, 0, 0]])
    shape = (2, 2, 9, 8) if name != "mlp" else (2, 12)
    x = tokens if name == "transformer" else torch.randn(shape)
    assert not torch.allclose(one(x), other(x))


def test_outputs_are_one_row_a_sample(network: nn.Module, samples: Tensor) -> None:
    assert network(samples).shape == (4, 3)
    assert torch.isfinite(network(samples)).all()


def test_a_sample_is_not_told_by_its_batch(network: nn.Module, samples: Tensor) -> None:
    torch.testing.assert_close(network(samples)[1:2], network(samples[1:2]), rtol=1e-10, atol=1e-10)


def test_a_directional_derivative_is_the_gradient_along_it(network: nn.Module, samples: Tensor) -> None:
    theta, v = detached(network), directions(network, 2)
    along = jvp(lambda p: losses(network, p, samples), (theta,), (v,))[1]

    def one(p: dict[str, Tensor], i: int) -> Tensor:
        return losses(network, p, samples)[i]

    for i in range(4):
        gradient = grad(one)(theta, i)
        assert along[i].item() == pytest.approx(sum((gradient[k] * v[k]).sum().item() for k in v), rel=1e-8)


def test_a_nested_derivative_is_the_hessian_between_both(network: nn.Module, samples: Tensor) -> None:
    theta, u, v = detached(network), directions(network, 2), directions(network, 3)

    def along(p: dict[str, Tensor], t: dict[str, Tensor]) -> Tensor:
        result: Tensor = jvp(lambda q: losses(network, q, samples), (p,), (t,))[1]
        return result

    nested = jvp(lambda p: along(p, u), (theta,), (v,))[1]

    def total(p: dict[str, Tensor]) -> Tensor:
        return losses(network, p, samples).sum()

    product = jvp(grad(total), (theta,), (v,))[1]
    assert nested.sum().item() == pytest.approx(sum((product[k] * u[k]).sum().item() for k in u), rel=1e-6)


def test_per_sample_gradients_come_of_vmap(network: nn.Module, samples: Tensor) -> None:
    theta = detached(network)

    def one(p: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(functional_call(network, p, (x[None],)), y[None])

    each = vmap(grad(one), (None, 0, 0))(theta, samples, torch.arange(4) % 3)
    whole = grad(lambda p: losses(network, p, samples).sum())(theta)
    for name in theta:
        torch.testing.assert_close(each[name].sum(0), whole[name], rtol=1e-8, atol=1e-10)


def test_a_checkpoint_fills_a_network_on_meta(case: tuple[str, dict[str, Any]], samples: Tensor) -> None:
    torch.manual_seed(0)
    real = build(*case).double()
    with torch.device("meta"):
        empty = build(*case)
    torch.testing.assert_close(functional_call(empty, real.state_dict(), (samples,)), real(samples))


def test_parameters_and_buffers_are_told_apart() -> None:
    tensors = expected_tensors(
        build("cnn", {"in_channels": 1, "num_classes": 2, "channels": [4], "norm": "batch"})
    )
    assert {name: spec.shape for name, spec in tensors.parameters.items()} == {
        "convs.0.weight": (4, 1, 3, 3),
        "convs.0.bias": (4,),
        "norms.0.weight": (4,),
        "norms.0.bias": (4,),
        "layers.0.weight": (2, 4),
        "layers.0.bias": (2,),
    }
    assert {name: spec.dtype for name, spec in tensors.buffers.items()} == {
        "norms.0.running_mean": "float32",
        "norms.0.running_var": "float32",
        "norms.0.num_batches_tracked": "int64",
    }
    assert [name for name, spec in tensors.buffers.items() if spec.optional] == [
        "norms.0.num_batches_tracked"
    ]


def test_resnet_18_has_the_tensors_of_torchvision() -> None:
    with torch.device("meta"):
        tensors = expected_tensors(build("resnet", {"num_classes": 10}))
    names = set(tensors.parameters)
    assert {"conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer4.1.bn2.bias", "fc.bias"} <= names
    assert {"layer2.0.downsample.0.weight", "layer2.0.downsample.1.weight"} <= names
    assert not {"layer1.0.downsample.0.weight", "conv1.bias"} & names
    assert len(names) == 62
    assert tensors.parameters["layer4.0.conv1.weight"].shape == (512, 256, 3, 3)


def test_resnet_50_has_bottlenecks_of_torchvision() -> None:
    with torch.device("meta"):
        tensors = expected_tensors(build("resnet", {"num_classes": 10, "depth": 50}))
    assert len(tensors.parameters) == 161
    assert tensors.parameters["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert tensors.parameters["layer4.2.conv3.weight"].shape == (2048, 512, 1, 1)


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_transformer_agrees_with_torch_by_the_same_tensors(norm_first: bool) -> None:
    torch.manual_seed(0)
    ours = build(
        "transformer",
        {
            "vocab_size": 11,
            "max_length": 6,
            "num_classes": 3,
            "d_model": 8,
            "num_heads": 2,
            "dim_feedforward": 10,
            "norm_first": norm_first,
        },
    ).double()
    layer = nn.TransformerEncoderLayer(
        8, 2, 10, dropout=0.0, activation="gelu", batch_first=True, norm_first=norm_first, dtype=torch.float64
    )
    norm = nn.LayerNorm(8, dtype=torch.float64) if norm_first else None
    theirs = nn.TransformerEncoder(layer, 2, norm, enable_nested_tensor=False)
    states = {name: t for name, t in ours.state_dict().items() if name.startswith("encoder.")}
    theirs.load_state_dict({name.removeprefix("encoder."): t for name, t in states.items()})
    tokens = torch.tensor([[1, 2, 3, 0, 0], [4, 10, 1, 7, 2]])
    embedded = ours.get_parameter("embedding.weight")[tokens] + ours.get_parameter("position.weight")[:5]
    seen = (tokens != 0)[..., None]
    encoded = theirs(embedded, src_key_padding_mask=tokens == 0) * seen
    mean = encoded.sum(1) / seen.sum(1)
    want = mean @ ours.get_parameter("head.weight").T + ours.get_parameter("head.bias")
    torch.testing.assert_close(ours(tokens), want, rtol=1e-10, atol=1e-10)


def test_padding_does_not_change_what_a_transformer_says() -> None:
    torch.manual_seed(0)
    network = build(*CASES["transformer"]).double()
    short, long = torch.tensor([[4, 10, 1]]), torch.tensor([[4, 10, 1, 0, 0]])
    torch.testing.assert_close(network(short), network(long), rtol=1e-10, atol=1e-10)


def test_a_sample_of_padding_only_is_no_nan() -> None:
    network = build(*CASES["transformer"]).double()
    assert torch.isfinite(network(torch.zeros(1, 4, dtype=torch.int64))).all()


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_the_catalog_accepts_builds_with_the_parameters_it_counts(data: st.DataObject) -> None:
    widths = st.integers(1, 40)
    activation = st.sampled_from(["gelu", "relu", "tanh"])
    configs: dict[str, dict[str, st.SearchStrategy[Any]]] = {
        "mlp": {"in_features": widths, "hidden": st.lists(widths, max_size=3), "activation": activation},
        "cnn": {
            "in_channels": st.integers(1, 4),
            "channels": st.lists(st.sampled_from([8, 16]), min_size=1, max_size=3),
            "kernel_size": st.sampled_from([1, 3, 5]),
            "norm": st.sampled_from(["none", "batch", "group"]),
            "image_size": st.none() | st.lists(st.integers(8, 33), min_size=2, max_size=2),
            "hidden": st.lists(widths, max_size=2),
        },
        "resnet": {
            "in_channels": st.integers(1, 4),
            "depth": st.sampled_from([10, 18, 34, 50]),
            "width": st.sampled_from([8, 16]),
            "norm": st.sampled_from(["batch", "group"]),
        },
        "transformer": {
            "vocab_size": widths,
            "max_length": widths,
            "d_model": st.sampled_from([4, 8]),
            "num_heads": st.sampled_from([1, 2, 4]),
            "num_layers": st.integers(1, 3),
            "dim_feedforward": widths,
            "norm_first": st.booleans(),
        },
    }
    name = data.draw(st.sampled_from(sorted(configs)))
    drawn = data.draw(st.fixed_dictionaries({**configs[name], "num_classes": st.integers(1, 12)}))
    config = architecture.validate_python({"name": name, "config": drawn}).config
    with torch.device("meta"):
        network = build(name, config.model_dump())
    assert sum(p.numel() for p in network.parameters()) == config.num_parameters
