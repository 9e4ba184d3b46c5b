"""Accepts what an optimizer carries at a checkpoint: for each parameter, a tensor of its shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from worker.influence.networks import ExpectedTensors, TensorSpec
from worker.loading.checkpoint import Kind, accept
from worker.loading.errors import LoadError, at, pointer
from worker.loading.source import Block
from worker.loading.tensors import Tensor

STATE = ("momentum_buffer", "exp_avg", "exp_avg_sq")
SQUARES = "exp_avg_sq"
OPTIMIZER = Kind(
    "optimizer file",
    "safetensors.torch.save_file({f'exp_avg_sq.{name}': …}, path), a tensor for each parameter",
    "Name them momentum_buffer.<tensor>, exp_avg.<tensor> and exp_avg_sq.<tensor>, for each of the network's "
    "parameters.",
    "training had diverged by then. Leave it out, or use a checkpoint from before.",
)


def load_optimizer_state(path: Path, expected: ExpectedTensors, out_path: Path) -> list[str]:
    """Accepts the safetensors file in `path` and writes it to `out_path`, floating tensors of one dtype.

    Args:
        path: a stranger's file of tensors `<state>.<parameter>`, of their parameter's shape.
        out_path: where to write; nothing is left there if the file is refused.

    Returns:
        Which of the states it holds, each for all parameters.

    Raises:
        LoadError: the file is refused; `errors` names every tensor at fault.
    """
    held: list[str] = []

    def wanted(tensors: Mapping[str, Tensor]) -> dict[str, TensorSpec]:
        held.extend(state for state in STATE if any(name.startswith(f"{state}.") for name in tensors))
        if not held:
            raise LoadError("missing_array", f"The optimizer file holds no optimizer state. {OPTIMIZER.hint}")
        return {f"{state}.{name}": spec for state in held for name, spec in expected.parameters.items()}

    def square(name: str, block: Block) -> None:
        if name.startswith(f"{SQUARES}.") and (block < 0).any():
            raise LoadError(
                "out_of_range",
                f"The optimizer file has negative values in {name}: means of squares are 0 or more.",
                [at(pointer(name), "has negative values")],
            )

    tied = {f"{state}.{name}": f"{state}.{kept}" for state in STATE for name, kept in expected.tied.items()}
    accept(path, wanted, out_path, OPTIMIZER, square, tied)
    return held
