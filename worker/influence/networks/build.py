"""From a name and a config to a network, and the tensors a checkpoint of it holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from torch import nn

from worker.influence.networks.cnn import Cnn
from worker.influence.networks.mlp import Mlp
from worker.influence.networks.resnet import Resnet
from worker.influence.networks.transformer import Transformer
from worker.influence.networks.two_tower import TwoTower

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "linear": Mlp,
    "mlp": Mlp,
    "cnn": Cnn,
    "resnet": Resnet,
    "transformer": Transformer,
    "two_tower": TwoTower,
}


def build(name: str, config: Mapping[str, Any]) -> nn.Module:
    """The network `name` with `config` as keyword arguments, in evaluation mode: a sample's loss must not
    depend on its batch. Under `torch.device("meta")` it takes no memory, for `torch.func.functional_call` to
    fill.

    Raises:
        KeyError: no network has this name.
        TypeError: the config lacks a key, or has one too many.
    """
    return NETWORKS[name](**config).eval()


class TensorSpec(NamedTuple):
    """What a checkpoint's tensor must look like; `dtype` is torch's name for it, e.g. "float32"."""

    shape: tuple[int, ...]
    dtype: str
    optional: bool = False


class ExpectedTensors(NamedTuple):
    """A network's tensors by their names in its state_dict; those that are tied once: `tied` tells what else
    they are called: {other name: name}."""

    parameters: dict[str, TensorSpec]
    buffers: dict[str, TensorSpec]
    tied: Mapping[str, str] = MappingProxyType({})


def expected_tensors(network: nn.Module) -> ExpectedTensors:
    """The tensors a checkpoint of `network` holds.

    BatchNorm's `num_batches_tracked` may be left out: evaluation mode does not use it.
    """
    first = {parameter: name for name, parameter in network.named_parameters()}
    tied = {
        name: first[parameter]
        for name, parameter in network.named_parameters(remove_duplicate=False)
        if first[parameter] != name
    }
    specs = {
        name: TensorSpec(
            tuple(t.shape), str(t.dtype).removeprefix("torch."), name.endswith("num_batches_tracked")
        )
        for name, t in network.state_dict().items()
        if name not in tied
    }
    parameters = set(first.values())
    return ExpectedTensors(
        {name: spec for name, spec in specs.items() if name in parameters},
        {name: spec for name, spec in specs.items() if name not in parameters},
        tied,
    )
