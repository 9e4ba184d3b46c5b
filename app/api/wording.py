"""Where a body is wrong and how, in the words of the API instead of those of what parsed it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any

from app.catalog import ARCHITECTURES, METHODS

MOST_KEY = 300  # characters of a key of a body
# names of kinds, by the field that takes one
KNOWN: Mapping[str, Iterable[str]] = {"architecture": ARCHITECTURES, "method": METHODS}


def pointer(error: Mapping[str, Any], body: Any) -> str:
    """Where the error is. Pydantic names the member of a union on the way; the body has no such name."""
    source, *path = error["loc"]
    if source != "body":
        return ":".join(map(str, error["loc"]))
    if not path and error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return f"/{_discriminator(error)}"  # the body itself is one of several kinds
    kept, here = [], body
    for at, key in enumerate(path):
        try:
            here = here[key]
        except (KeyError, IndexError, TypeError):
            if at + 1 < len(path) or error["type"] != "missing":
                continue
        kept.append(_short(str(key)).replace("~", "~0").replace("/", "~1"))
    if error["type"] == "union_tag_not_found":
        kept.append(_discriminator(error))  # what is missing lies in what was found
    return "".join(f"/{key}" for key in kept)


def _short(key: str) -> str:
    return key if len(key) <= MOST_KEY else f"{key[:MOST_KEY]}…"


def _discriminator(error: Mapping[str, Any]) -> str:
    """The field that tells the members of a union apart."""
    return str(error["ctx"]["discriminator"]).strip("'")


def words(error: Mapping[str, Any]) -> str:
    """What is wrong there, in one sentence."""
    context = error.get("ctx", {})
    match error["type"]:
        case "union_tag_invalid":
            what = error["loc"][-1] if len(error["loc"]) > 1 else _discriminator(error)
            return f"unknown {what} '{_short(context['tag'])}'; known: {context['expected_tags']}"
        case "union_tag_not_found":
            known = ", ".join(map(repr, KNOWN.get(error["loc"][-1], ())))
            return f"is required; one of {known}" if known else "is required"
        case "model_attributes_type":
            return "should be an object"
        case "extra_forbidden":
            return "unknown field: misspelt, or not of this kind"
        case "missing":
            return "is required"
        case _:
            return str(error["msg"]).replace(" after validation, not ", ", not ")


def unreadable(cause: BaseException) -> str:
    """Why a body is no JSON that can be read, where it may be JSON by its grammar."""
    if isinstance(cause, RecursionError):
        return "The body is not JSON that can be read: it is nested too deeply."
    if isinstance(cause, UnicodeDecodeError):
        return f"The body is not JSON: it is not {cause.encoding.upper()} at byte {cause.start}."
    return (
        f"The body is not JSON that can be read: an integer has over {sys.get_int_max_str_digits():,} digits."
    )
