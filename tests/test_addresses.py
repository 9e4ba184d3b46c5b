"""Where the service may connect to on a client's word."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import pytest

from app.addresses import AddressRefusedError, allowed, networks, parsed, resolved

LOOPBACK = networks("127.0.0.0/8")


def answering(*addresses: str) -> Any:
    """A resolver that gives these addresses for every name."""
    return lambda _host, port, **_: [(socket.AF_INET, None, 6, "", (one, port)) for one in addresses]


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1"),
        "0.0.0.0",  # noqa: S104  (what must be refused)
        *("224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00::1", "ff0e::1"),
        *("::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "64:ff9b::a9fe:a9fe"),
    ],
)
def test_no_address_within_is_allowed_however_it_is_written(address: str) -> None:
    assert not allowed(ipaddress.ip_address(address), ())


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "64:ff9b::5db8:d70e"])
def test_public_addresses_are(address: str) -> None:
    assert allowed(ipaddress.ip_address(address), ())


def test_the_operator_may_allow_a_network() -> None:
    assert allowed(ipaddress.ip_address("127.0.0.1"), LOOPBACK)
    assert allowed(ipaddress.ip_address("::ffff:127.0.0.1"), LOOPBACK)
    assert not allowed(ipaddress.ip_address("10.0.0.1"), LOOPBACK)
    with pytest.raises(ValueError, match="home"):
        networks("127.0.0.0/8, home")


@pytest.mark.parametrize(
    "url",
    [
        *(
            "ftp://a.example",
            "file:///etc/passwd",
            "https://",
            "https://u:p@a.example",
            "https://a.example#f",
        ),
        *(
            "http://a.example",
            "https://a.example:99999",
            "https://[::1",
            "https://a b.example",
            "https://a:0",
        ),
    ],
)
def test_what_is_no_address_to_send_to_is_refused(url: str) -> None:
    with pytest.raises(AddressRefusedError):
        parsed(url, plain=False)


def test_one_address_within_spoils_a_name() -> None:
    parts = parsed("https://a.example/hook", plain=False)
    assert [str(one) for one in resolved(parts, (), answering("93.184.215.14"))] == ["93.184.215.14"]
    with pytest.raises(AddressRefusedError, match=r"10\.0\.0\.1"):
        resolved(parts, (), answering("93.184.215.14", "10.0.0.1"))
    with pytest.raises(AddressRefusedError, match="no address"):
        resolved(parts, (), answering())


@pytest.mark.parametrize(
    "host",
    [
        *("2130706433", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "127.1", "017700000001", "localhost"),
        *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:a9fe:a9fe]", "[::]", "0"),
        *("2852039166", "0xa9.0xfe.0xa9.0xfe", "127.0.0.1.", "LOCALHOST"),
    ],
)
def test_no_spelling_of_an_address_within_gets_past_the_real_resolver(host: str) -> None:
    """Decimal, octal, hexadecimal, short, mapped: what the resolver makes of it is what counts."""
    with pytest.raises(AddressRefusedError):
        resolved(parsed(f"https://{host}/hook", plain=False), ())


def test_plain_http_goes_only_where_the_operator_allowed_it() -> None:
    parts = parsed("http://a.example/hook", plain=True)
    assert resolved(parts, LOOPBACK, answering("127.0.0.1"))
    with pytest.raises(AddressRefusedError, match="https"):
        resolved(parts, LOOPBACK, answering("93.184.215.14"))
