"""Data sets as they are answered."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api.resources import named
from app.store.tables import Dataset

Status = Literal["validating", "ready", "invalid"]


class Input(BaseModel):
    """One sample's input: uint8 images are [H, W, C], float ones [C, H, W]."""

    shape: list[int]
    dtype: str


class Target(BaseModel):
    """One sample's target, and the range of all."""

    shape: list[int]
    dtype: str
    min: float | None = None
    max: float | None = None
    taken_from: Literal["inputs"] | None = Field(
        None,
        exclude_if=lambda value: value is None,
        description="`inputs`: the file holds no targets, and its token ids stand for them, which is what "
        "causal_lm wants and no other task.",
    )


TABLE: dict[str, Any] = {
    "id": "ds_0197f4e7-1a2b-7c5e-9c4f-3f1f2d1f6a52",
    "name": "census",
    "notes": "",
    "metadata": {},
    "created_at": "2026-11-24T21:00:00Z",
    "format": "csv",
    "filename": "census.csv",
    "uri": "s3://datasets/census.csv",
    "status": "ready",
    "bytes": 3974305,
    "sha256": "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
    "error": None,
    "num_samples": 32561,
    "input": {"shape": [5], "dtype": "float32"},
    "num_classes": 2,
    "class_counts": [24720, 7841],
    "target": {"shape": [], "dtype": "int64", "min": 0, "max": 1},
    "classes": ["<=50K", ">50K"],
    "columns": {"inputs": ["age", "sex"], "targets": "income", "id": None},
    "encoding": {"kind": "table"},
    "features": [
        {
            "column": "age",
            "kind": "number",
            "indicator": True,
            "mean": 38.6,
            "std": 13.6,
            "missing": 12,
            "at": [0, 2],
        },
        {
            "column": "sex",
            "kind": "category",
            "indicator": True,
            "values": ["Female", "Male"],
            "missing": 3,
            "at": [2, 5],
        },
    ],
    "like": None,
}


class DatasetOut(BaseModel):
    """A data set. From `num_samples` on, fields are null until it is `ready`; `error` says why not.

    `classes` are the labels' names by number, `columns` those that were read, `encoding` how the inputs came
    to be numbers, `features` that of each column of a table (null in lists).
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "ds_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52",
                    "name": "mnist train",
                    "notes": "",
                    "metadata": {"git": "abc123"},
                    "created_at": "2026-11-23T21:00:00Z",
                    "format": "npz",
                    "filename": "mnist.npz",
                    "uri": None,
                    "status": "ready",
                    "bytes": 47520262,
                    "sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
                    "error": None,
                    "num_samples": 60000,
                    "input": {"shape": [28, 28, 1], "dtype": "uint8"},
                    "num_classes": 10,
                    "class_counts": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
                    "target": {"shape": [], "dtype": "int64", "min": 0, "max": 9},
                    "classes": None,
                    "columns": None,
                    "encoding": None,
                    "features": None,
                    "like": None,
                },
                TABLE,
            ]
        }
    )

    id: str
    name: str
    notes: str
    metadata: dict[str, str]
    created_at: datetime
    format: str
    filename: str
    uri: str | None = Field(None, description="Where the file was fetched from, if it was named by `uri`.")
    status: Status
    bytes: int | None = Field(description="Null, as `sha256`, until a worker has fetched it from its `uri`.")
    sha256: str | None
    error: dict[str, Any] | None = None
    num_samples: int | None = None
    input: Input | None = None
    num_classes: int | None = None
    class_counts: list[int] | None = None
    target: Target | None = None
    classes: list[str] | None = None
    columns: dict[str, Any] | None = None
    encoding: dict[str, Any] | None = None
    features: list[dict[str, Any]] | None = Field(
        None,
        description="Of each column: {column, kind: number | category, at: [first feature, the one after its "
        "last], missing: how many values, indicator: whether a feature tells where they were missing, mean, "
        "std | values}.",
    )
    like: str | None = None

    @classmethod
    def of(cls, row: Dataset, *, whole: bool = True) -> DatasetOut:
        """`whole`: with the features of a table, which may be many."""
        read = row.info.get("encoding") or {}
        inputs = dict(read.get("inputs") or {})
        features = inputs.pop("features", None)
        return cls(
            **named(row),
            format=row.format,
            filename=row.filename,
            uri=row.uri,
            status=row.status,
            bytes=row.bytes if row.sha256 else None,
            sha256=row.sha256 or None,
            error=row.error,
            num_samples=row.num_samples,
            input=row.info.get("input"),
            num_classes=row.num_classes,
            class_counts=row.info.get("class_counts"),
            target=row.info.get("target"),
            classes=read.get("classes"),
            columns=read.get("columns"),
            encoding=inputs or None,
            features=features if whole else None,
            like=row.options.get("like"),
        )
