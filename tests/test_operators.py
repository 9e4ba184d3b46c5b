"""The page of supported operators says what there is."""

from __future__ import annotations

from tools.list_operators import PAGE, page


def test_the_page_of_operators_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: python tools/list_operators.py"
