"""API keys: who may come in. All of this wants a key with the scope `admin`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from diffin.calls.base import Calls
from diffin.models import Json, id_of

SCOPES = ("read", "write", "admin")


@dataclass(frozen=True)
class ApiKey:
    """A key of the service; `key` is its text, known only where it was just made."""

    id: str
    name: str
    project_id: str
    scopes: tuple[str, ...] = ()
    status: str = "live"
    key: str | None = None
    created_at: datetime | None = None
    last_used_at: datetime | None = None
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    replaced_by: str | None = None


class KeyCalls(Calls):
    def create_key(
        self,
        name: str,
        scopes: Sequence[str] = ("read", "write"),
        *,
        expires_in: float | None = None,
        project: str | None = None,
    ) -> ApiKey:
        """Makes a key. Its text is in the answer, and nowhere else ever again.

        Args:
            expires_in: seconds until it opens nothing any more; else it lives until it is revoked.
            project: another project than one's own, which only an admin of `default` may name.
        """
        body: Json = {"name": name, "scopes": list(scopes), "project_id": project}
        body["expires_in_seconds"] = None if expires_in is None else int(expires_in)
        return self._read(ApiKey, self._transport.send("POST", "/v1/api-keys", json=body))

    def keys(
        self, *, status: str | None = None, project: str | None = None, limit: int | None = None
    ) -> Iterator[ApiKey]:
        """Newest first, those that are over as well; `status`: only live, expired or revoked ones."""
        return self._pages(ApiKey, "/v1/api-keys", {"status": status, "project_id": project}, limit)

    def rotate_key(self, key: str | ApiKey, *, overlap: float = 24 * 3600) -> ApiKey:
        """A key that may do the same; the old one is good for `overlap` seconds more."""
        body = {"overlap_seconds": int(overlap)}
        return self._read(
            ApiKey, self._transport.send("POST", f"/v1/api-keys/{id_of(key)}/rotate", json=body)
        )

    def revoke_key(self, key: str | ApiKey) -> None:
        """Ends a key at once, and the sessions of the page begun with it."""
        self._transport.send("DELETE", f"/v1/api-keys/{id_of(key)}")
