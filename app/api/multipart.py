"""Multipart uploads, streamed: the file's bytes go to storage as they arrive and are never held in memory."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.api.middleware import refuse_if_over
from app.api.problems import ApiProblem, invalid
from app.settings import MIB
from app.store.blobs import CHUNK, BlobStore

TEXT_BYTES = 2 * MIB  # of all text fields together: room for a learning rate a step of a long segment
FIELDS = 32
OVERHEAD = TEXT_BYTES + MIB  # what the body may hold beside its file

Form = TypeVar("Form", bound=BaseModel)


@dataclass
class Upload:
    """A file as it lies in staging, and the text fields that came with it."""

    path: Path
    filename: str
    bytes: int
    sha256: str
    fields: dict[str, str]

    def form(self, model: type[Form]) -> Form:
        """The text fields as `model` reads them. Raises ApiProblem (422) naming the fields at fault."""
        try:
            return model.model_validate_strings(self.fields)
        except ValidationError as refused:
            errors = [{**error, "loc": ("body", *error["loc"])} for error in refused.errors()]
            raise invalid(errors, self.fields) from refused

    def parts(self) -> list[str]:
        """The body's parts by name, value and content: what an Idempotency-Key covers."""
        fields = [part for name in sorted(self.fields) for part in (name, self.fields[name])]
        return [*fields, "file", self.filename, self.sha256]


@asynccontextmanager
async def received(request: Request, blobs: BlobStore, most: int) -> AsyncIterator[Upload]:
    """Reads the body of a multipart upload; the staged file is gone at the end unless it was kept.

    Args:
        most: bytes the file may have.

    Raises:
        ApiProblem: 413 `payload_too_large`; 415 for another media type; 400 `invalid_multipart`; 422 for
            missing or repeated parts, and `empty_file`.
        ClientDisconnect: the client went away in the middle.
    """
    boundary = _boundary(request)
    request.state.max_body_bytes = most + OVERHEAD  # the route's own limit takes over from the general one
    with blobs.stage() as path:
        with path.open("wb") as file:
            form = _Form(boundary, file, most)
            async for piece in request.stream():
                form.feed(piece)
                if len(form.pending) >= CHUNK:
                    await asyncio.to_thread(form.write)
            await asyncio.to_thread(form.write)
        yield form.finish(path)


def form_schema(fields: type[BaseModel], file: str) -> dict[str, Any]:
    """The OpenAPI description of such a body, for a route's `openapi_extra`."""
    schema = fields.model_json_schema()
    schema["properties"] = {
        "file": {"type": "string", "format": "binary", "description": file},
        **schema["properties"],
    }
    schema["required"] = ["file", *schema.get("required", [])]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise ApiProblem(
            415, "unsupported_media_type", "Send the file as multipart/form-data, in a part named 'file'."
        )
    if not options.get(b"boundary"):
        raise _malformed("its Content-Type names no boundary")
    return options[b"boundary"]


def _malformed(why: str) -> ApiProblem:
    return ApiProblem(400, "invalid_multipart", f"The multipart body cannot be read: {why}.")


def _refused(pointer: str, detail: str) -> ApiProblem:
    return ApiProblem(422, "validation_error", f"{pointer}: {detail}", errors=[(pointer, detail)])


@dataclass
class _Part:
    headers: list[list[bytes]] = field(default_factory=list)
    name: str = ""
    value: bytearray = field(default_factory=bytearray)


class _Form:
    """Takes the parts out of the body: fields into memory, the file into `pending`, written in batches."""

    def __init__(self, boundary: bytes, file: BinaryIO, most: int) -> None:
        self.pending = bytearray()
        self._file, self._most = file, most
        self._size, self._digest = 0, hashlib.sha256()
        self._filename: str | None = None
        self._fields: dict[str, str] = {}
        self._text_bytes = 0
        self._part = _Part()
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_begin": lambda: self._part.headers.append([b"", b""]),
                    "on_header_field": lambda data, start, end: self._header(0, data[start:end]),
                    "on_header_value": lambda data, start, end: self._header(1, data[start:end]),
                    "on_headers_finished": self._name,
                    "on_part_data": self._data,
                    "on_part_end": self._end,
                    "on_end": self._finished,
                },
            )
        except FormParserError as problem:
            raise _malformed(str(problem)) from problem

    def feed(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except FormParserError as problem:
            raise _malformed(str(problem)) from problem

    def write(self) -> None:
        """Writes what is pending."""
        self._digest.update(self.pending)
        self._file.write(self.pending)
        self.pending = bytearray()

    def finish(self, path: Path) -> Upload:
        if not self._ended:
            raise _malformed("it ends before its closing boundary")
        if self._filename is None:
            raise _refused("/file", "is required: a part named 'file' that holds the file")
        if not self._size:
            raise ApiProblem(
                422, "empty_file", f"The file {self._filename!r} holds no bytes.", pointer="/file"
            )
        return Upload(path, self._filename, self._size, self._digest.hexdigest(), self._fields)

    def _begin(self) -> None:
        self._part = _Part()

    def _header(self, which: int, data: bytes) -> None:
        self._part.headers[-1][which] += data

    def _name(self) -> None:
        headers = {name.decode("latin-1").lower(): value for name, value in self._part.headers}
        _, options = parse_options_header(headers.get("content-disposition", b""))
        if b"name" not in options:
            raise _malformed("a part has no name in its Content-Disposition")
        self._part.name = name = _text(options[b"name"])
        if name == "file":
            if self._filename is not None:
                raise _refused("/file", "was given twice: send one file a request")
            given = _text(options.get(b"filename", b"")).replace("\x00", "").replace("\\", "/")
            self._filename = given.rpartition("/")[2][:255]
        elif b"filename" in options:
            raise _refused(f"/{name}", "is a file; the file belongs into the part named 'file'")
        elif name in self._fields:
            raise _refused(f"/{name}", "was given twice")
        elif len(self._fields) == FIELDS:
            raise ApiProblem(413, "payload_too_large", f"More than {FIELDS} text fields.")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.name == "file":
            self._size += end - start
            refuse_if_over(self._most, self._size, "file")
            self.pending += data[start:end]
            return
        self._text_bytes += end - start
        if self._text_bytes > TEXT_BYTES:
            raise ApiProblem(
                413, "payload_too_large", f"The text fields hold more than {TEXT_BYTES:,} bytes."
            )
        self._part.value += data[start:end]

    def _end(self) -> None:
        if self._part.name != "file":
            self._fields[self._part.name] = _text(bytes(self._part.value))

    def _finished(self) -> None:
        self._ended = True


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as problem:
        raise _malformed(f"{raw[:40]!r} is not UTF-8") from problem
