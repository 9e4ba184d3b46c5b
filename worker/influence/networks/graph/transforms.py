"""Which of torch's function transforms one is in: torch 2.13 has no public way to ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch._C._functorch import TransformType, get_interpreter_stack
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack


@contextmanager
def outside_transforms() -> Iterator[None]:
    """Makes tensors that outlive the transforms one is in, and no gradients."""
    with temporarily_clear_interpreter_stack(), torch.inference_mode(False), torch.no_grad():
        yield


def nested_forward_mode() -> bool:
    """Whether a torch.func.jvp is within another."""
    stack = get_interpreter_stack()
    return stack is not None and sum(level.key() == TransformType.Jvp for level in stack) > 1
