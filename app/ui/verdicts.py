"""How decisions about samples read on their cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy.orm import Session

from app.store import decisions
from app.store.scored import Scored
from app.ui.cards import label_text


class Verdict(NamedTuple):
    """What is to be done with a sample, in a word or two."""

    action: str
    text: str


def verdict(scored: Scored, action: str, label: float | None) -> Verdict:
    """As `decide.js` says it."""
    texts = {"keep": "✓ keep", "remove": "✕ remove", "relabel": f"⇄ {label_text(scored, label)}"}
    return Verdict(action, texts[action])


def verdicts(session: Session, scored: Scored, key_id: str, indices: Sequence[int]) -> Mapping[int, Verdict]:
    """What the key decided about these samples."""
    found = decisions.some(session, scored.job.id, key_id, indices)
    return {index: verdict(scored, one.action, one.label) for index, one in found.items()}
