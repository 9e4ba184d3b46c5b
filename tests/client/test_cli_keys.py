"""`diffin keys`: made, listed, rotated and revoked from the shell."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from diffin import Diffin
from diffin.cli import main
from diffin.errors import DiffinError
from tests.services import Service


def printed(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_key_from_the_shell_opens_the_service_until_it_is_revoked(embedded_service: Service) -> None:
    url = embedded_service.url
    diffin = CliRunner(env={"DIFFIN_URL": url, "DIFFIN_API_KEY": embedded_service.key, "COLUMNS": "200"})
    made = diffin.invoke(main, ["keys", "create", "nightly", "--scope", "read", "--days", "30"])
    text, key_id = printed(made).strip(), made.stderr.split()[0]
    assert key_id.startswith("key_")
    with Diffin(url, text) as reader:
        assert list(reader.jobs(limit=1)) is not None
        with pytest.raises(DiffinError, match="admin"):
            list(reader.keys())
    rotated = diffin.invoke(main, ["keys", "rotate", key_id, "--overlap-hours", "0"])
    newer, newer_id = printed(rotated).strip(), rotated.stderr.split()[0]
    with Diffin(url, text) as reader, pytest.raises(DiffinError, match="No live API key"):
        list(reader.jobs(limit=1))
    live, everything = (printed(diffin.invoke(main, ["keys", "list", *more])) for more in ([], ["--all"]))
    assert newer_id in live
    assert key_id not in live
    assert key_id in everything
    assert newer not in everything
    assert "revoked" in printed(diffin.invoke(main, ["keys", "revoke", newer_id]))
    with Diffin(url, newer) as reader, pytest.raises(DiffinError, match="No live API key"):
        list(reader.jobs(limit=1))
    refused = diffin.invoke(main, ["keys", "revoke", "key_nobody"])
    assert refused.exit_code == 1
    assert "key_nobody" in refused.stderr
