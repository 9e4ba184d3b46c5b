"""How a canonical data set's samples are read: as images, features or tokens.

A canonical uint8 sample is an image exactly when its shape is [H, W, C] with C of 1, 3 or 4; images of other
types are [C, H, W], or [H, W] with one channel understood.
"""

from __future__ import annotations

from math import prod

Shape = tuple[int, ...]

CHANNELS = (1, 3, 4)
INTEGERS = ("uint8", "int64")


def image_shape(shape: Shape, dtype: str) -> Shape | None:
    """[C, H, W] of a sample of this shape and type as a network is given it, or None where it is no image."""
    if dtype == "uint8":
        return (shape[2], shape[0], shape[1]) if len(shape) == 3 and shape[2] in CHANNELS else None
    if len(shape) == 2:
        return (1, *shape)
    return shape if len(shape) == 3 else None


def words(shape: Shape) -> str:
    return " x ".join(map(str, shape)) or "a single number"


def check_features(in_features: int, shape: Shape) -> str | None:
    if prod(shape) == in_features:
        return None
    return f"samples of {words(shape)} hold {prod(shape)} values; the network's in_features is {in_features}."


def check_image(channels: int, size: list[int] | None, smallest: int, shape: Shape, dtype: str) -> str | None:
    image = image_shape(shape, dtype)
    if image is None:
        return (
            f"samples of {words(shape)} ({dtype}) are no images. Give uint8 [N, H, W] or [N, H, W, C] with "
            "C of 1, 3 or 4, or float [N, C, H, W]."
        )
    if image[0] != channels:
        told = f"images have {image[0]} channel(s), but the network's in_channels is {channels}."
        if dtype != "uint8" and shape[-1] == channels and len(shape) == 3:
            told += " Floats have their channels first: send [N, C, H, W], not [N, H, W, C]."
        return told
    if size is not None and list(image[1:]) != size:
        return f"images are {words(image[1:])}, but the network's image_size is {words(tuple(size))}."
    if min(image[1:]) < smallest:
        return (
            f"images are {words(image[1:])}, but this network halves them down to nothing below {smallest}."
        )
    return None


def check_tokens(
    vocab_size: int, max_length: int, shape: Shape, dtype: str, maximum: int | None, minimum: int | None
) -> str | None:
    if dtype not in INTEGERS or len(shape) != 1:
        return f"samples of {words(shape)} ({dtype}) are no token ids. Give integers [N, L]."
    if shape[0] > max_length:
        return f"samples are {shape[0]} tokens long, but the network's max_length is {max_length}."
    if minimum is not None and minimum < 0:
        return f"token ids go down to {minimum}; they must be 0 or more (pad with pad_id)."
    if maximum is not None and maximum >= vocab_size:
        return f"token ids go up to {maximum}, but the network's vocab_size is {vocab_size} (ids from 0)."
    return None
