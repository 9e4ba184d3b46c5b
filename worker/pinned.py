"""Requests to addresses that others gave: to where the name led when it was judged, and nowhere else."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache

import httpx

from app.addresses import Address


@asynccontextmanager
async def answered(
    method: str,
    url: str,
    address: Address,
    headers: Mapping[str, str],
    *,
    content: bytes | None = None,
    trust: ssl.SSLContext | None = None,
    silence: float | None = None,
) -> AsyncIterator[httpx.Response]:
    """The answer, whose body is yet to be read. The connection goes to `address`; `Host` and the certificate
    are the name's. No redirect is followed, and no proxy of the environment is asked.

    Args:
        trust: whose certificates count; those of the public ones unless given.
        silence: seconds that may pass without a byte; any number, for callers that have a bound of their own.
    """
    named = httpx.URL(url)
    to = named.copy_with(host=str(address))
    sent = {**headers, "Host": named.netloc.decode("ascii")}
    extensions = {"sni_hostname": named.raw_host.decode("ascii")}
    async with (
        httpx.AsyncClient(
            verify=trust or _public(), trust_env=False, follow_redirects=False, timeout=silence
        ) as client,
        client.stream(method, to, headers=sent, content=content, extensions=extensions) as answer,
    ):
        yield answer


@cache
def _public() -> ssl.SSLContext:
    return httpx.create_ssl_context()
