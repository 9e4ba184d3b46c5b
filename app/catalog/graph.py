"""Networks that come as a graph (ONNX), none of their code: what a worker read of one, held against data."""

from __future__ import annotations

from math import prod
from typing import Any, Literal

from pydantic import ConfigDict, Field

from app.catalog.base import Strict
from app.catalog.shapes import INTEGERS, Shape, image_shape, words
from app.catalog.training import Task

ONNX = "onnx"
IMAGE_RANK = 4  # [B, C, H, W]
LOGITS_RANK = 3  # of a language model: [B, L, V]
EXPORT = (
    "torch.onnx.export(model.eval(), (inputs,), 'network.onnx', dynamo=True, optimize=False, "
    "external_data=False, dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))"
)


class Onnx(Strict):
    """A network as a graph: the request brings it as the part `architecture_file`."""

    name: Literal["onnx"]
    config: dict[str, Any] = Field(
        {},
        max_length=0,
        description="To be left out: it is read from the graph, and shown once that is ready.",
    )


class Port(Strict):
    """A tensor that goes in or comes out. Of its `shape` the first is the batch; null: any size."""

    name: str
    shape: list[int | None]
    dtype: str
    vocab_size: int | None = Field(
        None,
        exclude_if=lambda size: size is None,
        description="Rows of the embedding that an input beside the first is looked up in.",
    )

    @property
    def sample(self) -> tuple[int | None, ...]:
        """The shape of one sample's part."""
        return tuple(self.shape[1:])


class OnnxConfig(Strict):
    """What a worker read of a graph."""

    model_config = ConfigDict(validate_by_name=True)

    takes: list[Port] = Field(alias="inputs", min_length=1, description="What goes in.")
    gives: list[Port] = Field(alias="outputs", min_length=1, description="What comes out.")
    operators: list[str] = Field(description="ONNX's names of those that it is made of.")
    opset: int = Field(description="The version of ONNX's operators.")
    num_parameters: int = Field(description="Trained values, buffers not counted.")
    vocab_size: int | None = Field(
        None, description="Rows of the embedding that the first input is looked up in."
    )
    structure: str = Field(description="Digest of all but the values of parameters and buffers.")

    @property
    def inputs(self) -> Literal["features", "image", "tokens"]:
        """What a sample is to the network: whole numbers are token ids, and [C, H, W] is an image."""
        first = self.takes[0]
        if not first.dtype.startswith("float"):
            return "tokens"
        return "image" if len(first.shape) == IMAGE_RANK else "features"

    def check_input(
        self, shape: Shape, dtype: str, maximum: int | None = None, minimum: int | None = None
    ) -> str | None:
        """What is wrong with samples of this canonical shape and dtype, integers within [minimum, maximum];
        None if nothing is."""
        first = self.takes[0]
        if self.inputs == "tokens":
            return _check_tokens(first, self.vocab_size, shape, dtype, maximum, minimum)
        image = self.inputs == "image" or dtype == "uint8"
        return _check_shape(first, (image_shape(shape, dtype) if image else None) or shape)

    def check_task(self, task: Task) -> str | None:
        """What is wrong with the network's inputs and outputs for this task; None if nothing is."""
        first = self.gives[0]
        if task.type == "contrastive":
            return self._check_pairs()
        if len(self.takes) > 1 or len(self.gives) > 1:
            return (
                f"{task.type} wants one input and one output; the graph takes {len(self.takes)} and gives "
                f"{len(self.gives)}: export a module that takes the inputs and returns the outputs alone."
            )
        if task.type == "classification" and len(first.shape) != 2:
            return (
                f"classification wants outputs of [batch, num_classes]; the graph's output {first.name!r} is "
                f"{_free(tuple(first.shape))}."
            )
        if task.type == "causal_lm" and len(first.shape) != LOGITS_RANK:
            return (
                f"causal_lm wants outputs of [batch, tokens, vocabulary]; the graph's output {first.name!r} "
                f"is {_free(tuple(first.shape))}."
            )
        return None

    def _check_pairs(self) -> str | None:
        """What keeps the network from matching inputs with targets; None if nothing does."""
        shapes = [one.shape for one in self.gives]
        wanted = (
            "contrastive wants a graph that takes a sample's inputs and its targets (token ids), and gives "
            "embeddings [batch, d] of each and the scale of their products, a single number"
        )
        if len(self.takes) != 2 or len(shapes) != 3:
            return f"{wanted}; this one takes {len(self.takes)} and gives {len(shapes)}."
        if self.takes[1].dtype.startswith("float"):
            return f"{wanted}; this one's second input {self.takes[1].name!r} is {self.takes[1].dtype}."
        of_inputs, of_targets, scale = shapes
        if len(of_inputs) != 2 or of_inputs != of_targets or scale not in ([], [1]):
            given = ", ".join(_free(tuple(shape)) for shape in shapes)
            return f"{wanted}; this one gives {given}."
        return None

    def check_targets(
        self, task: Task, shape: Shape, dtype: str, minimum: float | None, maximum: float | None
    ) -> str | None:
        """What is wrong with targets of this shape (of one sample), dtype and range; None if nothing is."""
        if task.type == "contrastive":
            second = self.takes[1]
            wrong = _check_tokens(second, second.vocab_size, shape, dtype, maximum, minimum)
            return f"its targets are the network's second input, but {wrong}" if wrong else None
        given = self.gives[0].sample
        given = given[-1:] if task.type == "causal_lm" else given
        known = [size for size in given if size is not None]
        if len(known) < len(given):  # free, so that only the values themselves can tell
            return None
        outputs = prod(known)
        if task.type != "classification" and shape == given:
            shape = (outputs,)
        return task.check_targets(shape, dtype, minimum, maximum, outputs)


def _check_tokens(
    port: Port, vocabulary: int | None, shape: Shape, dtype: str, maximum: float | None, minimum: float | None
) -> str | None:
    if dtype not in INTEGERS:
        return f"samples are {dtype}; the network's input {port.name!r} takes token ids (integers)."
    if wrong := _check_shape(port, shape):
        return wrong
    if minimum is not None and minimum < 0:
        return f"token ids go down to {minimum:g}; they must be 0 or more."
    if vocabulary is not None and maximum is not None and maximum >= vocabulary:
        return f"token ids go up to {maximum:g}, but the embedding has {vocabulary} rows (ids from 0)."
    return None


def _check_shape(port: Port, given: Shape) -> str | None:
    if _fits(given, port.sample):
        return None
    return (
        f"samples are given to the network as {words(given)}; its input {port.name!r} takes "
        f"{_free(port.sample)}."
    )


def _fits(shape: Shape, wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(b in (None, a) for a, b in zip(shape, wanted, strict=True))


def _free(shape: tuple[int | None, ...]) -> str:
    return " x ".join("any" if size is None else str(size) for size in shape) or "a single number"
