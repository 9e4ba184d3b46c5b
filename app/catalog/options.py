"""What the options of all methods share, and how the cost of a method is counted.

Costs are counted in forward passes of one sample: a gradient or a directional derivative counts 3, a
Hessian-vector product 9, a mixed second directional derivative 8, a Kronecker product of curvature two
gradients and two passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator

from app.catalog.base import Strict, refusal
from app.catalog.footprint import Beside, Shapes

GRADIENT, DIRECTIONAL, HVP, MIXED = 3, 3, 9, 8
KRONECKER = 2 * (1 + GRADIENT)
BATCH = 64  # where a trajectory does not say its batch size

Pattern = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


@dataclass(frozen=True)
class Extent:
    """How much there is to do for one trajectory: what a method's cost follows from.

    Attributes:
        steps: of each checkpoint, ascending.
        ordered: whether it is known which samples each step's batch held.
    """

    num_train: int
    num_query: int
    steps: tuple[int, ...]
    batch_size: int = BATCH
    ordered: bool = False

    @property
    def last(self) -> int:
        """The last checkpoint's number."""
        return len(self.steps) - 1

    def steps_of(self, k: int, since: int = 0) -> int:
        """Steps between checkpoint k and the one before, as far as they come after step `since`."""
        before, step = list(pairwise([0, *self.steps]))[k]
        return max(0, step - max(before, since))


class Parameters(Strict):
    """Which of the network's tensors influence is measured on; the others are held fixed."""

    include: list[Pattern] = Field(
        ["*"], min_length=1, max_length=100, description="Globs over tensor names, such as `layers.1.*`."
    )
    exclude: list[Pattern] = Field([], max_length=100, description="Globs over those to leave out again.")

    def of(self, names: Sequence[str]) -> list[str]:
        """The names that are included and not excluded."""

        def any_of(patterns: list[str], name: str) -> bool:
            return any(fnmatchcase(name, pattern) for pattern in patterns)

        return [name for name in names if any_of(self.include, name) and not any_of(self.exclude, name)]


class Options(Strict):
    """Options stand flat beside the method's `name`.

    Attributes:
        vectors: as long as the parameters, that the work at a checkpoint takes whatever the options are: two
            checkpoints, and what derivatives make on the way (measured, `tests/influence/test_footprint.py`).
    """

    vectors: ClassVar[int] = 16

    @property
    def needs_query(self) -> bool:
        """Whether a job with these options wants a query data set."""
        return True

    @property
    def needs_order(self) -> bool:
        """Whether the scores are exact only where the batch order is known."""
        return False

    @property
    def repeats(self) -> int:
        """How often the scores are computed, each time with other draws."""
        return getattr(self, "uncertainty", None) or 1

    @property
    def by_query(self) -> bool:
        """Whether each query sample gets scores of its own."""
        return bool(getattr(self, "per_query", False))

    @property
    def takes_samples_alone(self) -> bool:
        """Whether the method is one of single samples, whose losses may not depend on others."""
        return self.by_query

    @property
    def forms_gradients(self) -> bool:
        """Whether a worker forms gradients of single samples, many at a time."""
        return False

    def options(self) -> dict[str, Any]:
        """The keyword arguments of the engine's functions."""
        return self.model_dump(exclude={"name", "parameters", "uncertainty", "per_query", "top_k"})

    def draws(self, extent: Extent) -> bool:
        """Whether anything in the scores is left to chance, so that repeating them tells something."""
        return False

    def per_sample(self, extent: Extent, k: int) -> int:
        """Forward passes that one training sample takes at checkpoint k."""
        return DIRECTIONAL

    def shared(self, extent: Extent, k: int) -> int:
        """Forward passes at checkpoint k for what all samples share."""
        return 0

    def beside(self, extent: Extent, shapes: Shapes) -> Beside:
        """What the work at a checkpoint holds beside a chunk of samples, over parameters of these shapes.

        The few vectors that any method takes are not among it.
        """
        return Beside()

    def cost(self, extent: Extent) -> int:
        """Forward passes of one sample that one trajectory takes, all told, once."""
        return sum(
            extent.num_train * self.per_sample(extent, k) + self.shared(extent, k)
            for k in range(len(extent.steps))
        )


class Restrictable(Options):
    """Options of methods that follow gradients."""

    parameters: Parameters | None = Field(
        None, description="Measure influence on some tensors only: a last layer, adapters. null: on all."
    )


class Repeatable(Restrictable):
    """Options of methods whose scores depend on a draw."""

    uncertainty: int | None = Field(
        None,
        ge=2,
        le=16,
        description="Repeat this often with other draws: the score is the mean, and each row gets a "
        "`standard_error`. It multiplies the cost.",
    )


class PerQuery(Options):
    """Options of methods that may answer for each query sample."""

    per_query: bool = Field(
        False, description="One score a query sample too: opponents and proponents of each, and a matrix."
    )
    top_k: int = Field(100, ge=1, le=1000, description="How many of each are kept, with per_query.")

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if self.per_query and self.repeats > 1:
            raise refusal("per_query and uncertainty do not go together: ask for one of them.")
        return self

    def queries(self, extent: Extent) -> int:
        """How many vectors are carried through the run: one, or one a query sample."""
        return max(1, extent.num_query) if self.per_query else 1
