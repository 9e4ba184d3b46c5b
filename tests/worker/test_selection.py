"""What a selection warns of."""

from __future__ import annotations

from dataclasses import replace

from worker.selection import Selecting

ASKED = Selecting("se", "clean", {"auto": True}, None, 200, "job", "diff_in", rank_only=False, query=None)


def test_more_wrong_labels_than_right_ones_are_doubted() -> None:
    assert [one["code"] for one in replace(ASKED, wrong=101).warnings] == ["mostly_wrong"]
    assert replace(ASKED, wrong=100).warnings == [] == ASKED.warnings
