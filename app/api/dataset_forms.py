"""What comes with a data set's file: its format, its columns, and how text and images are to be read."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, Json, StringConstraints, model_validator

from app.api.files import Uri, check_sources
from app.api.problems import ApiProblem
from app.api.resources import NO_NUL, Body, GivenName, Id, Metadata, Notes

FORMATS = {
    "npz": (".npz",),
    "safetensors": (".safetensors",),
    "parquet": (".parquet", ".pq"),
    "csv": (".csv", ".tsv"),
    "jsonl": (".jsonl", ".ndjson"),
    "imagefolder": (".zip",),
    "webdataset": (),
}
TAR = (".tar", ".tar.gz", ".tgz")  # imagefolder or webdataset: the worker sees which
OPTIONS = {"columns", "max_length", "padding_id", "image_size", "image_mode"}
ARRAYS = ("npz", "safetensors")
TOKENIZER = "tokenizer_file"
MOST_COLUMNS = 65_536
MOST_TOKENIZER = 64 * 1024**2

Side = Annotated[int, Field(ge=1, le=8192)]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=NO_NUL)]


class Columns(BaseModel):
    """Which columns are a sample's inputs, its target and its id."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"inputs": ["age", "workclass"], "targets": "income", "id": "person"},
                {"inputs": "text", "targets": "label"},
            ]
        },
    )

    inputs: ColumnName | Annotated[list[ColumnName], Field(min_length=1, max_length=MOST_COLUMNS)] | None = (
        Field(
            None, description="One column of text, lists or images; or a list of columns, which is a table."
        )
    )
    targets: ColumnName | None = None
    id: ColumnName | None = None
    names: Annotated[list[ColumnName], Field(min_length=1, max_length=MOST_COLUMNS)] | None = Field(
        None, description="Of all columns of a csv whose first line is a row and no header."
    )


class Reading:
    """How a file is to be read, whichever way that was told."""

    format: str | None
    like: str | None

    def told_format(self, filename: str) -> str:
        """The format given, else by the file's ending. Raises ApiProblem (422) where there is none."""
        if self.format in FORMATS:
            return self.format
        for name, endings in {**FORMATS, "tar": TAR}.items():
            if self.format is None and filename.lower().endswith(endings or ("\n",)):
                return name
        asked = (
            f"format {self.format!r}" if self.format else f"a file called {filename!r}, with no format given"
        )
        detail = f"No reader for {asked}; formats: {', '.join(FORMATS)}."
        raise ApiProblem(422, "unknown_format", detail, pointer="/format")

    def options(self) -> dict[str, Any]:
        """What the reader is to know, as it is kept."""
        assert isinstance(self, BaseModel)  # noqa: S101  (what is mixed in with)
        return self.model_dump(include=OPTIONS, exclude_none=True)

    def check_for(self, kind: str, *, tokenizer: bool) -> None:
        """Raises ApiProblem (422) for what the format has no use for: nothing is ignored silently."""
        if kind not in ARRAYS:
            return
        given = [name for name in (*self.options(), "like") if getattr(self, name) is not None]
        if given or tokenizer:
            name = [*given, TOKENIZER][0]
            detail = f"{kind} holds the arrays themselves; {name} is for formats with columns."
            raise ApiProblem(422, "validation_error", detail, pointer=f"/{name}")


class DatasetForm(Reading, BaseModel):
    """The text fields of an upload."""

    model_config = ConfigDict(extra="forbid")

    name: GivenName = Field(description="What you call it.", examples=["mnist train"])
    format: str | None = Field(
        None, description=f"{', '.join(FORMATS)}; by the file's ending when left out.", examples=["npz"]
    )
    columns: Json[Columns] | None = Field(
        None,
        description="JSON {inputs, targets, id}: columns of a parquet, csv or jsonl. Left out, `target` or "
        "`label` (and the like) is the target, `id` the id, and all others are inputs.",
        examples=['{"inputs": ["age", "workclass"], "targets": "income"}'],
    )
    max_length: int | None = Field(
        None, ge=1, le=1_000_000, description="Of token ids: longer ones are cut, shorter ones padded."
    )
    image_size: Json[tuple[Side, Side]] | None = Field(
        None,
        description="JSON [height, width] that images are brought to; without it all must have one size.",
        examples=["[32, 32]"],
    )
    image_mode: Literal["L", "RGB", "RGBA"] | None = Field(
        None, description="Of images: grey or in colour. As the first one unless given."
    )
    padding_id: int | None = Field(None, ge=0, description="Token id that fills up what is shorter.")
    like: Id | None = Field(
        None,
        description="A ready data set whose columns, label names, categories, means and tokenizer hold here "
        "too: how a query set is read as its training set was.",
        examples=["ds_0197f4e6-0d3b-7c5e-9c4f-3f1f2d1f6a52"],
    )
    notes: Notes = ""
    metadata: Json[Metadata] = Field({}, description="JSON object of up to 16 pairs of strings.")


class DatasetIn(Reading, Body):
    """A data set whose file came in parts, or lies in a store that the operator allowed."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "upload_id": "up_0197f4e9-2b3c-7c5e-9c4f-3f1f2d1f6a52",
                    "name": "census",
                    "columns": {"inputs": ["age", "workclass"], "targets": "income"},
                },
                {"uri": "s3://datasets/mnist/train.npz", "name": "mnist train"},
            ]
        }
    )

    upload_id: Id | None = Field(None, description="A complete upload.")
    uri: Uri | None = Field(
        None,
        description="Or where the file lies: a plain path below one of the `uri_prefixes` of "
        "/v1/capabilities. A worker fetches it.",
    )
    tokenizer_upload_id: Id | None = Field(
        None, description="An upload of the network's `tokenizer.json`, for text."
    )
    tokenizer_uri: Uri | None = Field(None, description="Or where that lies, beside `uri`.")
    name: GivenName
    format: str | None = Field(None, description="By the file's ending when left out.")
    columns: Columns | None = None
    max_length: int | None = Field(None, ge=1, le=1_000_000)
    image_size: list[Side] | None = Field(None, min_length=2, max_length=2)
    image_mode: Literal["L", "RGB", "RGBA"] | None = None
    padding_id: int | None = Field(None, ge=0)
    like: Id | None = None
    notes: Notes = ""
    metadata: Metadata = Field({})

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        check_sources(self, "tokenizer_")
        return self
