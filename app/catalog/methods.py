"""The methods a job may ask for: their options and what they cost (`listing.py` describes them).

Symbols as in `worker/influence/README.md`: G_z the gradient of one sample's loss, H_B the Hessian of the mean
loss of a batch, L_V the query loss, η_t the learning rate of step t, N the training set's size, m the number
of checkpoints.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from app.catalog.footprint import Beside, Shapes, kronecker, krylov
from app.catalog.options import (
    DIRECTIONAL,
    GRADIENT,
    HVP,
    KRONECKER,
    MIXED,
    Extent,
    Options,
    PerQuery,
    Repeatable,
    Restrictable,
)

Samples = Annotated[int, Field(ge=1, le=10_000_000)]
Products = Literal["exact", "finite_difference"]
Epsilon = Annotated[float, Field(gt=0, le=1)]
EPSILON = "Step of the finite differences; unsafe with ReLU, max-pooling and bf16."


class DiffIn(Repeatable, PerQuery):
    name: Literal["diff_in"]
    resolution: Literal["segments", "steps", "tail"] = Field(
        "segments",
        description="Which states the recursion is summed over: `segments`, the checkpoints, each standing "
        "for its steps; `steps`, every step, replayed from the checkpoints with the batches it had; `tail`, "
        "the last steps so and segments before. Without the batch order all three are segments.",
    )
    tail: float = Field(
        0.25, gt=0, le=1, description="Share of the last steps taken exactly (resolution `tail`)."
    )
    checkpoint_position: Literal["end", "middle"] = Field(
        "middle",
        description="Where in its segment a checkpoint stands: `end`, for the steps since the one before; "
        "`middle`, for the steps nearer to it than to its neighbours.",
    )
    curvature: Literal["hessian", "ggn", "kronecker"] = Field(
        "hessian",
        description="C_k of a segment: the Hessian, the generalized Gauss-Newton matrix, or that one as an "
        "eigenvalue-corrected Kronecker product for each tensor: the same cost for any number of queries.",
    )
    hessian_samples: Samples | None = Field(
        1000, description="Training samples C_k is averaged over, drawn by the seed; null: all."
    )
    lanczos_steps: int = Field(10, ge=1, le=1000, description="Krylov dimension of φ(C_k)w and ψ(C_k)w.")
    clamp: bool = Field(
        True, description="Clamp each factor to 0 ≤ 1 - ηλ ≤ 1; unclamped polynomials explode."
    )
    hvp: Products = Field(
        "exact",
        description="Curvature products by automatic differentiation, or by finite differences of gradients.",
    )
    epsilon: Epsilon = Field(1e-3, description=EPSILON)

    @property
    def needs_order(self) -> bool:
        return self.resolution != "segments"

    @property
    def forms_gradients(self) -> bool:
        return self.curvature == "kronecker"

    def draws(self, extent: Extent) -> bool:
        few = self.hessian_samples is not None and self.hessian_samples < extent.num_train
        drawn = few or self.curvature == "kronecker"
        return drawn and any(self._averaged(extent, k) for k in range(len(extent.steps)))

    def per_sample(self, extent: Extent, k: int) -> int:
        # the sweep over single steps has the scores already: what is left is the loss
        return self.queries(extent) * (DIRECTIONAL if self._averaged(extent, k) else 1)

    def shared(self, extent: Extent, k: int) -> int:
        start, passes = self._start(extent), GRADIENT * extent.num_query if k == extent.last else 0
        if start is not None:
            batches = extent.steps_of(k, since=start) * extent.batch_size
            passes += self.queries(extent) * batches * (GRADIENT + HVP)
        if self._averaged(extent, k):
            curvature = min(self.hessian_samples or extent.num_train, extent.num_train)
            if self.curvature == "kronecker":
                passes += KRONECKER * curvature
            else:
                passes += self.queries(extent) * self.lanczos_steps * HVP * curvature
        return passes

    def beside(self, extent: Extent, shapes: Shapes) -> Beside:
        if not any(self._averaged(extent, k) for k in range(len(extent.steps))):
            return Beside()
        if self.curvature == "kronecker":
            return kronecker(shapes, "hessian or ggn")
        return krylov(shapes, self.lanczos_steps)

    def _start(self, extent: Extent) -> int | None:
        """The step from which all are taken one by one; None where none is."""
        first, last = extent.steps[0], extent.steps[-1]
        if not (self.needs_order and extent.ordered) or first == last:
            return None
        return max(first, last - round(self.tail * last)) if self.resolution == "tail" else first

    def _averaged(self, extent: Extent, k: int) -> bool:
        """Whether checkpoint k stands for steps that are not taken one by one."""
        start, steps = self._start(extent), extent.steps
        if start is None:
            return True
        bounds = [0, *steps]
        if self.checkpoint_position == "middle":
            bounds = [0, *((a + b) // 2 for a, b in pairwise(steps)), steps[-1]]
        return bounds[k] < min(bounds[k + 1], start)


class DiffInEq9(Repeatable):
    name: Literal["diff_in_eq9"]
    batch: Literal["random", "full"] = Field(
        "random",
        description="B_t: a batch drawn by the seed (of the trajectory's batch_size), or all samples.",
    )
    batches_per_checkpoint: int = Field(
        1, ge=1, le=1000, description="Random batches averaged at each checkpoint."
    )
    hvp: Products = Field(
        "exact",
        description="By automatic differentiation, or finite differences as the authors' code has it.",
    )
    epsilon: Epsilon = Field(1e-3, description=EPSILON)
    target: Literal["query", "self"] = Field(
        "query", description="V: the query data set, or the sample itself (self-influence, as published)."
    )

    @property
    def needs_query(self) -> bool:
        return self.target == "query"

    @property
    def takes_samples_alone(self) -> bool:
        return self.target == "self"

    @property
    def forms_gradients(self) -> bool:
        return self.target == "self"

    def draws(self, extent: Extent) -> bool:
        return self._batch(extent) < extent.num_train

    def per_sample(self, extent: Extent, k: int) -> int:
        if self.target == "self":  # each sample's own gradient, and its products over the batch
            return GRADIENT + MIXED * self._batch(extent)
        return MIXED

    def shared(self, extent: Extent, k: int) -> int:
        batch = self._batch(extent)
        if self.target == "self":
            return GRADIENT * batch
        return GRADIENT * extent.num_query + (GRADIENT + HVP) * batch

    def _batch(self, extent: Extent) -> int:
        if self.batch == "full":
            return extent.num_train
        return min(extent.batch_size, extent.num_train) * self.batches_per_checkpoint


class TracIn(Restrictable, PerQuery):
    vectors: ClassVar[int] = 8

    name: Literal["tracin"]

    def per_sample(self, extent: Extent, k: int) -> int:
        return DIRECTIONAL * self.queries(extent)

    def shared(self, extent: Extent, k: int) -> int:
        return GRADIENT * extent.num_query


class InfluenceFunction(Repeatable, PerQuery):
    name: Literal["influence_function"]
    checkpoints: Literal["last", "all"] = Field(
        "last",
        description="Where it is taken: at the last checkpoint, or the mean over all that were trained, "
        "which tells better what to expect of such a run.",
    )
    curvature: Literal["ggn", "kronecker"] = Field(
        "ggn",
        description="C: the generalized Gauss-Newton matrix, or that one as an eigenvalue-corrected "
        "Kronecker product for each tensor: no iterations, and the same cost for any number of queries.",
    )
    damping: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Added to the matrix's diagonal before it is inverted; null: 0.01, with `kronecker` a "
        "thousandth of each tensor's mean eigenvalue.",
    )
    cg_steps: int = Field(100, ge=1, le=10_000, description="Of conjugate gradients, at most.")
    hessian_samples: Samples | None = Field(
        1000, description="Training samples the matrix is averaged over, drawn by the seed; null: all."
    )

    @property
    def forms_gradients(self) -> bool:
        return self.curvature == "kronecker"

    def draws(self, extent: Extent) -> bool:
        few = self.hessian_samples is not None and self.hessian_samples < extent.num_train
        return few or self.curvature == "kronecker"

    def per_sample(self, extent: Extent, k: int) -> int:
        return DIRECTIONAL * self.queries(extent) if self._counts(extent, k) else 1

    def shared(self, extent: Extent, k: int) -> int:
        if not self._counts(extent, k):
            return 0
        curvature = min(self.hessian_samples or extent.num_train, extent.num_train)
        if self.curvature == "kronecker":
            return GRADIENT * extent.num_query + KRONECKER * curvature
        return GRADIENT * extent.num_query + self.queries(extent) * self.cg_steps * HVP * curvature

    def beside(self, extent: Extent, shapes: Shapes) -> Beside:
        return kronecker(shapes, "ggn") if self.curvature == "kronecker" else Beside()

    def _counts(self, extent: Extent, k: int) -> bool:
        """Whether checkpoint k takes part."""
        return k == extent.last or (self.checkpoints == "all" and extent.steps[k] > 0)


class WithoutQuery(Options):
    """Suspicion of a sample from itself alone."""

    vectors: ClassVar[int] = 4

    @property
    def needs_query(self) -> bool:
        return False


class SelfInfluence(WithoutQuery, Restrictable):
    name: Literal["self_influence"]

    @property
    def takes_samples_alone(self) -> bool:
        return True

    @property
    def forms_gradients(self) -> bool:
        return True

    def per_sample(self, extent: Extent, k: int) -> int:
        return GRADIENT + 1  # a gradient of its own, and the loss of the chunk


class GradNorm(WithoutQuery, Restrictable):
    name: Literal["grad_norm"]

    @property
    def takes_samples_alone(self) -> bool:
        return True

    @property
    def forms_gradients(self) -> bool:
        return True

    def per_sample(self, extent: Extent, k: int) -> int:
        return GRADIENT + 1


class El2n(WithoutQuery):
    name: Literal["el2n"]

    def per_sample(self, extent: Extent, k: int) -> int:
        return 1


class Loss(WithoutQuery):
    name: Literal["loss"]
    which: Literal["mean", "last"] = Field(
        "mean", description="Over all checkpoints, or at the last one only."
    )

    def per_sample(self, extent: Extent, k: int) -> int:
        return 1


Method = Annotated[
    DiffIn | DiffInEq9 | TracIn | InfluenceFunction | SelfInfluence | GradNorm | El2n | Loss,
    Field(discriminator="name"),
]
