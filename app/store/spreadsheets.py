"""Cells of a csv that people open in spreadsheets."""

from __future__ import annotations

RISKY = "=+-@＝＋－＠'\t\r\n"  # noqa: RUF001  (spreadsheets take the full-width ones too)


def harmless(text: str | None) -> str | None:
    """A cell that no spreadsheet takes for a formula, whatever its first character.

    Texts that begin with one of = + - @, a tab or the end of a line, after any spaces, get an apostrophe
    before them. So do those that begin with an apostrophe: whoever takes one off again has every text as it
    was.
    """
    return f"'{text}" if text and (text[0] in RISKY or text.lstrip()[:1] in tuple(RISKY)) else text
