"""What every model of the catalog shares."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Strict(BaseModel):
    """Refuses unknown keys, NaN, and values of another type: no misspelt option passes silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def refusal(words: str) -> PydanticCustomError:
    """An error to raise in a validator: a ValueError's message would be prefixed with "Value error, "."""
    return PydanticCustomError("invalid_value", "{words}", {"words": words})
