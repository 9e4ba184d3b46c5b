"""What the engine refuses to hand out or cannot do."""

from __future__ import annotations

import torch


class NonFiniteError(ArithmeticError):
    """A loss, a vector or a score is NaN or infinite.

    Attributes:
        what: what is not finite, in words.
        step: the checkpoint's optimizer step.
        row: the sample's row in the training set; None for a vector that all samples share.
    """

    def __init__(self, what: str, step: int, row: int | None = None) -> None:
        where = f"at the checkpoint of step {step}" + ("" if row is None else f", sample {row}")
        super().__init__(f"{what} is not finite {where}")
        self.what, self.step, self.row = what, step, row

    def shifted(self, rows: int) -> NonFiniteError:
        """The same error with its row counted from `rows` rows before the chunk it was found in."""
        return NonFiniteError(self.what, self.step, None if self.row is None else self.row + rows)


class DivergedError(ArithmeticError):
    """Training left the finite numbers; `step` is the first whose loss was not finite, counted from 0."""

    def __init__(self, step: int) -> None:
        super().__init__(f"The loss is not finite at step {step}")
        self.step = step


class SampleTooLargeError(RuntimeError):
    """Not even a chunk of one sample fits into memory."""


def ensure_finite_rows(what: str, step: int, values: torch.Tensor) -> None:
    """Raises NonFiniteError with the first row of `values` [B] that is NaN or infinite."""
    bad = ~torch.isfinite(values)
    if bad.any():
        raise NonFiniteError(what, step, int(bad.nonzero()[0, 0]))


def ensure_finite_vector(what: str, step: int, vector: dict[str, torch.Tensor]) -> None:
    """Raises NonFiniteError, without a row, when a tensor of `vector` holds NaN or infinity."""
    if not all(bool(torch.isfinite(part).all()) for part in vector.values()):
        raise NonFiniteError(what, step)
