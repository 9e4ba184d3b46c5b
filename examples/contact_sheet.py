"""A picture of samples: each image, the label given and the model's, its score; red where flipped."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from diffin.models import Score

COLUMNS, IMAGE, GAP, TEXT, HEAD = 5, 120, 16, 44, 64  # pixels
RED, GREY, INK, PAPER = "#c62828", "#b0bec5", "#263238", "#ffffff"


def contact_sheet(
    file: Path, title: str, note: str, rows: Sequence[Score], images: Sequence[bytes], flipped: Sequence[bool]
) -> None:
    """Writes one tile a row, in their order. `images` are PNGs."""
    lines = -(-len(rows) // COLUMNS)
    width, height = GAP + COLUMNS * (IMAGE + GAP), HEAD + lines * (IMAGE + TEXT + GAP)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    large, small = ImageFont.load_default(18), ImageFont.load_default(13)
    draw.text((GAP, 12), title, INK, large)
    draw.text((GAP, 38), note, INK, small)
    for place, (row, png, wrong) in enumerate(zip(rows, images, flipped, strict=True)):
        x = GAP + place % COLUMNS * (IMAGE + GAP)
        y = HEAD + place // COLUMNS * (IMAGE + TEXT + GAP)
        picture = Image.open(io.BytesIO(png)).convert("RGB").resize((IMAGE, IMAGE), Image.Resampling.BICUBIC)
        sheet.paste(picture, (x, y))
        colour = RED if wrong else GREY
        draw.rectangle((x - 3, y - 3, x + IMAGE + 2, y + IMAGE + 2), outline=colour, width=3)
        labels = f"given {row.label:g}, model {row.predicted_label:g}"
        draw.text((x, y + IMAGE + 5), labels, RED if wrong else INK, small)
        draw.text((x, y + IMAGE + 22), f"{row.score:+.2e}" + ("  flipped" if wrong else ""), INK, small)
    sheet.save(file)
