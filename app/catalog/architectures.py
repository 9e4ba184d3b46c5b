"""The networks there are: the union a request is checked against, and what `GET /v1/architectures` lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from app.catalog.base import Strict, refusal
from app.catalog.configs import (
    CnnConfig,
    Config,
    LinearConfig,
    MlpConfig,
    ResnetConfig,
    TransformerConfig,
)
from app.catalog.graph import EXPORT, ONNX, Onnx, OnnxConfig
from app.catalog.language_models import FAMILIES, PREFIX, DistilBert, Family, Gpt2, GptNeo, Roberta, Standard
from app.catalog.operators import OPERATORS, OPSETS
from app.catalog.training import MOST_PAIRS, Task
from app.catalog.two_tower import TwoTowerConfig


class Linear(Strict):
    name: Literal["linear"]
    config: LinearConfig


class Mlp(Strict):
    name: Literal["mlp"]
    config: MlpConfig


class Cnn(Strict):
    name: Literal["cnn"]
    config: CnnConfig


class Resnet(Strict):
    name: Literal["resnet"]
    config: ResnetConfig


class Transformer(Strict):
    name: Literal["transformer"]
    config: TransformerConfig


class TwoTower(Strict):
    name: Literal["two_tower"]
    config: TwoTowerConfig


Architecture = Annotated[
    Linear
    | Mlp
    | Cnn
    | Resnet
    | Transformer
    | Onnx
    | Standard
    | Roberta
    | Gpt2
    | GptNeo
    | DistilBert
    | TwoTower,
    Field(discriminator="name"),
]
_ARCHITECTURE: TypeAdapter[Any] = TypeAdapter(Architecture)


def config_of(architecture: Mapping[str, Any]) -> Config | OnnxConfig:
    """The config of a trajectory's `architecture`, as it is kept: of a graph, what a worker read of it."""
    if architecture["name"] == ONNX:
        return OnnxConfig.model_validate(architecture["config"])
    config: Config = _ARCHITECTURE.validate_python(architecture).config
    return config


def task_of(network: Any, task: Task, batch_size: int | None) -> Task:
    """The task, with its groups' size where it has groups.

    Args:
        network: of `Architecture`.

    Raises:
        PydanticCustomError: the network does not answer what the task asks, or the size is not known.
    """
    wrong = network.config.check_task(task) if isinstance(network.config, Config) else None
    if wrong:
        raise refusal(wrong)
    if task.type != "contrastive" or task.group_size is not None:
        return task
    if batch_size is None or not 1 < batch_size <= MOST_PAIRS:
        raise refusal(
            "task 'contrastive' tells a pair from the others of its group: give task.group_size, the pairs "
            f"in a batch (2 to {MOST_PAIRS:,}), or such a batch_size."
        )
    return task.model_copy(update={"group_size": batch_size})


@dataclass(frozen=True)
class ArchitectureEntry:
    """What `GET /v1/architectures` says of a network beside the schema of its config."""

    name: str
    config: type[Config]
    title: str
    description: str
    tensors: str

    def listing(self) -> dict[str, Any]:
        """The entry as JSON."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputs": self.config.inputs,
            "tensors": self.tensors,
            "schema": self.config.model_json_schema(),
        }


_ENTRIES = (
    ArchitectureEntry(
        "linear", LinearConfig, "Linear", "Flatten, then one linear layer: logistic or linear regression.",
        "layers.0.weight|bias",
    ),
    ArchitectureEntry(
        "mlp", MlpConfig, "Multilayer perceptron", "Flatten, then linear layers with an activation between.",
        "layers.{i}.weight|bias, the last one the output",
    ),
    ArchitectureEntry(
        "cnn", CnnConfig, "Convolutional network",
        "Stages of convolution, norm, activation and 2 x 2 pooling; then global average or flatten, and "
        "linear layers with an activation between.",
        "convs.{i}.weight|bias; with a norm norms.{i}.weight|bias and, for batch, norms.{i}.running_mean|"
        "running_var; layers.{i}.weight|bias of the head, the last one the output",
    ),
    ArchitectureEntry(
        "resnet", ResnetConfig, "Residual network",
        "ResNet with the stem of small images (3 x 3, stride 1, no pooling), four stages, global average.",
        "as torchvision's resnet: conv1, bn1, layer{1-4}.{i}.conv{j}|bn{j}|downsample.{0,1}, fc",
    ),
    ArchitectureEntry(
        "transformer", TransformerConfig, "Transformer encoder",
        "Token and position embeddings, encoder layers, mean over the tokens not padding, linear output.",
        "embedding.weight, position.weight, encoder.layers.{i}.* as torch.nn.TransformerEncoder's, "
        "encoder.norm.* with norm_first, head.weight|bias",
    ),
    ArchitectureEntry(
        "two_tower", TwoTowerConfig, "Two encoders, compared",
        "An image and a text encoder, each a network above without its outputs, a projection of each, and a "
        "learnt scale, as in CLIP: inputs are images, targets the token ids of their captions.",
        "image.* and text.* as those networks', without the outputs' layer; image_projection.weight, "
        "text_projection.weight [embedding_dim, …], logit_scale []",
    ),
)  # fmt: skip


def _language_model(family: Family) -> ArchitectureEntry:
    kind = "decoder" if family.causal else "encoder"
    return ArchitectureEntry(
        PREFIX + family.name,
        family.config,
        f"{family.name}, by transformers",
        f"The {kind} that transformers builds of this config, with a head for classes of sequences"
        f"{' or, for the task causal_lm, for the next token' if family.causal else ''}. Samples are token "
        "ids [N, L], filled up with pad_token_id.",
        "as model.save_pretrained writes them; `diffin network` prints them",
    )


ARCHITECTURES: dict[str, ArchitectureEntry] = {
    entry.name: entry for entry in (*_ENTRIES, *map(_language_model, FAMILIES.values()))
}
GRAPH: dict[str, Any] = {
    "name": ONNX,
    "title": "Any network, as an ONNX graph",
    "description": f"Sent as the part `architecture_file` of a multipart request, as {EXPORT} writes it. "
    "Nothing of it is run as code: an operator is looked up by its name, and those that are not among "
    "`operators` are named in the refusal. `schema` describes the config that is shown once a worker has "
    "read the graph.",
    "inputs": "by its input: tokens (integers), image ([batch, channels, height, width]) or features. "
    "For the task contrastive a second one takes the targets (token ids), and the outputs are the embeddings "
    "[batch, d] of both and the scale of their products",
    "tensors": "the graph's initializers, by their names: those of the model's state_dict",
    "opsets": list(OPSETS),
    "operators": list(OPERATORS),
    "schema": OnnxConfig.model_json_schema(),
}


def check_task(name: str, task: Task) -> str | None:
    """What is wrong with this task for the network `name`; None if nothing is, or if only its graph tells."""
    family = FAMILIES.get(name.removeprefix(PREFIX))
    if task.type != "causal_lm" or name == ONNX or (family is not None and family.causal):
        return None
    decoders = ", ".join(PREFIX + one.name for one in FAMILIES.values() if one.causal)
    return f"{name} does not tell the next token: causal_lm is for {ONNX} and {decoders}."


def list_architectures() -> list[dict[str, Any]]:
    """The body of `GET /v1/architectures`: every network with the JSON schema of its config."""
    return [*(entry.listing() for entry in ARCHITECTURES.values()), GRAPH]
