"""Keyset pages: `{"data": […], "next_cursor": "…" | null}`.

A cursor holds the position of the last row and is signed together with the list, its filters and its order,
so that one of another list is refused instead of giving a page of nonsense.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from fastapi import Depends, Query, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from app.api.deps import Config
from app.api.problems import ApiProblem

MOST = 1000
SIGNATURE = 16  # bytes

T = TypeVar("T")
Row = TypeVar("Row")


class Page(BaseModel, Generic[T]):
    """One page of a list; `next_cursor` is null on the last."""

    data: list[T]
    next_cursor: str | None = Field(None, description="Give it as `cursor` to go on.")


def answered(rows: Sequence[Any], cursor: str | None) -> Response:
    """A page of sound rows, models or what fills one: made JSON once, and not checked before."""
    body = to_json({"data": rows, "next_cursor": cursor}, inf_nan_mode="null")
    return Response(body, media_type="application/json")


class Paging(NamedTuple):
    """The page asked for, and the key that signs its cursors."""

    limit: int
    cursor: str | None
    secret: bytes

    def after(self, *binding: Any) -> list[Any] | None:
        """The position to go on from, None at the start.

        Args:
            binding: what the cursor belongs to: the list, its filters and its order.

        Raises:
            ApiProblem: 400 `invalid_cursor`.
        """
        if self.cursor is None:
            return None
        try:
            sealed = base64.urlsafe_b64decode(self.cursor + "=" * (-len(self.cursor) % 4))
        except ValueError:
            sealed = b""
        signature, position = sealed[:SIGNATURE], sealed[SIGNATURE:]
        if not hmac.compare_digest(signature, _sign(self.secret, position, binding)):
            detail = (
                "This cursor is not of this list with these filters and this order; start again without it."
            )
            raise ApiProblem(400, "invalid_cursor", detail, errors=[("query:cursor", detail)])
        found: list[Any] = json.loads(position)
        return found

    def cut(
        self, rows: Sequence[Row], position: Callable[[Row], Sequence[Any]], *binding: Any
    ) -> tuple[Sequence[Row], str | None]:
        """(the page's rows, the cursor that goes on after them when more follow), from up to limit + 1 rows.

        Args:
            position: what tells where a row stands.
            binding: as given to `after`.
        """
        page = rows[: self.limit]
        if len(rows) <= self.limit:
            return page, None
        packed = json.dumps(list(position(page[-1])), separators=(",", ":")).encode()
        sealed = _sign(self.secret, packed, binding) + packed
        return page, base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def _sign(secret: bytes, position: bytes, binding: Sequence[Any]) -> bytes:
    message = json.dumps(binding).encode() + b"\n" + position
    return hmac.new(secret, message, hashlib.sha256).digest()[:SIGNATURE]


async def _paging(
    settings: Config,
    limit: Annotated[int, Query(ge=1, description=f"Rows a page; lowered to {MOST} when larger.")] = 100,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
) -> Paging:
    return Paging(min(limit, MOST), cursor, settings.secret)


PageOf = Annotated[Paging, Depends(_paging)]
