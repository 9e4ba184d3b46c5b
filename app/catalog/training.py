"""How the network was trained: its task, what was done to its inputs, and the optimizer."""

from __future__ import annotations

from math import cos, pi
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from app.catalog.base import Strict, refusal
from app.catalog.shapes import INTEGERS, Shape, image_shape, words

MOST_PAIRS = 65_536  # in a group: its similarities are their square
LOSS_OF = {
    "classification": "cross_entropy",
    "binary": "bce_with_logits",
    "regression": "mse",
    "causal_lm": "cross_entropy",
    "contrastive": "clip",
}


class Task(Strict):
    """What the outputs mean, and the loss they were trained with (its mean over the batch).

    `causal_lm` tells each token from those before it; a sample's loss is the mean over its tokens.
    `contrastive` tells which caption (its token ids are the targets) belongs to which image of a group.
    """

    type: Literal["classification", "binary", "regression", "causal_lm", "contrastive"]
    loss: Literal["cross_entropy", "bce_with_logits", "mse", "clip"]
    group_size: int | None = Field(
        None,
        ge=2,
        le=MOST_PAIRS,
        exclude_if=lambda size: size is None,
        description="Of contrastive: how many pairs are told apart from one another, those that follow one "
        "another in the data set; the last group may be shorter. Left out: the trajectory's batch_size.",
    )

    @model_validator(mode="after")
    def _a_pair(self) -> Self:
        if self.loss != LOSS_OF[self.type]:
            raise refusal(f"the loss of task '{self.type}' is '{LOSS_OF[self.type]}', not '{self.loss}'.")
        if self.group_size is not None and self.type != "contrastive":
            raise refusal(f"group_size belongs to task 'contrastive', not to '{self.type}'.")
        return self

    def check_targets(
        self, shape: Shape, dtype: str, minimum: float | None, maximum: float | None, num_outputs: int
    ) -> str | None:
        """What is wrong with targets of this shape (of one sample), dtype and range for a network of
        `num_outputs` outputs; None if nothing."""
        if self.type == "classification":
            if shape or dtype not in INTEGERS:
                return f"classification wants one integer label a sample, not {words(shape)} of {dtype}."
            if minimum is not None and minimum < 0:
                return f"labels go down to {minimum:g}; they must be 0 to num_classes - 1."
            if maximum is not None and maximum >= num_outputs:
                return f"labels go up to {maximum:g}; num_classes is {num_outputs}, and labels count from 0."
            return None
        if self.type == "causal_lm":
            return _check_tokens_told(shape, dtype, maximum, num_outputs)
        fits = shape in ((num_outputs,), (num_outputs, 1)) or (num_outputs == 1 and shape in ((), (1,)))
        if not fits:
            return (
                f"targets are {words(shape)} a sample; the network's num_classes (outputs) is {num_outputs}."
            )
        if self.type == "binary" and ((minimum or 0) < 0 or (maximum or 0) > 1):
            return f"binary targets must lie within 0 and 1; these go from {minimum:g} to {maximum:g}."
        return None


def _check_tokens_told(shape: Shape, dtype: str, maximum: float | None, vocabulary: int) -> str | None:
    if len(shape) != 1 or dtype not in INTEGERS:
        return (
            f"causal_lm wants the samples' token ids [N, L] as targets, or none at all, not {words(shape)} "
            f"of {dtype}."
        )
    if maximum is not None and maximum >= vocabulary:
        return f"targets go up to {maximum:g}; vocab_size is {vocabulary}, and token ids count from 0."
    return None


Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
MOST_RATE = 1e30  # beyond it, steps leave what float32 can hold before anything is computed
Rate = Annotated[float, Field(gt=0, le=MOST_RATE, allow_inf_nan=False)]


class Preprocessing(Strict):
    """(x · scale − mean) / std, by channel. Without `scale`, uint8 is divided by 255 and the rest is left."""

    scale: Positive | None = Field(
        None, description="Multiplies the inputs; null: 1/255 for uint8, 1 otherwise."
    )
    mean: list[Finite] = Field([], max_length=16_384, description="One a channel, or one for all.")
    std: list[Positive] = Field([], max_length=16_384, description="One a channel, or one for all.")

    @property
    def empty(self) -> bool:
        return self.scale is None and not self.mean and not self.std

    def check_input(
        self, inputs: Literal["features", "image", "tokens"], shape: Shape, dtype: str
    ) -> str | None:
        """What is wrong with preprocessing samples of this canonical shape and dtype so; None if nothing."""
        if inputs == "tokens":
            return None if self.empty else "token ids take no preprocessing: leave out scale, mean and std."
        image = image_shape(shape, dtype) if inputs == "image" or dtype == "uint8" else None
        channels = (image or shape or (1,))[0]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (0, 1, channels):
                return f"preprocessing.{name} has {len(values)} values for samples of {channels} channel(s)."
        return None


class Optimizer(Strict):
    """The optimizer whose steps the learning rates belong to."""

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: float = Field(0.0, ge=0, lt=1, description="Of sgd, without dampening.")
    weight_decay: float = Field(
        0.0, ge=0, le=10, description="In the gradient (sgd, adam) or decoupled (adamw)."
    )
    betas: list[Annotated[float, Field(ge=0, lt=1)]] | None = Field(
        None, min_length=2, max_length=2, description="Of adam and adamw; null: [0.9, 0.999]."
    )
    eps: Positive | None = Field(None, description="Of adam and adamw; null: 1e-8.")

    @property
    def decoupled(self) -> bool:
        """Whether weight decay acts on the parameters and not through the gradient."""
        return self.name == "adamw"

    @model_validator(mode="after")
    def _of_its_own(self) -> Self:
        if self.name == "sgd" and (self.betas is not None or self.eps is not None):
            raise refusal("betas and eps belong to adam and adamw, not to sgd.")
        if self.name != "sgd" and self.momentum:
            raise refusal(f"momentum belongs to sgd; {self.name} has betas.")
        return self


class Constant(Strict):
    """One learning rate throughout."""

    name: Literal["constant"]
    learning_rate: Rate

    def rate(self, step: int, total: int) -> float:
        """η of `step`, counted from 0, of `total`."""
        return self.learning_rate


class Falling(Strict):
    """From `learning_rate` down to `min_learning_rate`, after a linear warm-up."""

    learning_rate: Rate
    min_learning_rate: Annotated[float, Field(ge=0, le=MOST_RATE)] = 0.0
    warmup_steps: Annotated[int, Field(ge=0)] = 0

    def rate(self, step: int, total: int) -> float:
        """η of `step`, counted from 0, of `total`: η(t + 1)/w in the w steps of the warm-up, then down."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        height = self._height((step - self.warmup_steps) / (total - self.warmup_steps))
        return self.min_learning_rate + (self.learning_rate - self.min_learning_rate) * height

    def _height(self, share: float) -> float:
        """From 1 to 0 as the `share` of the steps after the warm-up that are done goes from 0 to 1."""
        raise NotImplementedError


class Cosine(Falling):
    """From `learning_rate` down to `min_learning_rate` over half a cosine, after a linear warm-up."""

    name: Literal["cosine"]

    def _height(self, share: float) -> float:
        return (1 + cos(pi * share)) / 2


class Linear(Falling):
    """From `learning_rate` down to `min_learning_rate` on a line, after a linear warm-up."""

    name: Literal["linear"]

    def _height(self, share: float) -> float:
        return 1 - share


class StepDecay(Strict):
    """`learning_rate`, times `gamma` every `step_size` steps."""

    name: Literal["step"]
    learning_rate: Rate
    step_size: Annotated[int, Field(ge=1)]
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1

    def rate(self, step: int, total: int) -> float:
        """η of `step`, counted from 0."""
        return self.learning_rate * self.gamma ** (step // self.step_size)


LearningRates = Annotated[Constant | Cosine | Linear | StepDecay, Field(discriminator="name")]


class Recipe(Strict):
    """How to train the run again: what jobs that retrain follow. Its seed also tells the batch order."""

    optimizer: Optimizer | None = Field(None, description="null: the trajectory's own, or plain SGD.")
    schedule: LearningRates | None = Field(
        None, description="The learning rate over the steps; null: as the checkpoints' learning rates say."
    )
    batch_size: Annotated[int, Field(ge=1, le=2**31 - 1)]
    epochs: Annotated[int, Field(ge=1)] | None = None
    total_steps: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = Field(
        None,
        description="Of `DataLoader(shuffle=True, generator=torch.Generator().manual_seed(seed))`: the batch "
        "order follows from it where no file says it. null: unknown.",
    )
    drop_last: bool = Field(False, description="Whether an epoch's last batch is left out when it is short.")
    augmentation: Literal["none"] = "none"

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if (self.epochs is None) == (self.total_steps is None):
            raise refusal("give epochs or total_steps, one of them.")
        return self

    def steps_per_epoch(self, num_train: int) -> int:
        """Batches that so many training samples give; 0 where they give none."""
        return num_train // self.batch_size if self.drop_last else -(-num_train // self.batch_size)

    def steps(self, num_train: int) -> int:
        """Optimizer steps on so many training samples; 0 where they give no batch."""
        per_epoch = self.steps_per_epoch(num_train)
        if self.total_steps is not None:
            return self.total_steps if per_epoch else 0
        return (self.epochs or 0) * per_epoch

    def samples(self, num_train: int) -> int:
        """Samples in all batches together."""
        per_epoch = self.steps_per_epoch(num_train)
        epochs, rest = divmod(self.steps(num_train), max(1, per_epoch))
        whole = per_epoch * self.batch_size if self.drop_last else num_train
        return epochs * whole + rest * min(self.batch_size, num_train)

    def rates(self, total: int) -> list[float] | None:
        """η of each of `total` steps; None where the schedule is left to the checkpoints."""
        schedule = self.schedule
        return None if schedule is None else [schedule.rate(step, total) for step in range(total)]
