"""Why a file is refused, in words its owner can act on."""

from __future__ import annotations

import errno
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

MOST_ERRORS = 50


class LoadError(Exception):
    """A file is refused.

    Args:
        code: for machines: empty_file, unknown_format, corrupt_file, unsafe_file, missing_array,
            unknown_array, unsupported_dtype, shape_mismatch, non_finite, out_of_range, invalid_ids,
            sample_too_large, invalid_checkpoint; of graphs external_data, graph_too_large, fixed_batch,
            mixed_samples, invalid_graph, unsupported_operator, unsupported_attribute, unsupported_opset,
            unsupported_graph.
        detail: what is wrong, where, and how to mend it.
        errors: the same by part of the file, `{"pointer": "/inputs/17", "detail": …}`.
    """

    def __init__(self, code: str, detail: str, errors: list[dict[str, str]] | None = None) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail
        self.errors = shortened(errors or [])


def shortened(errors: list[dict[str, str]]) -> list[dict[str, str]]:
    """The first errors, and how many more there are: a stranger's file must not fill the database."""
    if len(errors) <= MOST_ERRORS:
        return errors
    return [*errors[:MOST_ERRORS], {"pointer": "", "detail": f"… and {len(errors) - MOST_ERRORS} more."}]


def at(pointer: str, detail: str) -> dict[str, str]:
    return {"pointer": pointer, "detail": detail}


def pointer(*parts: str | int) -> str:
    """A JSON pointer (RFC 6901) into the file."""
    return "".join("/" + quoted(str(part)).replace("~", "~0").replace("/", "~1") for part in parts)


def quoted(name: str) -> str:
    """A name out of a stranger's file, fit to be shown."""
    name = name.encode("unicode_escape", "backslashreplace").decode() if not name.isprintable() else name
    return name if len(name) <= 100 else f"{name[:97]}…"


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turns what the zip and number parsers raise on broken bytes into a `LoadError`."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        NotImplementedError,
        OverflowError,
        RuntimeError,
        ValueError,
    ) as broken:
        raise corrupt(what, str(broken)) from broken
    except OSError as broken:
        if (
            broken.errno != errno.EINVAL
        ):  # a seek to where no file goes; anything else is not the file's fault
            raise
        raise corrupt(what, "an offset lies outside the file") from broken


def corrupt(what: str, why: str) -> LoadError:
    """The bytes are not what they say they are."""
    return LoadError(
        "corrupt_file",
        f"{what} cannot be read: {quoted(why).rstrip('.')}. The file is truncated or damaged: write it "
        "again, compare its size and sha256 with what was received, and upload it once more.",
    )
