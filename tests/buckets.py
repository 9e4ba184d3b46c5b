"""Buckets of the tests' S3 server, reached by the environment or by what a store is told."""

from __future__ import annotations

import uuid

import httpx
import pytest
from obstore.store import S3Store

from tests import servers


def made(server: str) -> str:
    """The name of an empty bucket that nobody else has."""
    name = f"test-{uuid.uuid4().hex}"
    httpx.put(f"{server}/{name}").raise_for_status()
    return name


def reached(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same, where this process finds it by its environment, as the service does."""
    for name, value in servers.s3_environment(server).items():
        monkeypatch.setenv(name, value)
    return made(server)


def store(server: str, name: str, prefix: str) -> S3Store:
    """What lies in a bucket below a prefix, whatever the environment says."""
    told = servers.s3_environment(server)
    return S3Store(
        name,
        prefix=prefix,
        endpoint=told["AWS_ENDPOINT_URL"],
        region=told["AWS_REGION"],
        access_key_id=told["AWS_ACCESS_KEY_ID"],
        secret_access_key=told["AWS_SECRET_ACCESS_KEY"],
        client_options={"allow_http": True},
    )
