"""What options make a method hold in memory beside a chunk of samples, by the shapes of the parameters it is
measured on."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

Shapes = Sequence[Sequence[int]]

FLOAT, DOUBLE = 4, 8  # bytes of a number: of vectors, and of a Kronecker product's factors
MOST_SIDE = 2048  # rows or columns of a tensor that a Kronecker product has a basis of


class Beside(NamedTuple):
    """What is held beside a chunk: so many bytes, of what, and what to ask for to have it lighter."""

    bytes: int = 0
    what: str = ""
    mend: str = ""

    def too_heavy(self, most: int) -> str | None:
        """Why that is more than `most` bytes, in words; None where it is not."""
        if self.bytes <= most:
            return None
        return (
            f"{self.what} take {megabytes(self.bytes)}, and DIFFIN_MEMORY_BYTES grants a worker "
            f"{megabytes(most)}: {self.mend}, measure influence on some tensors only (method.parameters), or "
            "have the operator grant more."
        )


def krylov(shapes: Shapes, steps: int) -> Beside:
    """The basis of a Krylov space; it has no more dimensions than there are parameters."""
    size = count(shapes)
    kept = min(steps, size)
    what = f"The {kept:,} vectors of {size:,} numbers that lanczos_steps asks for"
    return Beside(FLOAT * size * kept, what, f"lower lanczos_steps ({megabytes(FLOAT * size)} each)")


def kronecker(shapes: Shapes, others: str) -> Beside:
    """A Kronecker product for each tensor: bases of its sides, and its eigenvalues.

    Args:
        others: the curvatures that take less, in words.
    """
    sides = [side for shape in shapes for side in _sides(shape) if 1 < side <= MOST_SIDE]
    size = DOUBLE * (sum(side**2 for side in sides) + count(shapes))
    return Beside(
        size, "The factors of a Kronecker product over these tensors", f"ask for curvature {others}"
    )


def count(shapes: Shapes) -> int:
    """Numbers in tensors of these shapes."""
    return sum(prod(shape) for shape in shapes)


def megabytes(size: int) -> str:
    """A number of bytes as people read it."""
    return f"{max(0.1, size / 1e6):,.1f} MB"


def _sides(shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns: the first dimension against the rest."""
    return (shape[0], prod(shape[1:])) if shape else (1, 1)
