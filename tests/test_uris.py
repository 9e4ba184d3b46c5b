"""Which files clients may name by `uri`: those below the operator's prefixes, by plain paths, no others."""

from __future__ import annotations

from pathlib import Path

import pytest

from app import uris
from app.settings import Settings

GIVEN = (
    "s3://data/sets, file:///srv/shared/,https://files.example.com/pub/,s3://teams/{project}/,http://store:81"
)
ALLOWED = uris.of_project(uris.prefixes(GIVEN), "team.a")


@pytest.mark.parametrize(
    ("uri", "prefix", "filename"),
    [
        ("s3://data/sets/a.npz", "s3://data/sets/", "a.npz"),
        ("s3://data/sets/2026/my data é+=&.npz", "s3://data/sets/", "my data é+=&.npz"),
        ("s3://data/sets/..a/b..c/...npz", "s3://data/sets/", "...npz"),
        ("file:///srv/shared/a.csv", "file:///srv/shared/", "a.csv"),
        ("https://files.example.com/pub/my%20data.npz", "https://files.example.com/pub/", "my data.npz"),
        ("https://files.example.com/pub/%C3%A9/@b:c.npz", "https://files.example.com/pub/", "@b:c.npz"),
        ("s3://teams/team.a/a.npz", "s3://teams/team.a/", "a.npz"),
        ("http://store:81/a.npz", "http://store:81/", "a.npz"),
    ],
)
def test_a_plain_path_below_a_prefix_is_taken(uri: str, prefix: str, filename: str) -> None:
    found = uris.named(uri, ALLOWED)
    assert (found.prefix, found.filename, found.uri) == (prefix, filename, uri)


ELSEWHERE = [
    "s3://data/other/a.npz",
    "s3://data/setsuna/a.npz",
    "s3://data/sets",
    "s3://Data/sets/a.npz",
    "S3://data/sets/a.npz",
    "s3:/data/sets/a.npz",
    "s3://data//sets/a.npz",
    "s3://data@evil/sets/a.npz",
    "s3://evil/data/sets/a.npz",
    "s3://teams/team.b/a.npz",
    "s3://teams/{project}/a.npz",
    "gs://data/sets/a.npz",
    "file:///etc/passwd",
    "file:/srv/shared/a.npz",
    "file://localhost/srv/shared/a.npz",
    "file:////srv/shared/a.npz",
    "/srv/shared/a.npz",
    "http://files.example.com/pub/a.npz",
    "https://files.example.com:444/pub/a.npz",
    "https://files.example.com.evil.net/pub/a.npz",
    "https://files.example.com@evil.net/pub/a.npz",
    "https://user:word@files.example.com/pub/a.npz",
    "https://files.example.com\\@evil.net/pub/a.npz",
    "https://files.example.com%2fpub/a.npz",
    "https://evil.net/https://files.example.com/pub/a.npz",
    "https://evil.net#https://files.example.com/pub/a.npz",
    " https://files.example.com/pub/a.npz",
    "https:\n//files.example.com/pub/a.npz",
    "ftp://files.example.com/pub/a.npz",
    "data:text/plain,a",
    "",
]
PATHS = [
    "",
    "/",
    "/a.npz",
    "a/",
    "a//b.npz",
    ".",
    "..",
    "../a.npz",
    "a/../../../etc/passwd",
    "./a.npz",
    "a/.",
    "a/..",
    "..\\..\\a.npz",
    "a\\b.npz",
    "%2e%2e/a.npz",
    "%2E%2e/a.npz",
    ".%2e/a.npz",
    "%252e%252e/a.npz",
    "a%2f..%2fb.npz",
    "a%5cb.npz",
    "a%00.npz",
    "a\x00.npz",
    "a\n.npz",
    "a%0d%0aHost:%20evil.net",
    "a\r\nHost: evil.net",
    "a%c0%ae.npz",
    "a%.npz",
    "a\u202egpz.npz",
    "a\ud800.npz",
    "a.npz?versionId=1",
    "a.npz?X-Amz-Signature=1",
    "a.npz#b",
    "a%3fb.npz",
    "a%23b.npz",
    "b" * 1025,
]


@pytest.mark.parametrize("uri", ELSEWHERE, ids=ascii)
def test_what_is_below_no_prefix_is_refused_with_those_that_are(uri: str) -> None:
    with pytest.raises(uris.UriRefusedError) as refused:
        uris.named(uri, ALLOWED)
    assert all(prefix in str(refused.value) for prefix in ALLOWED)


@pytest.mark.parametrize(
    "prefix", ["s3://data/sets/", "file:///srv/shared/", "https://files.example.com/pub/"]
)
@pytest.mark.parametrize("path", PATHS, ids=lambda path: ascii(path)[:40])
def test_a_path_that_is_not_of_plain_names_is_refused(prefix: str, path: str) -> None:
    with pytest.raises(uris.UriRefusedError) as refused:
        uris.named(prefix + path, ALLOWED)
    assert prefix in str(refused.value)


@pytest.mark.parametrize(
    "path", ["..;/a.npz", "a;b.npz", "a b.npz", "é.npz", "a|b.npz", '"a".npz', "{a}.npz"]
)
def test_an_address_of_the_web_holds_what_addresses_may(path: str) -> None:
    with pytest.raises(uris.UriRefusedError):
        uris.named(f"https://files.example.com/pub/{path}", ALLOWED)


def test_the_longest_prefix_counts_and_without_any_nothing_is_taken() -> None:
    two = uris.prefixes("s3://data,s3://data/sets")
    assert uris.named("s3://data/sets/a.npz", two) == ("s3://data/sets/", "a.npz")
    with pytest.raises(uris.UriRefusedError, match="from no store"):
        uris.named("s3://data/sets/a.npz", ())


@pytest.mark.parametrize(
    "given",
    [
        *("gs://data/", "data", "s3://", "s3:///data/", "s3://a b/", "s3://{project}/", "s3://data/../x/"),
        *(
            "file://machine/folder/",
            "file:///srv//x/",
            "file:///srv/%2e/",
            "https://",
            "https://u:p@a.example/",
        ),
        *("https://a.example/?x=1", "https://a.example/#x", "https://a.example:99999/", "ftp://a.example/"),
    ],
)
def test_what_is_no_prefix_is_told_when_the_service_starts(given: str) -> None:
    with pytest.raises(ValueError, match="DIFFIN_URI_PREFIXES"):
        Settings(uri_prefixes=f"s3://good/,{given}")


def test_no_prefix_leads_to_what_the_service_keeps(tmp_path: Path) -> None:
    own, key, link = tmp_path / "own", tmp_path / "keys" / "first", tmp_path / "link"
    own.mkdir()
    link.symlink_to(own)
    at = f"file://{tmp_path}"
    blobs = "s3://bucket/blobs"
    for given in (
        *(
            "file:///",
            f"{at}/",
            f"{at}/own",
            f"{at}/own/blobs",
            f"{at}/link/",
            f"{at}/keys",
            f"{at}/{{project}}/",
        ),
        *("s3://bucket", "s3://bucket/blobs", "s3://bucket/blobs/aa", "s3://bucket/{project}", f"{at}/db"),
    ):
        with pytest.raises(ValueError, match="could read what the service keeps"):
            Settings(
                data_dir=own,
                api_key_file=key,
                blob_url=blobs,
                database_url=f"sqlite:///{tmp_path}/db/diffin.db",
                uri_prefixes=given,
            )
    for given in (f"{at}/owner/", "s3://bucket/blobsy/", "s3://bucket/sets/", "s3://other/"):
        Settings(data_dir=own, api_key_file=key, blob_url=blobs, uri_prefixes=given)
    with pytest.raises(ValueError, match="could read"):
        Settings(data_dir=own, blob_url=f"file://{tmp_path}/kept", uri_prefixes=f"{at}/kept/aa/")
