"""torch's optimizers as the service takes them: what they are, and what they carry from step to step."""

from __future__ import annotations

from typing import TypeVar

import torch

from diffin.models import Json

UNSUPPORTED = ("nesterov", "dampening", "maximize", "amsgrad")
CARRIED = {"sgd": ("momentum_buffer",), "adam": ("exp_avg", "exp_avg_sq"), "adamw": ("exp_avg", "exp_avg_sq")}
WRAPPERS = ("_orig_mod.", "module.")  # torch.compile's and DistributedDataParallel's

Named = TypeVar("Named", bound=torch.Tensor)


def described(optimizer: torch.optim.Optimizer) -> Json:
    """The `optimizer` of a trajectory: {name, weight_decay, momentum | betas, eps}.

    Raises:
        ValueError: it is none of SGD, Adam and AdamW, takes steps the service does not know, or has groups of
            parameters with options of their own.
    """
    groups = [{key: v for key, v in group.items() if key != "params"} for group in optimizer.param_groups]
    options = groups[0]
    if any(group != options for group in groups):
        raise ValueError("the optimizer's groups of parameters differ in their options: describe it by hand")
    odd = [name for name in UNSUPPORTED if options.get(name)]
    if odd:
        raise ValueError(f"the service knows no optimizer with {', '.join(odd)}")
    decay = {"weight_decay": float(options.get("weight_decay", 0.0))}
    if isinstance(optimizer, torch.optim.SGD):
        return {"name": "sgd", "momentum": float(options["momentum"]), **decay}
    if isinstance(optimizer, torch.optim.Adam | torch.optim.AdamW):
        decoupled = isinstance(optimizer, torch.optim.AdamW) or options.get("decoupled_weight_decay")
        betas = [float(beta) for beta in options["betas"]]
        return {
            "name": "adamw" if decoupled else "adam",
            "betas": betas,
            "eps": float(options["eps"]),
            **decay,
        }
    raise ValueError(f"the service knows torch's SGD, Adam and AdamW, not {type(optimizer).__name__}")


def carried(optimizer: torch.optim.Optimizer, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """What the optimizer carries into the next step, as `<state>.<parameter>`; empty for plain SGD.

    A parameter that had no step yet carries zeros.
    """
    told = described(optimizer)
    kinds = () if told["name"] == "sgd" and not told["momentum"] else CARRIED[told["name"]]
    found = {}
    for name, parameter in unwrapped(dict(model.named_parameters())).items():
        state = optimizer.state.get(parameter, {})
        for kind in kinds:
            value = state.get(kind)
            value = torch.zeros_like(parameter) if value is None else value
            found[f"{kind}.{name}"] = on_cpu(value)
    return found


def unwrapped(named: dict[str, Named]) -> dict[str, Named]:
    """The same by the names that they have inside torch's wrappers."""
    for prefix in WRAPPERS:
        if named and all(name.startswith(prefix) for name in named):
            named = {name.removeprefix(prefix): value for name, value in named.items()}
    return named


def on_cpu(tensor: torch.Tensor) -> torch.Tensor:
    """A contiguous copy."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
