"""Whether files below a prefix of the operator's could be fetched, as far as this machine can tell."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import obstore
import uuid_utils
from obstore.exceptions import BaseError, PermissionDeniedError

from app import addresses, uris
from app.settings import Settings
from app.store.places import s3

TIMEOUT, PATIENCE = timedelta(seconds=20), timedelta(seconds=5)


def check(settings: Settings, prefix: str) -> None:
    """Raises OSError where the store does not answer, or is none that the settings allow."""
    top = uris.top_of(prefix)
    scheme, place, path, *_ = urlsplit(top)
    try:
        if scheme == "file":
            next(Path(path).iterdir(), None)
        elif scheme == "s3":
            with suppress(FileNotFoundError, PermissionDeniedError):  # who may not list is told no more
                obstore.head(s3(place, path, TIMEOUT, PATIENCE), str(uuid_utils.uuid7()))
        else:
            addresses.resolved(addresses.parsed(top, plain=True), settings.uri_networks)
    except (BaseError, addresses.AddressRefusedError) as problem:
        raise OSError(str(problem)) from problem
