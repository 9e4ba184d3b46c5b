"""Files that clients name by `uri`: only below the prefixes that the operator allowed, letter by letter.

A prefix ends in a slash and is compared as it is written: user, host, port and bucket are the operator's own
words, and nothing that a client adds can change them. What comes after it is a path of plain names, so that
no decoding, joining or normalising further on can lead out of the prefix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from app import addresses

WEB = ("https", "http")
SCHEMES = ("s3", "file", *WEB)
PROJECT = "{project}"  # in a prefix: the id of whoever asks
MOST_PATH = 1024  # bytes; of an object's key in S3
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,62}")
PLAIN = re.compile(r"[A-Za-z0-9._~!$&'()*+,=:@%-]+")  # in an address; no semicolon, where some servers cut it
UNWANTED = "/\\?#%\ufffd"  # in a name as it is read; the last is what escapes of no text are read as


class UriRefusedError(Exception):
    """The service takes no file from there; the words say why, and from where it does."""


class Named(NamedTuple):
    """A file of a store: `prefix` is the operator's word, `path` what a client named below it."""

    prefix: str
    path: str

    @property
    def scheme(self) -> str:
        return self.prefix.partition(":")[0]

    @property
    def uri(self) -> str:
        return self.prefix + self.path

    @property
    def filename(self) -> str:
        """The last name of the path, as people read it."""
        name = self.path.rpartition("/")[2]
        return unquote(name) if self.scheme in WEB else name


def prefixes(text: str) -> tuple[str, ...]:
    """The prefixes of a comma-separated list, each with a slash at its end. Raises ValueError for others."""
    given = [one.strip() for one in text.split(",") if one.strip()]
    return tuple(_checked(one if one.endswith("/") else f"{one}/") for one in given)


def of_project(allowed: Iterable[str], project_id: str) -> tuple[str, ...]:
    """The prefixes as they hold for a project."""
    return tuple(prefix.replace(PROJECT, project_id) for prefix in allowed)


def top_of(prefix: str) -> str:
    """What the prefixes of all projects lie below."""
    top = prefix.partition(PROJECT)[0]
    return top[: top.rindex("/") + 1]


def named(uri: str, allowed: Sequence[str]) -> Named:
    """The file that a `uri` names.

    Args:
        allowed: prefixes, as `of_project` gives them.

    Raises:
        UriRefusedError: it is below none of them, or its path is not one of plain names.
    """
    if not allowed:
        raise UriRefusedError("This service takes files from no store: upload the file instead.")
    prefix = max((one for one in allowed if uri.startswith(one)), key=len, default=None)
    if prefix is None:
        raise UriRefusedError(
            f"It is in no store that the operator allowed; files are taken from below {', '.join(allowed)}"
        )
    found = Named(prefix, uri.removeprefix(prefix))
    if fault := _fault(found.scheme, found.path):
        raise UriRefusedError(f"{fault} A file is named by its path below {prefix}")
    return found


def refuse_own(allowed: Iterable[str], own: Iterable[Path], blob_url: str) -> None:
    """Raises ValueError where clients could read what the service itself keeps below a prefix.

    Args:
        own: its files and folders.
        blob_url: where its blobs lie.
    """
    own, blobs = [path.resolve() for path in own], f"{blob_url.rstrip('/')}/"
    for prefix in allowed:
        top = top_of(prefix)
        if top.startswith("file:"):
            folder = Path(top.removeprefix("file://")).resolve()
            within = (one for one in own if folder in (one, *one.parents) or one in folder.parents)
            clash = str(next(within, ""))
        else:
            clash = blob_url if top.startswith(blobs) or blobs.startswith(top) else ""
        if clash:
            raise ValueError(
                f"DIFFIN_URI_PREFIXES: below {prefix} clients could read what the service keeps in {clash}: "
                "allow a folder or prefix apart from it"
            )


def _checked(prefix: str) -> str:
    """The prefix. Raises ValueError where it is none."""
    scheme, _, rest = prefix.partition("://")
    place, _, path = rest.partition("/")
    fault = _fault(scheme, path[:-1].replace(PROJECT, "p")) if path else None
    if scheme not in SCHEMES:
        fault = f"It begins with none of {', '.join(f'{one}://' for one in SCHEMES)}."
    elif scheme == "s3" and not BUCKET.fullmatch(place):
        fault = "It names no bucket."
    elif scheme == "file" and place:
        fault = "It names a machine: a folder is file:///folder/."
    elif scheme in WEB:
        try:
            addresses.parsed(f"{scheme}://{place}/", plain=True)
        except addresses.AddressRefusedError as refused:
            fault = f"As an address, {refused}."
    if fault:
        raise ValueError(f"DIFFIN_URI_PREFIXES: {prefix!r} is no prefix of files. {fault}")
    return prefix


def _fault(scheme: str, path: str) -> str | None:
    """What keeps a path from being one of plain names, if anything does."""
    if len(path.encode(errors="surrogatepass")) > MOST_PATH:
        return f"Its path has more than {MOST_PATH:,} bytes."
    if not path:
        return "It names no file."
    for name in path.split("/"):
        read = unquote(name) if scheme in WEB else name
        if read in ("", ".", ".."):
            return "Its path has an empty name, or one of dots."
        if not read.isprintable() or any(one in read for one in UNWANTED):
            return f"{name!r} holds one of / \\ ? # %, or what cannot be printed."
        if scheme in WEB and not PLAIN.fullmatch(name):
            return f"{name!r} holds what is written as a %-escape in an address, or a semicolon."
    return None
