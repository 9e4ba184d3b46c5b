"""The configs of the registered networks; `worker/influence/networks/` builds them under the same names."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from app.catalog.base import Strict, refusal
from app.catalog.shapes import Shape, check_features, check_image, check_tokens
from app.catalog.training import Task

MAX_PARAMETERS = 1_000_000_000

Width = Annotated[int, Field(ge=1, le=1_000_000)]
Channels = Annotated[int, Field(ge=1, le=16_384)]
Activation = Literal["gelu", "relu", "tanh"]
ACTIVATION = "Between the layers; `gelu` is the exact one (erf)."


class Config(Strict):
    """A network's config. `inputs` says how samples are given to it."""

    inputs: ClassVar[Literal["features", "image", "tokens"]]

    @property
    def num_outputs(self) -> int:
        """Of one sample."""
        raise NotImplementedError

    @property
    def num_parameters(self) -> int:
        """Trained values of the network, buffers not counted."""
        raise NotImplementedError

    @property
    def num_features(self) -> int:
        """Values of a sample that the last layer takes."""
        raise NotImplementedError

    def check_input(
        self, shape: Shape, dtype: str, maximum: int | None = None, minimum: int | None = None
    ) -> str | None:
        """What is wrong with samples of this canonical shape and dtype, integers within [minimum, maximum].

        None if nothing is."""
        raise NotImplementedError

    def check_task(self, task: Task) -> str | None:
        """What is wrong with the network's outputs for this task; None if nothing is."""
        if task.type == "contrastive":
            return "task 'contrastive' wants a network of two inputs and two outputs, such as 'two_tower'."
        return None

    def check_targets(
        self, task: Task, shape: Shape, dtype: str, minimum: float | None, maximum: float | None
    ) -> str | None:
        """What is wrong with targets of this shape (of one sample), dtype and range; None if nothing is."""
        return task.check_targets(shape, dtype, minimum, maximum, self.num_outputs)

    @model_validator(mode="after")
    def _of_sane_size(self) -> Self:
        if self.num_parameters > MAX_PARAMETERS:
            raise refusal(
                f"the network would have {self.num_parameters:,} parameters; {MAX_PARAMETERS:,} at most."
            )
        return self


class Registered(Config):
    """The config of a network of ours."""

    num_classes: int = Field(
        ge=1, le=1_000_000, description="Number of outputs: 1 for binary, any for regression."
    )

    @property
    def num_outputs(self) -> int:
        return self.num_classes


def _dense(widths: list[int]) -> int:
    return sum((a + 1) * b for a, b in pairwise(widths))


def _grouped(channels: list[int], groups: int) -> None:
    uneven = [c for c in channels if c % groups]
    if uneven:
        raise refusal(f"norm 'group' wants channels divisible by groups = {groups}; {uneven} are not.")


class MlpConfig(Registered):
    inputs = "features"

    in_features: Width = Field(description="Values in a sample, flattened.")
    hidden: list[Width] = Field([], max_length=64, description="Widths of the hidden layers.")
    activation: Activation = Field("gelu", description=ACTIVATION)

    @property
    def num_parameters(self) -> int:
        return _dense([self.in_features, *self.hidden, self.num_classes])

    @property
    def num_features(self) -> int:
        return [self.in_features, *self.hidden][-1]

    def check_input(
        self, shape: Shape, dtype: str, maximum: int | None = None, minimum: int | None = None
    ) -> str | None:
        return check_features(self.in_features, shape)


class LinearConfig(MlpConfig):
    hidden: list[Width] = Field([], max_length=0, description="Always empty: `mlp` has hidden layers.")
    activation: Activation = Field(
        "gelu",
        description="Has no effect: there is one layer. Taken because `mlp` takes it.",
        json_schema_extra={"deprecated": True},  # forms leave it out
    )


class CnnConfig(Registered):
    inputs = "image"

    in_channels: Channels = Field(description="Channels of the images.")
    channels: list[Channels] = Field([16, 32], min_length=1, max_length=12, description="Of each stage.")
    kernel_size: Literal[1, 3, 5, 7, 9, 11] = Field(
        3, description="Of the convolutions; padded to keep the size."
    )
    activation: Activation = Field("gelu", description=ACTIVATION)
    pool: Literal["max", "avg"] = Field("max", description="2 x 2 pooling that ends each stage.")
    norm: Literal["none", "batch", "group"] = Field("none", description="After each convolution.")
    groups: int = Field(8, ge=1, le=4096, description="Groups of norm `group`.")
    image_size: list[Annotated[int, Field(ge=1, le=4096)]] | None = Field(
        None,
        min_length=2,
        max_length=2,
        description="[height, width], which lets the head see them flattened; null: their global average.",
    )
    hidden: list[Width] = Field([], max_length=16, description="Widths of the head's hidden layers.")

    @property
    def num_parameters(self) -> int:
        stages = sum(self.kernel_size**2 * a * b + b for a, b in pairwise([self.in_channels, *self.channels]))
        norms = 0 if self.norm == "none" else 2 * sum(self.channels)
        return stages + norms + _dense([self._flattened, *self.hidden, self.num_classes])

    @property
    def num_features(self) -> int:
        return [self._flattened, *self.hidden][-1]

    @property
    def _flattened(self) -> int:
        """Values that the head takes."""
        cells = prod(n >> len(self.channels) for n in self.image_size) if self.image_size else 1
        return self.channels[-1] * cells

    def check_input(
        self, shape: Shape, dtype: str, maximum: int | None = None, minimum: int | None = None
    ) -> str | None:
        return check_image(self.in_channels, self.image_size, 2 ** len(self.channels), shape, dtype)

    @model_validator(mode="after")
    def _builds(self) -> Self:
        if self.norm == "group":
            _grouped(self.channels, self.groups)
        if self.image_size and min(self.image_size) < 2 ** len(self.channels):
            raise refusal(
                f"image_size is halved {len(self.channels)} times; {self.image_size} is too small for that."
            )
        return self


class ResnetConfig(Registered):
    inputs = "image"
    blocks: ClassVar[dict[int, tuple[list[int], int]]] = {
        10: ([1, 1, 1, 1], 1),
        18: ([2, 2, 2, 2], 1),
        34: ([3, 4, 6, 3], 1),
        50: ([3, 4, 6, 3], 4),
    }

    in_channels: Channels = Field(3, description="Channels of the images.")
    depth: Literal[10, 18, 34, 50] = Field(18, description="10, 18, 34: basic blocks; 50: bottlenecks.")
    width: int = Field(
        64, ge=1, le=1024, description="Channels of the first stage; doubled in each of the next three."
    )
    norm: Literal["batch", "group"] = Field("batch", description="After each convolution.")
    groups: int = Field(8, ge=1, le=1024, description="Groups of norm `group`.")
    activation: Activation = Field("relu", description=ACTIVATION)

    @property
    def num_parameters(self) -> int:
        depths, expansion = self.blocks[self.depth]
        total, planes = 9 * self.in_channels * self.width + 2 * self.width, self.width
        for stage, repeats in enumerate(depths):
            width = self.width << stage
            out = width * expansion
            for block in range(repeats):
                kernels = [(9, planes, width), (9, width, out)]
                if expansion > 1:
                    kernels = [(1, planes, width), (9, width, width), (1, width, out)]
                if block == 0 and (stage > 0 or planes != out):
                    kernels.append((1, planes, out))
                total += sum(k * a * b + 2 * b for k, a, b in kernels)
                planes = out
        return total + _dense([self.num_features, self.num_classes])

    @property
    def num_features(self) -> int:
        return (self.width << 3) * self.blocks[self.depth][1]

    def check_input(
        self, shape: Shape, dtype: str, maximum: int | None = None, minimum: int | None = None
    ) -> str | None:
        return check_image(self.in_channels, None, 1, shape, dtype)

    @model_validator(mode="after")
    def _builds(self) -> Self:
        if self.norm == "group":
            _grouped([self.width], self.groups)
        return self


class TransformerConfig(Registered):
    inputs = "tokens"

    vocab_size: int = Field(ge=1, le=10_000_000, description="Token ids are 0 to vocab_size - 1.")
    max_length: int = Field(ge=1, le=65_536, description="Positions that have an embedding.")
    d_model: int = Field(
        128, ge=1, le=16_384, description="Width of the residual stream; divisible by num_heads."
    )
    num_heads: int = Field(4, ge=1, le=256, description="Attention heads.")
    num_layers: int = Field(2, ge=1, le=128, description="Encoder layers.")
    dim_feedforward: int = Field(512, ge=1, le=65_536, description="Hidden width of the feed-forward blocks.")
    activation: Activation = Field("gelu", description=ACTIVATION)
    pad_id: int | None = Field(
        0, ge=0, description="Token left out of attention and of the mean; null: none is."
    )
    norm_first: bool = Field(False, description="Norms before the blocks, and one after the last layer.")

    @property
    def num_parameters(self) -> int:
        d = self.d_model
        layer = 4 * d * (d + 1) + _dense([d, self.dim_feedforward, d]) + 4 * d
        last_norm = 2 * d if self.norm_first else 0
        embeddings = (self.vocab_size + self.max_length) * d
        return embeddings + self.num_layers * layer + last_norm + _dense([d, self.num_classes])

    @property
    def num_features(self) -> int:
        return self.d_model

    def check_input(
        self, shape: Shape, dtype: str, maximum: int | None = None, minimum: int | None = None
    ) -> str | None:
        return check_tokens(self.vocab_size, self.max_length, shape, dtype, maximum, minimum)

    @model_validator(mode="after")
    def _builds(self) -> Self:
        if self.d_model % self.num_heads:
            raise refusal(f"d_model {self.d_model} is not divisible by num_heads {self.num_heads}.")
        if self.pad_id is not None and self.pad_id >= self.vocab_size:
            raise refusal(f"pad_id {self.pad_id} is not below vocab_size {self.vocab_size}.")
        return self
