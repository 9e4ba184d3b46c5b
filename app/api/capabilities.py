"""What this deployment offers: methods, networks, formats, limits, devices."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from app.api.dataset_forms import FORMATS
from app.api.deps import Caller, Config, Db
from app.api.health import alive_seconds
from app.api.pagination import MOST, Page
from app.api.problems import PROBLEMS
from app.catalog import METHODS, list_architectures, list_methods
from app.store import workers

router = APIRouter(prefix="/v1", tags=["catalog"], responses=PROBLEMS)


class MethodOut(BaseModel):
    """A method: what it computes, what it needs and costs; `schema` describes its options."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(examples=["diff_in"])
    title: str
    description: str
    needs_query: bool
    needs: list[str]
    cost: dict[str, Any]


class ArchitectureOut(BaseModel):
    """A kind of network: how samples are given to it, its tensors; `schema` describes its config."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(examples=["cnn"])
    title: str
    description: str
    inputs: str = Field(examples=["image"])
    tensors: str


class Limits(BaseModel):
    """The largest that is accepted."""

    max_upload_bytes: int = Field(description="Of a file in one request.")
    max_resumable_bytes: int = Field(description="Of a file in parts.")
    max_body_bytes: int
    max_page: int


class Capabilities(BaseModel):
    """What may be asked of this deployment; `devices` are those of its live workers."""

    version: str = Field(examples=["0.1.0"])
    methods: list[str] = Field(examples=[list(METHODS)])
    architectures: list[str] = Field(examples=[["cnn", "onnx"]])
    formats: list[str] = Field(examples=[list(FORMATS)])
    limits: Limits
    uri_prefixes: list[str] = Field(
        examples=[["s3://datasets/"]],
        description="What data sets and checkpoints may be named below by `uri`.",
    )
    devices: list[str] = Field(examples=[["cpu"]])


# The schemas take milliseconds to make and never change.
METHODS_PAGE = Page[MethodOut](data=[MethodOut(**entry) for entry in list_methods()], next_cursor=None)
ARCHITECTURES_PAGE = Page[ArchitectureOut](
    data=[ArchitectureOut(**entry) for entry in list_architectures()], next_cursor=None
)


@router.get("/capabilities", summary="What this deployment offers")
def get_capabilities(caller: Caller, settings: Config, database: Db) -> Capabilities:
    with database.snapshot() as session:
        devices = sorted({worker.device for worker in workers.alive(session, alive_seconds(settings))})
    limits = Limits(
        max_upload_bytes=settings.max_upload_bytes,
        max_resumable_bytes=settings.max_resumable_bytes,
        max_body_bytes=settings.max_body_bytes,
        max_page=MOST,
    )
    return Capabilities(
        version=version("diffin"),
        methods=list(METHODS),
        architectures=[entry.name for entry in ARCHITECTURES_PAGE.data],
        formats=list(FORMATS),
        limits=limits,
        uri_prefixes=list(settings.uri_prefixes_of(caller.project_id)),
        devices=devices,
    )


@router.get("/methods", summary="List methods with the schema of their options")
def get_methods(caller: Caller) -> Page[MethodOut]:
    return METHODS_PAGE


@router.get("/architectures", summary="List networks with the schema of their config")
def get_architectures(caller: Caller) -> Page[ArchitectureOut]:
    return ARCHITECTURES_PAGE
