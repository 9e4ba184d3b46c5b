"""The service's two shapes, as parameters of a fixture: SQLite and files; PostgreSQL and Redis."""

from __future__ import annotations

import pytest

# The contract's walk and a job's life are shown of both each time; of what stands on them one is enough.
BOTH = [
    pytest.param("embedded_service", id="embedded", marks=pytest.mark.slow),
    pytest.param("production_service", id="production"),
]
