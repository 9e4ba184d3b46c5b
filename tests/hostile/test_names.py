"""Names that the API makes of what it is given: cursors, ETags and fingerprints of requests tell all apart."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from app.api.idempotency import _digest
from app.api.pagination import Paging
from app.api.problems import ApiProblem
from app.api.resources import _among
from tests.hostile.examples import examples

POSITION = st.lists(
    st.integers()
    | st.text(st.characters(codec="utf-8"))
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.none(),
    min_size=1,
    max_size=3,
)


@examples(
    POSITION, st.lists(st.text(), max_size=3), st.binary(min_size=1, max_size=40), st.integers(0, 10**6)
)
def test_cursors(folder: Path, position: list[Any], binding: list[str], secret: bytes, place: int) -> None:
    page, cursor = Paging(1, None, secret).cut([1, 2], lambda row: position, *binding)
    assert page == [1] and cursor is not None
    assert Paging(1, cursor, secret).after(*binding) == position
    sealed = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    sealed[place % len(sealed)] ^= 1 + place % 255
    broken = base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
    for one in (broken, cursor[:-4], os.urandom(20).hex()):
        with pytest.raises(ApiProblem):
            Paging(1, one, secret).after(*binding)
    with pytest.raises(ApiProblem):
        Paging(1, cursor, secret).after(*binding, "more")


TAG = st.text("0123456789abcdef", min_size=32, max_size=32).map('W/"{}"'.format)


@examples(st.lists(TAG, min_size=2, max_size=5, unique=True), st.booleans())
def test_etags(folder: Path, tags: list[str], strong: bool) -> None:
    own, *others = tags
    sent = [tag.removeprefix("W/") if strong else tag for tag in (*others, own)]
    assert _among(", ".join(sent), own)
    assert not _among(", ".join(others), own)
    assert _among("*", own)


@examples(st.lists(st.lists(st.text(), max_size=4), min_size=2, max_size=6, unique_by=tuple))
def test_fingerprints_of_requests(folder: Path, requests: list[list[str]]) -> None:
    """Those of different parts differ, however the same characters are spread over them."""
    assert len({_digest(*parts) for parts in requests}) == len(requests)
