"""The methods a job may ask for: their options, what they need and what they cost.

Symbols as in `worker/influence/README.md`: G_z the gradient of one sample's loss, H_B the Hessian of the mean
loss of a batch, L_V the query loss, η_t the learning rate of step t, N the training set's size, m the number
of checkpoints. Costs are counted in forward passes of one sample: a gradient or a directional derivative
counts 3, a Hessian-vector product 9, a mixed second directional derivative 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator

from app.catalog.base import Strict, refusal

GRADIENT, DIRECTIONAL, HVP, MIXED = 3, 3, 9, 8
BATCH = 64  # where a trajectory does not say its batch size

HARMFUL = "positive = harmful: having this sample in training raised the query loss"


class Options(Strict):
    """Options stand flat beside the method's `name`."""

    @property
    def needs_query(self) -> bool:
        """Whether a job with these options wants a query data set."""
        return True

    def options(self) -> dict[str, Any]:
        """The keyword arguments of the engine's functions."""
        return self.model_dump(exclude={"name"})

    def per_sample(self, num_train: int, batch_size: int) -> int:
        """Forward passes that one training sample takes at one checkpoint."""
        return DIRECTIONAL

    def shared(self, num_train: int, num_query: int, batch_size: int, *, last: bool) -> int:
        """Forward passes at one checkpoint for what all samples share; `last`: at the last checkpoint."""
        return 0

    def cost(
        self, num_train: int, num_query: int, num_checkpoints: int, batch_size: int | None = None
    ) -> int:
        """Forward passes of one sample that a job takes, all told; exactly what its progress counts up to."""
        batch = batch_size or BATCH
        shared = [
            self.shared(num_train, num_query, batch, last=k == num_checkpoints - 1)
            for k in range(num_checkpoints)
        ]
        return num_checkpoints * num_train * self.per_sample(num_train, batch) + sum(shared)


class DiffIn(Options):
    name: Literal["diff_in"]
    resolution: Literal["segments", "steps", "tail"] = Field(
        "segments",
        description="Which states the recursion is summed over: `segments`, the checkpoints, each standing "
        "for its steps. `steps` (every step, exact membership) and `tail` are not available yet.",
    )
    tail: float = Field(
        0.25, gt=0, le=1, description="Share of the last steps taken exactly (resolution `tail`)."
    )
    checkpoint_position: Literal["end", "middle"] = Field(
        "middle",
        description="Where in its segment a checkpoint stands: `end`, for the steps since the one before; "
        "`middle`, for the steps nearer to it than to its neighbours.",
    )
    curvature: Literal["hessian", "ggn"] = Field(
        "hessian", description="C_k of a segment: the Hessian, or the generalized Gauss-Newton matrix."
    )
    hessian_samples: int | None = Field(
        1000,
        ge=1,
        le=10_000_000,
        description="Training samples C_k is averaged over, drawn by the seed; null: all.",
    )
    lanczos_steps: int = Field(10, ge=1, le=1000, description="Krylov dimension of φ(C_k)w and ψ(C_k)w.")
    clamp: bool = Field(
        True, description="Clamp each factor to 0 ≤ 1 - ηλ ≤ 1; unclamped polynomials explode."
    )
    hvp: Literal["exact", "finite_difference"] = Field(
        "exact",
        description="Curvature products by automatic differentiation, or by finite differences of gradients.",
    )
    epsilon: float = Field(
        1e-3,
        gt=0,
        le=1,
        description="Step of the finite differences; unsafe with ReLU, max-pooling and bf16.",
    )

    @field_validator("resolution")
    @classmethod
    def _offered(cls, resolution: str) -> str:
        if resolution != "segments":
            raise refusal(
                f"resolution '{resolution}' is not available yet: leave it out or give 'segments', which "
                "needs only the checkpoints."
            )
        return resolution

    def shared(self, num_train: int, num_query: int, batch_size: int, *, last: bool) -> int:
        sample = min(self.hessian_samples or num_train, num_train)
        return self.lanczos_steps * HVP * sample + (GRADIENT * num_query if last else 0)


class DiffInEq9(Options):
    name: Literal["diff_in_eq9"]
    batch: Literal["random", "full"] = Field(
        "random",
        description="B_t: a batch drawn by the seed (of the trajectory's batch_size), or all samples.",
    )
    batches_per_checkpoint: int = Field(
        1, ge=1, le=1000, description="Random batches averaged at each checkpoint."
    )
    hvp: Literal["exact", "finite_difference"] = Field(
        "exact",
        description="By automatic differentiation, or finite differences as the authors' code has it.",
    )
    epsilon: float = Field(
        1e-3,
        gt=0,
        le=1,
        description="Step of the finite differences; unsafe with ReLU, max-pooling and bf16.",
    )
    target: Literal["query", "self"] = Field(
        "query", description="V: the query data set, or the sample itself (self-influence, as published)."
    )

    @property
    def needs_query(self) -> bool:
        return self.target == "query"

    def per_sample(self, num_train: int, batch_size: int) -> int:
        if self.target == "self":  # each sample's own gradient, and its products over the batch
            return GRADIENT + MIXED * self._batch(num_train, batch_size)
        return MIXED

    def shared(self, num_train: int, num_query: int, batch_size: int, *, last: bool) -> int:
        batch = self._batch(num_train, batch_size)
        if self.target == "self":
            return GRADIENT * batch
        return GRADIENT * num_query + (GRADIENT + HVP) * batch

    def _batch(self, num_train: int, batch_size: int) -> int:
        return num_train if self.batch == "full" else min(batch_size, num_train) * self.batches_per_checkpoint


class TracIn(Options):
    name: Literal["tracin"]

    def shared(self, num_train: int, num_query: int, batch_size: int, *, last: bool) -> int:
        return GRADIENT * num_query


class Loss(Options):
    name: Literal["loss"]
    which: Literal["mean", "last"] = Field(
        "mean", description="Over all checkpoints, or at the last one only."
    )

    @property
    def needs_query(self) -> bool:
        return False

    def per_sample(self, num_train: int, batch_size: int) -> int:
        return 1


Method = Annotated[DiffIn | DiffInEq9 | TracIn | Loss, Field(discriminator="name")]


@dataclass(frozen=True)
class MethodEntry:
    """What `GET /v1/methods` says of a method beside the schema of its options."""

    options: type[Options]
    title: str
    description: str
    needs_query: bool
    needs: tuple[str, ...]
    passes_per_sample: float
    curvature: str
    sign: str = HARMFUL

    @property
    def name(self) -> str:
        return str(get_args(self.options.model_fields["name"].annotation)[0])

    def listing(self) -> dict[str, Any]:
        """The entry as JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "needs_query": self.needs_query,
            "needs": list(self.needs),
            "cost": {
                "unit": "forward passes of one sample",
                "per_sample_per_checkpoint": self.passes_per_sample,
                "curvature": self.curvature,
            },
            "sign": self.sign,
            "schema": self.options.model_json_schema(),
        }


_ENTRIES = (
    MethodEntry(
        DiffIn,
        "Diff-In, the recursion summed whole",
        "harmful(z) = -⟨∇L_V(θ_T), I_T⟩ with I_{t+1} = I_t + (η_t/N) G_z(θ_t) - η_t H I_t, summed "
        "backwards over the segments between checkpoints: s = φ(C_k)w, harmful(z) -= ⟨G_z(θ_k), s⟩/N, w ← "
        "ψ(C_k)w by Lanczos, w starting as ∇L_V(θ_T).",
        needs_query=True,
        needs=("checkpoints", "learning_rates", "query"),
        passes_per_sample=DIRECTIONAL,
        curvature="lanczos_steps Hessian-vector products over hessian_samples samples a checkpoint",
    ),
    MethodEntry(
        DiffInEq9,
        "Diff-In, the published closed form",
        "I(z,V) = Σ_t a_t ⟨∇L_V(θ_t), H_B G_z + H_z G_B⟩ over the m checkpoints, a_t = -t η_t²/(N m), t "
        "the checkpoint's step: to the letter, for reproduction.",
        needs_query=True,
        needs=(
            "checkpoints",
            "learning_rates",
            "query unless target is self",
            "batch_size unless batch is full",
        ),
        passes_per_sample=MIXED,
        curvature="one Hessian-vector product over the batch a checkpoint; target self: one for each sample",
        sign=f"{HARMFUL}; target `self` is given as published: the most negative are the most suspicious",
    ),
    MethodEntry(
        TracIn,
        "TracIn",
        "harmful(z) = -Σ_k (Σ η of segment k)/N · ⟨∇L_V(θ_k), G_z(θ_k)⟩: the first-order part alone.",
        needs_query=True,
        needs=("checkpoints", "learning_rates", "query"),
        passes_per_sample=DIRECTIONAL,
        curvature="none",
    ),
    MethodEntry(
        Loss,
        "Training loss",
        "The sample's loss, over the checkpoints or at the last: the best cheap score for wrong labels.",
        needs_query=False,
        needs=("checkpoints",),
        passes_per_sample=1,
        curvature="none",
        sign="higher = more suspicious: the loss itself, not a change of the query loss",
    ),
)
METHODS: dict[str, MethodEntry] = {entry.name: entry for entry in _ENTRIES}


def list_methods() -> list[dict[str, Any]]:
    """The body of `GET /v1/methods`: every method with the JSON schema of its options."""
    return [entry.listing() for entry in METHODS.values()]
