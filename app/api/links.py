"""OpenAPI links: what may be asked next of what an answer has made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# where what is made is found, if that is not below where it was asked for
ELSEWHERE = {
    "/v1/jobs/{job_id}/selections": "/v1/selections/{selection_id}",
    "/v1/api-keys/{key_id}/rotate": "/v1/api-keys/{key_id}",
}
OPERATIONS = ("get", "put", "patch", "post", "delete")


def add(paths: dict[str, Any]) -> None:
    """Adds to each POST that makes something links to all that can be asked of it by the answer's `id`."""
    for path, operations in paths.items():
        found = _found_at(path, paths)
        made = [answer for status, answer in _answers(operations) if status in ("201", "202")]
        if found is None or not made:
            continue
        known = {name: f"$request.path.{name}" for name in _names(path)}
        known[_names(found)[-1]] = "$response.body#/id"
        links = dict(_links(paths, found, known))
        for answer in made:
            answer["links"] = links


def _found_at(path: str, paths: Mapping[str, Any]) -> str | None:
    below = (one for one in paths if re.fullmatch(re.escape(path) + r"/\{\w+\}", one))
    return ELSEWHERE.get(path) or next(below, None)


def _answers(operations: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return list(operations.get("post", {}).get("responses", {}).items())


def _links(
    paths: Mapping[str, Any], found: str, known: Mapping[str, str]
) -> list[tuple[str, dict[str, Any]]]:
    """(name, link) of each operation on what is `found` there, or below it."""
    links = []
    for path in paths:
        if path != found and not path.startswith(f"{found}/"):
            continue
        parameters = {name: known[name] for name in _names(path) if name in known}
        for method in OPERATIONS:
            if operation := paths[path].get(method):
                told = {"operationId": operation["operationId"], "parameters": parameters}
                links.append((operation["operationId"], told | {"description": operation["summary"]}))
    return links


def _names(path: str) -> list[str]:
    """The parameters of a path."""
    return re.findall(r"\{(\w+)\}", path)
