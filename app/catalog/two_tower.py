"""The config of `two_tower`: two of the registered networks, without their outputs."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from app.catalog.base import Strict
from app.catalog.configs import (
    CnnConfig,
    Config,
    LinearConfig,
    MlpConfig,
    ResnetConfig,
    TransformerConfig,
)
from app.catalog.shapes import Shape
from app.catalog.training import Task


class LinearEncoder(LinearConfig):
    num_classes: ClassVar[int] = 0  # type: ignore[misc]  # the projection stands for the outputs


class MlpEncoder(MlpConfig):
    num_classes: ClassVar[int] = 0  # type: ignore[misc]


class CnnEncoder(CnnConfig):
    num_classes: ClassVar[int] = 0  # type: ignore[misc]


class ResnetEncoder(ResnetConfig):
    num_classes: ClassVar[int] = 0  # type: ignore[misc]


class TransformerEncoder(TransformerConfig):
    num_classes: ClassVar[int] = 0  # type: ignore[misc]


class LinearTower(Strict):
    name: Literal["linear"]
    config: LinearEncoder


class MlpTower(Strict):
    name: Literal["mlp"]
    config: MlpEncoder


class CnnTower(Strict):
    name: Literal["cnn"]
    config: CnnEncoder


class ResnetTower(Strict):
    name: Literal["resnet"]
    config: ResnetEncoder


class TransformerTower(Strict):
    name: Literal["transformer"]
    config: TransformerEncoder


ImageTower = Annotated[LinearTower | MlpTower | CnnTower | ResnetTower, Field(discriminator="name")]


class TwoTowerConfig(Config):
    inputs = "image"
    num_classes: ClassVar[int] = 0

    image: ImageTower = Field(description="Encoder of the inputs: its name, and its config less num_classes.")
    text: TransformerTower = Field(
        description="Encoder of the targets, the token ids of a caption: its config less num_classes."
    )
    embedding_dim: int = Field(64, ge=1, le=16_384, description="Width both are projected to.")
    temperature: float = Field(
        0.07, gt=0, le=100, description="1/exp(logit_scale) where training begins; it is learnt."
    )

    @property
    def num_parameters(self) -> int:
        encoders = self.image.config, self.text.config
        return sum(one.num_parameters + self.embedding_dim * one.num_features for one in encoders) + 1

    @property
    def num_features(self) -> int:
        return self.embedding_dim

    def check_input(
        self, shape: Shape, dtype: str, maximum: int | None = None, minimum: int | None = None
    ) -> str | None:
        return self.image.config.check_input(shape, dtype, maximum, minimum)

    def check_task(self, task: Task) -> str | None:
        if task.type == "contrastive":
            return None
        return f"two_tower compares images with texts; its task is 'contrastive', not '{task.type}'."

    def check_targets(
        self, task: Task, shape: Shape, dtype: str, minimum: float | None, maximum: float | None
    ) -> str | None:
        ends = (None if value is None else int(value) for value in (maximum, minimum))
        wrong = self.text.config.check_input(shape, dtype, *ends)
        return f"its targets are to be captions, but {wrong}" if wrong else None
