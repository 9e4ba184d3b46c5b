"""Property tests of the hostile suite: a few examples in the quick one, many in the slow one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import SearchStrategy

QUICK, SLOW = 25, 1000


def examples(*drawn: SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """The test gets a folder, and an example of each strategy."""
    fixtures = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]

    def decorate(test: Callable[..., None]) -> Any:
        @pytest.mark.parametrize("count", [QUICK, pytest.param(SLOW, marks=pytest.mark.slow)])
        def many(count: int, tmp_path: Path) -> None:
            asked = settings(max_examples=count, deadline=None, suppress_health_check=fixtures)
            asked(given(*drawn)(test))(tmp_path)

        many.__name__, many.__doc__ = test.__name__, test.__doc__
        return many

    return decorate
