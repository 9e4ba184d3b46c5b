"""What a selection is asked for."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from app.api.resources import INT64, NO_NUL, Body, Metadata, Name, Notes
from app.catalog.base import refusal

By = Literal["suspicion", "score"]
KeptBy = Literal["coverage", "influence", "harm", "random"]
Size = Annotated[int, Field(ge=1, le=INT64)]
Fraction = Annotated[float, Field(gt=0, le=1)]

CLEAN: dict[str, Any] = {"type": "clean", "fraction": 0.05, "name": "worst twentieth"}
CORESET: dict[str, Any] = {"type": "coreset", "fraction": 0.3, "stratify": True}
DELETION: dict[str, Any] = {"type": "deletion", "sample_indices": [17, 31337], "verify": True}
DECIDED: dict[str, Any] = {"type": "decided", "name": "looked at by hand"}


class SelectionBody(Body):
    """What may be said of a selection of any type."""

    name: Name = ""
    notes: Notes = ""
    metadata: Metadata = Field({})


class Verified(SelectionBody):
    """What is trained again to see what a selection really changes."""

    verify: bool = Field(
        False,
        description="Train by the trajectory's recipe with all samples and with what the selection leaves, "
        "and tell what really changed.",
    )
    seeds: int = Field(
        5, ge=2, le=15, description="Of batch orders (and initial weights): runs on each side of `verify`."
    )


class CleanIn(Verified):
    """Which samples to remove or relabel. Give one of `auto`, `size`, `fraction` and `threshold`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                CLEAN,
                {"type": "clean", "auto": True},
                {"type": "clean", "threshold": 0.0005, "by": "score"},
            ]
        }
    )

    type: Literal["clean"]
    auto: Literal[True] | None = Field(
        None,
        description="As many as there are wrong labels, estimated from how the run's first checkpoints "
        "contradict the labels (docs/decisions/0020). Labels wrong by a pattern are underestimated.",
    )
    rounds: Literal[1, 2] | None = Field(
        None,
        description="Of `auto`: 2 suspects more samples than labels are wrong, trains once more by the "
        "trajectory's recipe without them, but twice as long and on images that are moved a little (and "
        "mirrored where that means nothing), and lets that run decide about each; 1 takes the first run's "
        "word. Left out: 2 where the trajectory has a recipe that can be followed.",
    )
    size: Size | None = Field(None, description="So many, the worst.")
    fraction: Fraction | None = Field(None, description="This share of all, the worst.")
    threshold: float | None = Field(None, description="All with at least so much of `by`.")
    by: By | None = Field(
        None,
        description="`suspicion` finds wrong labels, `score` what harms the query loss. Left out: `score` "
        "with a threshold, else `suspicion` where the job has it.",
    )
    relabel: bool = Field(
        True,
        description="Propose another label where the model is surer of it than not; else only removal.",
    )

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        _one_of(self, "auto", "size", "fraction", "threshold")
        if self.rounds is not None and not self.auto:
            raise refusal("rounds is of auto.")
        return self


class CoresetIn(Verified):
    """Which samples to keep. Give `size` or `fraction`."""

    model_config = ConfigDict(json_schema_extra={"examples": [CORESET]})

    type: Literal["coreset"]
    size: Size | None = Field(None, description="Keep so many.")
    fraction: Fraction | None = Field(None, description="Keep this share.")
    by: KeptBy | None = Field(
        None,
        description="`coverage`: those that stand for the others of their class, by what the run's "
        "checkpoints took each for (up to 200,000 samples); `influence`: drawn, the likelier the more a "
        "sample matters to the query loss, either way (by the square root of |score|); `harm`: those that "
        "harm it least; `random`: drawn, each as likely. Draws follow the job's seed. Left out: `coverage` "
        "where targets are classes and samples no more than that, else `influence`.",
    )
    stratify: bool | None = Field(
        None,
        description="Keep classes in proportion, and of rare ones more: each gets at least half an equal "
        "share, or all it has. Left out: where targets are classes.",
    )
    drop_suspects: bool | None = Field(
        None,
        description="Let the labels that look wrong go before all others, as many as `clean` estimates with "
        "`auto`. Left out: of `coverage` and `influence`, where the job has suspicion and targets are "
        "classes.",
    )
    diversity: bool = Field(
        False,
        description="Of samples whose inputs are all but the same, keep the first chosen before the others "
        "(up to 200,000 samples).",
    )

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        _one_of(self, "size", "fraction")
        return self


class DeletionIn(Verified):
    """What removing these samples would do. Give `sample_indices` or `sample_ids`."""

    model_config = ConfigDict(json_schema_extra={"examples": [DELETION]})

    type: Literal["deletion"]
    sample_indices: list[Annotated[int, Field(ge=0, le=INT64)]] | None = Field(None, min_length=1)
    sample_ids: list[Annotated[str, StringConstraints(pattern=NO_NUL)]] | None = Field(None, min_length=1)

    checkpoint: bool | None = Field(
        None,
        description="Whether to update the last checkpoint by the samples' influence on it "
        "(GET …/checkpoint). Left out: where that can be done.",
    )
    resolution: Literal["segments", "tail", "steps"] | None = Field(
        None,
        description="Of that influence, as `diff_in` has it. Left out: the job's own, or segments.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        _one_of(self, "sample_indices", "sample_ids")
        for name in ("sample_indices", "sample_ids"):
            given = getattr(self, name)
            if given is not None and len(set(given)) < len(given):
                raise refusal(f"a sample stands more than once in {name}.")
        return self


class DecidedIn(Verified):
    """What the caller decided (`PUT …/decisions`), as it is now: what to remove and relabel."""

    model_config = ConfigDict(json_schema_extra={"examples": [DECIDED]})

    type: Literal["decided"]


NewSelection = Annotated[CleanIn | CoresetIn | DeletionIn | DecidedIn, Field(discriminator="type")]


def _one_of(body: Body, *names: str) -> None:
    """Raises unless exactly one of these fields is given."""
    given = [name for name in names if getattr(body, name) is not None]
    if len(given) != 1:
        told = f"{' and '.join(given)} are given" if given else "none is given"
        raise refusal(f"give one of {', '.join(names)}: {told}.")
