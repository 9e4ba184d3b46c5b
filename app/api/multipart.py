"""Multipart uploads, streamed: the file's bytes go to storage as they arrive and are never held in memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, BinaryIO, TypeVar

from fastapi import Request
from fastapi.concurrency import contextmanager_in_threadpool
from pydantic import BaseModel, ValidationError
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from app.api.middleware import refuse_if_over
from app.api.problems import ApiProblem, refused_body
from app.settings import MIB
from app.store.blobs import BlobStore

TEXT_BYTES = 2 * MIB  # of all text fields together: room for a learning rate a step of a long segment
FIELDS = 32
PICKLES = (".pt", ".pt2", ".pth", ".pkl", ".pickle", ".bin", ".ckpt")
CONVERT = (
    "Convert it where you trust it: safetensors.torch.save_file(torch.load(path, weights_only=True), "
    "new_path)."
)
CHUNK = MIB  # written at once
OVERHEAD = TEXT_BYTES + MIB  # what the body may hold beside its file

Form = TypeVar("Form", bound=BaseModel)


@dataclass(frozen=True)
class StagedFile:
    """A file as it lies in staging."""

    path: Path
    filename: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Upload:
    """The files by their parts' names, and the text fields that came with them."""

    files: dict[str, StagedFile]
    fields: dict[str, str]

    @property
    def file(self) -> StagedFile:
        """The part `file`, where it was required."""
        return self.files["file"]

    @property
    def others(self) -> dict[str, StagedFile]:
        return {name: file for name, file in self.files.items() if name != "file"}

    def form(self, model: type[Form]) -> Form:
        """The text fields as `model` reads them. Raises ApiProblem (422) naming the fields at fault."""
        try:
            return model.model_validate_strings(self.fields)
        except ValidationError as refused:
            raise refused_body(refused, self.fields) from refused

    def parts(self) -> list[str]:
        """The body's parts by name, value and content: what an Idempotency-Key covers."""
        fields = [part for name in sorted(self.fields) for part in (name, self.fields[name])]
        files = sorted(self.files.items())
        return [*fields, *(part for name, one in files for part in (name, one.filename, one.sha256))]


@asynccontextmanager
async def received(
    request: Request,
    blobs: BlobStore,
    most: int,
    others: Sequence[str] = (),
    *,
    required: str | None = "file",
) -> AsyncIterator[Upload]:
    """Reads the body of a multipart upload; the staged files are gone at the end unless they were kept.

    Args:
        most: bytes a file may have.
        others: parts that may hold files beside the one required.
        required: the part that must hold a file, if any must.

    Raises:
        ApiProblem: 413 `payload_too_large`; 415 for another media type; 400 `invalid_multipart`; 422 for
            missing or repeated parts, and `empty_file`.
        ClientDisconnect: the client went away in the middle.
    """
    boundary = _boundary(request)
    # the route's own limit takes over from the general one
    names = (required, *others) if required else tuple(others)
    request.state.max_body_bytes = most * len(names) + OVERHEAD
    with ExitStack() as opened:

        def incoming(part: str, filename: str) -> _Incoming:
            path = opened.enter_context(blobs.stage())
            return _Incoming(part, filename, path, opened.enter_context(path.open("wb")), most)

        form = _Form(boundary, names, incoming)
        async for piece in request.stream():
            form.feed(piece)
            if form.pending >= CHUNK:
                await asyncio.to_thread(form.write)
        await asyncio.to_thread(form.write, to_disk=True)
        upload = form.finish(required)
        known = {one.path: one.sha256 for one in upload.files.values()}
        async with contextmanager_in_threadpool(blobs.ahead(*known, known=known)):
            yield upload


def refuse_pickle(filename: str, pointer: str = "/file", instead: str = CONVERT) -> None:
    """Raises 422 `unsafe_file` for a name that says that the file is a pickle or holds code."""
    ending = PurePath(filename).suffix.lower()
    if ending in PICKLES:
        detail = f"{filename!r}: loading {ending} files can run code, so they are refused. {instead}"
        raise ApiProblem(422, "unsafe_file", detail, pointer=pointer)


def form_schema(fields: type[BaseModel], file: str, **others: str) -> dict[str, Any]:
    """The OpenAPI description of such a body, for a route's `openapi_extra`; files by what they hold."""
    schema = fields.model_json_schema()
    schema = _whole(schema, schema.pop("$defs", {}))  # references would be looked for in the whole document
    files = {
        name: {"type": "string", "format": "binary", "description": told}
        for name, told in {"file": file, **others}.items()
    }
    schema["properties"] = {**files, **schema.get("properties", {})}
    schema["required"] = ["file", *schema.get("required", [])]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def _whole(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema with what it refers to in its place."""
    if isinstance(schema, list):
        return [_whole(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if name := schema.get("$ref", "").removeprefix("#/$defs/"):
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return _whole(definitions[name], definitions) | beside
    return {key: _whole(value, definitions) for key, value in schema.items()}


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


class _Incoming:
    """A file on its way: what has come of it waits in `pending` to be written in batches."""

    def __init__(self, part: str, filename: str, path: Path, handle: BinaryIO, most: int) -> None:
        self.part, self.filename, self.path, self.size = part, filename, path, 0
        self.pending = bytearray()
        self._handle, self._most, self._digest = handle, most, hashlib.sha256()

    def take(self, data: bytes) -> None:
        self.size += len(data)
        refuse_if_over(self._most, self.size, "file")
        self.pending += data

    def write(self, *, to_disk: bool) -> None:
        self._digest.update(self.pending)
        self._handle.write(self.pending)
        self.pending = bytearray()
        if to_disk:
            self._handle.flush()
            os.fsync(self._handle.fileno())

    def staged(self) -> StagedFile:
        if not self.size:
            raise ApiProblem(
                422, "empty_file", f"The file {self.filename!r} holds no bytes.", pointer=f"/{self.part}"
            )
        self._handle.close()
        return StagedFile(self.path, self.filename, self.size, self._digest.hexdigest())


class _Form:
    """Takes the parts out of the body: fields into memory, files into storage, written in batches."""

    def __init__(
        self, boundary: bytes, names: Sequence[str], incoming: Callable[[str, str], _Incoming]
    ) -> None:
        self._names, self._incoming = names, incoming
        self._files: dict[str, _Incoming] = {}
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

    @property
    def pending(self) -> int:
        """Bytes that wait to be written."""
        return sum(len(file.pending) for file in self._files.values())

    def feed(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except FormParserError as problem:
            raise _malformed(str(problem)) from problem

    def write(self, *, to_disk: bool = False) -> None:
        """Writes what is pending; at the end as far as the disk, since others wait for the transaction that
        keeps the files.
        """
        for file in self._files.values():
            file.write(to_disk=to_disk)

    def finish(self, required: str | None) -> Upload:
        if not self._ended:
            raise _malformed("it ends before its closing boundary")
        if required and required not in self._files:
            raise _refused(f"/{required}", f"is required: a part named {required!r} that holds the file")
        return Upload({name: file.staged() for name, file in self._files.items()}, self._fields)

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
        if name in self._names:
            if name in self._files:
                raise _refused(f"/{name}", "was given twice: send one file a request")
            given = _text(options.get(b"filename", b"")).replace("\x00", "").replace("\\", "/")
            self._files[name] = self._incoming(name, given.rpartition("/")[2][:255])
        elif b"filename" in options:
            where = " or ".join(map(repr, self._names))
            raise _refused(f"/{name}", f"is a file; the file belongs into the part named {where}")
        elif name in self._fields:
            raise _refused(f"/{name}", "was given twice")
        elif len(self._fields) == FIELDS:
            raise ApiProblem(413, "payload_too_large", f"More than {FIELDS} text fields.")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part.name in self._names:
            self._files[self._part.name].take(data[start:end])
            return
        self._text_bytes += end - start
        if self._text_bytes > TEXT_BYTES:
            raise ApiProblem(
                413, "payload_too_large", f"The text fields hold more than {TEXT_BYTES:,} bytes."
            )
        self._part.value += data[start:end]

    def _end(self) -> None:
        if self._part.name not in self._names:
            self._fields[self._part.name] = _text(bytes(self._part.value))

    def _finished(self) -> None:
        self._ended = True


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as problem:
        raise _malformed(f"{raw[:40]!r} is not UTF-8") from problem
