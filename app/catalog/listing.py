"""What `GET /v1/methods` says of the methods: what they compute, what they need, what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

from app.catalog.methods import (
    DiffIn,
    DiffInEq9,
    El2n,
    GradNorm,
    InfluenceFunction,
    Loss,
    SelfInfluence,
    TracIn,
)
from app.catalog.options import DIRECTIONAL, GRADIENT, MIXED, Options

HARMFUL = "positive = harmful: having this sample in training raised the query loss"
SUSPICIOUS = "higher = more suspicious: {}, not a change of the query loss"


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
        "ψ(C_k)w by Lanczos, w starting as ∇L_V(θ_T). Resolution `steps` goes over every step instead, with "
        "the batch that it had.",
        needs_query=True,
        needs=(
            "checkpoints",
            "learning_rates",
            "query",
            "batch order (a file, or the recipe's seed) for resolution steps and tail to be exact",
            "optimizer_file with exp_avg_sq where the optimizer is adam or adamw",
        ),
        passes_per_sample=DIRECTIONAL,
        curvature="lanczos_steps Hessian-vector products over hessian_samples samples a checkpoint; taken "
        "step by step: a replayed gradient and a Hessian-vector product over each batch",
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
        InfluenceFunction,
        "Influence function",
        "harmful(z) = -⟨G_z(θ), (C + damping)⁻¹ ∇L_V(θ)⟩/N with the Gauss-Newton matrix C, by conjugate "
        "gradients or as a Kronecker product, at the last checkpoint or the mean over all.",
        needs_query=True,
        needs=("one checkpoint", "query"),
        passes_per_sample=DIRECTIONAL,
        curvature="cg_steps Gauss-Newton products over hessian_samples samples at each checkpoint that takes "
        "part; kronecker: two passes of their gradients",
    ),
    MethodEntry(
        SelfInfluence,
        "Self-influence",
        "Σ_k (Σ η of segment k)/N · |G_z(θ_k)|²: what the sample's own steps took off its own loss (TracIn).",
        needs_query=False,
        needs=("checkpoints", "learning_rates"),
        passes_per_sample=GRADIENT + 1,
        curvature="none",
        sign=SUSPICIOUS.format("what a sample did to its own loss"),
    ),
    MethodEntry(
        GradNorm,
        "Gradient norm",
        "The length of the sample's gradient, over the checkpoints.",
        needs_query=False,
        needs=("checkpoints",),
        passes_per_sample=GRADIENT + 1,
        curvature="none",
        sign=SUSPICIOUS.format("a length"),
    ),
    MethodEntry(
        El2n,
        "EL2N",
        "The length of the error of the predicted probabilities, over the checkpoints.",
        needs_query=False,
        needs=("checkpoints",),
        passes_per_sample=1,
        curvature="none",
        sign=SUSPICIOUS.format("a length"),
    ),
    MethodEntry(
        Loss,
        "Training loss",
        "The sample's loss, over the checkpoints or at the last: the best cheap score for wrong labels.",
        needs_query=False,
        needs=("checkpoints",),
        passes_per_sample=1,
        curvature="none",
        sign=SUSPICIOUS.format("the loss itself"),
    ),
)
METHODS: dict[str, MethodEntry] = {entry.name: entry for entry in _ENTRIES}


def list_methods() -> list[dict[str, Any]]:
    """The body of `GET /v1/methods`: every method with the JSON schema of its options."""
    return [entry.listing() for entry in METHODS.values()]
