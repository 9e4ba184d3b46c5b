"""What of a job's samples somebody looks at: an order, a filter and a page, all in the address."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple
from urllib.parse import urlencode

from fastapi import Depends, Query

from app.api.problems import ApiProblem
from app.api.scores import Order
from app.store.columns import Filter
from app.store.scored import Scored

SIZE = 60  # samples a page
ORDERS: tuple[Order, ...] = ("harmful", "helpful", "suspicion", "self_influence", "index")
MEASURED = {"suspicion": "suspicion", "self_influence": "self_influence"}  # order → what it is by, else score


class View(NamedTuple):
    """An order, a filter and a page (from 1) of a job's samples."""

    order: Order
    label: float | None
    predicted: float | None
    differing: bool
    least: float | None
    most: float | None
    page: int

    @property
    def by(self) -> str:
        """The column that the order goes by, and that `least` and `most` bound."""
        return MEASURED.get(self.order, "score")

    @property
    def filter(self) -> Filter:
        return Filter(self.label, self.predicted, self.differing, self.by, self.least, self.most)

    @property
    def filtered(self) -> bool:
        return self._replace(order="harmful", page=1) != ALL

    def query(self, **changes: Any) -> str:
        """The view as an address's query, with changes; another filter or order begins at page 1."""
        view = self._replace(**{"page": 1, **changes})
        page = [("page", view.page)] if view.page > 1 else []
        return "?" + urlencode(view.fields() + page)

    def fields(self) -> list[tuple[str, Any]]:
        """Order and filter as the fields of a form."""
        told = {
            "order": self.order,
            "label": self.label,
            "predicted": self.predicted,
            "differing": "1" if self.differing else None,
            "min": self.least,
            "max": self.most,
        }
        return [(name, _plain(value)) for name, value in told.items() if value is not None]


ALL = View("harmful", None, None, False, None, None, 1)


def orders(scored: Scored) -> list[Order]:
    """The orders that the job can be looked at in."""
    result = scored.job.result or {}
    return [order for order in ORDERS if order not in MEASURED or result.get(order)]


def checked(view: View, scored: Scored) -> View:
    """The view, in an order that the job has."""
    return view if view.order in orders(scored) else view._replace(order="harmful")


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number(text: str | None, name: str) -> float | None:
    """A number out of a form, where an empty field is none."""
    if text is None or not text.strip():
        return None
    try:
        value = float(text)
    except ValueError:
        raise ApiProblem(422, "validation_error", f"{name} is no number: {text[:40]!r}.") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise ApiProblem(422, "validation_error", f"{name} must be a finite number.")
    return value


def _view(
    order: Annotated[Order, Query()] = "harmful",
    label: str | None = None,
    predicted: str | None = None,
    differing: str | None = None,
    least: Annotated[str | None, Query(alias="min")] = None,
    most: Annotated[str | None, Query(alias="max")] = None,
    page: Annotated[int, Query(ge=1, le=10**9)] = 1,
) -> View:
    return View(
        order,
        _number(label, "label"),
        _number(predicted, "predicted"),
        differing == "1",
        _number(least, "min"),
        _number(most, "max"),
        page,
    )


ViewOf = Annotated[View, Depends(_view)]
