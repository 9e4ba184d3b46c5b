"""Vectors in parameter space: named tensors as one flat vector, and back."""

from __future__ import annotations

import torch

from worker.influence.task import Tensors


def flatten(tensors: Tensors) -> torch.Tensor:
    """[P], the tensors one after another in the dictionary's order."""
    return torch.cat([part.reshape(-1) for part in tensors.values()])


def unflatten(vector: torch.Tensor, like: Tensors) -> Tensors:
    """The inverse of `flatten`: pieces of `vector` [P] with the names, shapes and dtypes of `like`."""
    sizes = [part.numel() for part in like.values()]
    pieces = torch.split(vector, sizes)
    return {
        name: piece.reshape(part.shape).to(part.dtype)
        for (name, part), piece in zip(like.items(), pieces, strict=True)
    }


def combine(a: Tensors, scale: float | torch.Tensor, b: Tensors) -> Tensors:
    """a + scale·b."""
    return {name: part + scale * b[name] for name, part in a.items()}


def norm(a: Tensors) -> torch.Tensor:
    """‖a‖, a scalar tensor."""
    return torch.stack([(part * part).sum() for part in a.values()]).sum().sqrt()
