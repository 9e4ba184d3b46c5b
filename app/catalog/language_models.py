"""The language models that transformers builds from a config: which types, and what is said of their configs.

Only the form of a config and the sense of its numbers are known here (`buildable`). Whether transformers
builds it is told when a checkpoint is validated.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import ConfigDict, Field, JsonValue, model_validator

from app.catalog.base import Strict, refusal
from app.catalog.buildable import not_buildable
from app.catalog.configs import Config
from app.catalog.shapes import Shape, check_tokens
from app.catalog.training import Task

PREFIX = "hf/"
MOST_LABELS = 1_000_000
MOST_KEYS, MOST_ENTRIES, MOST_DEPTH, MOST_NUMBER = 200, 4096, 4, 10**9
WORDS = re.compile(r"[A-Za-z0-9_.+|-]{0,100}")

# what a config.json tells that changes no output of the network in evaluation mode
TOLD = {
    "_name_or_path", "architectures", "chunk_size_feed_forward", "dtype", "finetuning_task",
    "gradient_checkpointing", "id2label", "label2id", "model_type", "output_attentions",
    "output_hidden_states", "problem_type", "return_dict", "task_specific_params", "tokenizer_class",
    "torch_dtype", "torchscript", "transformers_version", "use_cache",
}  # fmt: skip
# what would bring code, files, other kernels or another kind of attention with it
REFUSED = {
    "add_cross_attention", "attn_implementation", "auto_map", "compression_config",
    "cross_attention_hidden_size", "custom_pipelines", "experts_implementation", "is_decoder",
    "is_encoder_decoder", "kernel_config", "pruned_heads", "quantization_config",
    "use_bidirectional_attention",
}  # fmt: skip
ROPE_TYPES_REFUSED = {"dynamic", "longrope"}  # their frequencies hang on the length of the batch

Size = Annotated[int, Field(ge=1, le=1_000_000)]
Layers = Annotated[int, Field(ge=1, le=256, description="Blocks of attention and feed-forward.")]
Positions = Annotated[int, Field(ge=1, le=2_000_000, description="Tokens in a sample at most.")]


Module = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]{1,100}$")]
Modules = Annotated[list[Module], Field(min_length=1, max_length=100)]


class Lora(Strict):
    """An adapter, in the words of peft's LoraConfig."""

    r: Annotated[int, Field(ge=1, le=4096)] = Field(8, description="Rank.")
    lora_alpha: Annotated[float, Field(gt=0, le=1e6)] = Field(
        8, description="The update counts alpha/r times."
    )
    target_modules: Modules = Field(description="Modules that are adapted, by the ends of their names.")
    bias: Literal["none", "all", "lora_only"] = Field("none", description="Which biases were trained, too.")
    modules_to_save: Modules | None = Field(None, description="Modules trained and saved whole: a head.")
    use_rslora: bool = Field(False, description="The update counts alpha/√r times.")
    fan_in_fan_out: bool = Field(False, description="Whether weights are stored [in, out], as gpt2's are.")
    layers_to_transform: list[Annotated[int, Field(ge=0, le=255)]] | None = Field(
        None, max_length=256, description="Layers that are adapted; null: all."
    )

    @model_validator(mode="after")
    def _told_apart(self) -> Lora:
        if self.bias != "none" and self.modules_to_save:
            raise refusal("lora: beside modules_to_save, peft saves biases under no model's names: take one.")
        return self


class HfConfig(Config):
    """A config of transformers. Keys that are not listed are handed to it as they are."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, JsonValue] = Field(init=False)
    inputs = "tokens"
    offset_positions: ClassVar[bool] = False

    vocab_size: int = Field(ge=1, le=10_000_000, description="Token ids are 0 to vocab_size - 1.")
    num_labels: int = Field(
        2,
        ge=1,
        le=MOST_LABELS,
        description="Outputs of a classifier: 1 for binary; left out: of id2label, or 2.",
    )
    pad_token_id: Annotated[int, Field(ge=0)] | None = Field(
        description="The token that fills samples up to [N, L] before their first or after their last one: "
        "left out of attention and of the loss. null: none does."
    )

    lora: Lora | None = Field(
        None,
        description="An adapter by peft: checkpoints are its adapter_model.safetensors, and the base model's "
        "weights come once, as the trajectory's part `base_file`. Influence is over the adapter.",
    )

    @property
    def width(self) -> int:
        raise NotImplementedError

    @property
    def depth(self) -> int:
        raise NotImplementedError

    @property
    def length(self) -> int:
        """Positions that have an embedding, or that the model was made for."""
        raise NotImplementedError

    @property
    def num_outputs(self) -> int:
        return self.num_labels

    @property
    def num_parameters(self) -> int:
        """At least about as many: the embedding, and the attention of each layer."""
        return self.width * self.vocab_size + 4 * self.depth * self.width**2

    def check_input(
        self, shape: Shape, dtype: str, maximum: int | None = None, minimum: int | None = None
    ) -> str | None:
        taken = 1 + (self.pad_token_id or 0) if self.offset_positions else 0
        return check_tokens(self.vocab_size, self.length - taken, shape, dtype, maximum, minimum)

    def check_targets(
        self, task: Task, shape: Shape, dtype: str, minimum: float | None, maximum: float | None
    ) -> str | None:
        outputs = self.vocab_size if task.type == "causal_lm" else self.num_labels
        return task.check_targets(shape, dtype, minimum, maximum, outputs)

    def of_transformers(self) -> dict[str, Any]:
        """The keyword arguments of transformers' config."""
        return self.model_dump(exclude={"lora"})

    @model_validator(mode="before")
    @classmethod
    def _as_saved(cls, given: Any) -> Any:
        """A config.json as `save_pretrained` writes it is taken, without what makes no difference."""
        if not isinstance(given, dict):
            return given
        labels = given.get("id2label")
        told = {} if "num_labels" in given or not isinstance(labels, dict) else {"num_labels": len(labels)}
        return {key: value for key, value in given.items() if key not in TOLD} | told

    @model_validator(mode="after")
    def _harmless(self) -> HfConfig:
        for key, value in (self.__pydantic_extra__ or {}).items():
            if key in REFUSED and value in (None, False, [], {}):
                continue
            if key in REFUSED or key.startswith("_") or "path" in key or len(key) > 100:
                raise refusal(f"config.{key[:100]} is not taken: leave it out.")
            _check_value(key, value)
        if len(self.__pydantic_extra__ or {}) > MOST_KEYS:
            raise refusal(f"a config has {MOST_KEYS} keys at most.")
        if self.pad_token_id is not None and self.pad_token_id >= self.vocab_size:
            raise refusal(f"pad_token_id {self.pad_token_id} is not below vocab_size {self.vocab_size}.")
        return self


def _check_value(key: str, value: JsonValue, depth: int = 0) -> None:
    """Raises unless it is made of plain, sane numbers and words."""
    if isinstance(value, dict | list):
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        if depth == MOST_DEPTH or len(inner) > MOST_ENTRIES:
            raise refusal(f"config.{key} is nested too deep or too long.")
        for one in inner:
            _check_value(key, one, depth + 1)
    elif isinstance(value, str) and value in ROPE_TYPES_REFUSED:
        raise refusal(f"config.{key}: rotary embeddings of type {value} depend on the batch.")
    elif isinstance(value, str) and not WORDS.fullmatch(value):
        raise refusal(
            f"config.{key} has the text {value[:50]!r}: names of letters and digits are taken only."
        )
    elif isinstance(value, int | float) and not (isfinite(value) and abs(value) <= MOST_NUMBER):
        raise refusal(f"config.{key} has the number {value}: {MOST_NUMBER:,} at most.")


class StandardConfig(HfConfig):
    """As bert's and llama's config."""

    hidden_size: Size = Field(description="Width of the residual stream.")
    num_hidden_layers: Layers
    max_position_embeddings: Positions

    @property
    def width(self) -> int:
        return self.hidden_size

    @property
    def depth(self) -> int:
        return self.num_hidden_layers

    @property
    def length(self) -> int:
        return self.max_position_embeddings


class RobertaConfig(StandardConfig):
    """As roberta's config: positions are counted from pad_token_id + 1."""

    offset_positions = True


class Gpt2Config(HfConfig):
    """As gpt2's config."""

    n_embd: Size = Field(description="Width of the residual stream.")
    n_layer: Layers
    n_positions: Positions

    @property
    def width(self) -> int:
        return self.n_embd

    @property
    def depth(self) -> int:
        return self.n_layer

    @property
    def length(self) -> int:
        return self.n_positions


class GptNeoConfig(HfConfig):
    """As gpt_neo's config."""

    hidden_size: Size = Field(description="Width of the residual stream.")
    num_layers: Layers
    max_position_embeddings: Positions

    @property
    def width(self) -> int:
        return self.hidden_size

    @property
    def depth(self) -> int:
        return self.num_layers

    @property
    def length(self) -> int:
        return self.max_position_embeddings


class DistilBertConfig(HfConfig):
    """As distilbert's config."""

    dim: Size = Field(description="Width of the residual stream.")
    n_layers: Layers
    max_position_embeddings: Positions

    @property
    def width(self) -> int:
        return self.dim

    @property
    def depth(self) -> int:
        return self.n_layers

    @property
    def length(self) -> int:
        return self.max_position_embeddings


@dataclass(frozen=True)
class Family:
    """A model type of transformers.

    Attributes:
        causal: a token sees none after it, so that it can tell the next one.
        mask_by_layer: the model takes a mask for each kind of layer.
    """

    name: str
    config: type[HfConfig]
    causal: bool
    mask_by_layer: bool = False


class LanguageModel(Strict):
    """A model type with a config that it can be built of."""

    name: str
    config: HfConfig

    @model_validator(mode="after")
    def _buildable(self) -> Self:
        config = self.config
        given = config.model_dump(exclude={"lora"}, exclude_unset=True)
        if wrong := not_buildable(self.name.removeprefix(PREFIX), given, config.width):
            raise refusal(wrong)
        return self


class Standard(LanguageModel):
    name: Literal[
        "hf/bert", "hf/electra", "hf/albert", "hf/modernbert", "hf/gpt_neox", "hf/llama", "hf/mistral",
        "hf/qwen2", "hf/qwen3", "hf/gemma", "hf/gemma2", "hf/gemma3_text", "hf/opt", "hf/phi", "hf/phi3",
        "hf/smollm3", "hf/stablelm", "hf/starcoder2",
    ]  # fmt: skip
    config: StandardConfig


class Roberta(LanguageModel):
    name: Literal["hf/roberta", "hf/xlm-roberta", "hf/camembert", "hf/mpnet"]
    config: RobertaConfig


class Gpt2(LanguageModel):
    name: Literal["hf/gpt2", "hf/gptj"]
    config: Gpt2Config


class GptNeo(LanguageModel):
    name: Literal["hf/gpt_neo"]
    config: GptNeoConfig


class DistilBert(LanguageModel):
    name: Literal["hf/distilbert"]
    config: DistilBertConfig


_ENCODERS = {"bert", "electra", "albert", "modernbert", "roberta", "xlm-roberta", "camembert", "mpnet",
             "distilbert"}  # fmt: skip
_BY_LAYER = {"modernbert", "qwen2", "qwen3", "gemma2", "gemma3_text", "smollm3"}


def _families() -> dict[str, Family]:
    found = {}
    for model in (Standard, Roberta, Gpt2, GptNeo, DistilBert):
        config = model.model_fields["config"].annotation
        assert isinstance(config, type) and issubclass(config, HfConfig)  # noqa: S101  (for the types' sake)
        for full_name in get_args(model.model_fields["name"].annotation):
            name = full_name.removeprefix(PREFIX)
            found[name] = Family(name, config, name not in _ENCODERS, name in _BY_LAYER)
    return found


FAMILIES: dict[str, Family] = _families()
