"""The page of supported operators, and the list that the front end tells, say what there is."""

from __future__ import annotations

from app.catalog import graph
from tools.list_operators import LIST, PAGE, module, page
from worker.loading.onnx_checks import EXPORT

STALE = "run: python tools/list_operators.py"


def test_the_page_of_operators_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), STALE


def test_the_list_of_the_front_end_is_up_to_date() -> None:
    assert LIST.read_text() == module(), STALE


def test_both_say_the_same_way_to_export() -> None:
    assert graph.EXPORT == EXPORT
