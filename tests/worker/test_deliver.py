"""Sending webhooks: what goes out, how often, in which order, and where it does not go."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select, update
from standardwebhooks import Webhook, WebhookVerificationError

from app.settings import Settings
from app.store import sweeper, webhooks
from app.store.blobs import BlobStore
from app.store.db import Database, utcnow
from app.store.tables import WebhookDelivery, WebhookEndpoint, Work
from tests.receivers import Receiver, certified, receiving
from worker import deliver
from worker.deliver import Senders
from worker.process import Process

WAITS = (0.05, 0.05)


@pytest.fixture
def mine(database: Database, blobs: BlobStore, database_url: str, tmp_path: Path) -> Process:
    settings = Settings(
        data_dir=tmp_path,
        database_url=database_url,
        secret_key=SecretStr("of the tests"),
        webhook_allow="127.0.0.0/8",
        webhook_retry_seconds=WAITS,
        webhook_seconds=10,
        lease_seconds=1,
    )
    return Process(settings, database, blobs, "a worker")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as one:
        yield one


def endpoint(mine: Process, url: str, *events: str, project_id: str = "p") -> tuple[str, str]:
    """(id, secret) of a new endpoint."""
    with mine.database.transaction() as session:
        row = webhooks.create(session, project_id=project_id, url=url, events=list(events))
    return row.id, webhooks.secret(mine.settings.secret, row.salt)


def tell(
    mine: Process, subject: str = "job_1", kind: str = "job.succeeded", job_id: str | None = None
) -> None:
    with mine.database.transaction() as session:
        data = {"id": subject, "status": kind.partition(".")[2]}
        webhooks.emit(session, "p", kind, data, ordered_by=job_id)


def send_all(mine: Process, seconds: float = 30, lookup: Any = socket.getaddrinfo) -> None:
    """Sends what is due until nothing is pending."""
    end = time.monotonic() + seconds
    while deliveries(mine, "pending"):
        assert time.monotonic() < end, "messages are still pending"
        row = deliver.take(mine)
        if row is None:
            time.sleep(0.02)
        else:
            deliver.deliver(mine, row, lookup)


def deliveries(mine: Process, *status: str) -> list[WebhookDelivery]:
    with mine.database.snapshot() as session:
        query = select(WebhookDelivery).order_by(WebhookDelivery.id)
        rows = session.scalars(query.where(WebhookDelivery.status.in_(status)) if status else query)
        return list(rows.all())


def one(mine: Process, endpoint_id: str) -> WebhookEndpoint:
    with mine.database.snapshot() as session:
        return session.get_one(WebhookEndpoint, endpoint_id)


def test_a_message_is_signed_as_the_library_of_receivers_checks_it(mine: Process, receiver: Receiver) -> None:
    _, secret = endpoint(mine, receiver.url)
    tell(mine)
    send_all(mine)
    (message,) = receiver.verified(secret)
    assert message["type"] == "job.succeeded"
    assert message["data"] == {"id": "job_1", "status": "succeeded"}
    assert message["timestamp"].endswith("Z")
    with pytest.raises(WebhookVerificationError):
        receiver.verified(webhooks.secret(mine.settings.secret, b"another"))
    (row,) = deliveries(mine)
    assert (row.status, row.attempts, row.log[0]["status_code"]) == ("delivered", 1, 204)
    with mine.database.snapshot() as session:
        assert session.scalars(select(Work)).all() == []


def test_the_receiver_of_the_page_takes_each_message_once(mine: Process, receiver: Receiver) -> None:
    page = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
    assert all(f"`{event}`" in page for event in webhooks.EVENTS)
    names: dict[str, Any] = {}
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(example, names)  # noqa: S102  (our own page)
    _, secret = endpoint(mine, receiver.url)
    tell(mine)
    send_all(mine)
    ((headers, body),) = receiver.came
    assert names["received"](secret, headers, body) == {"id": "job_1", "status": "succeeded"}
    assert names["received"](secret, headers, body) is None
    with pytest.raises(WebhookVerificationError):
        names["received"](secret, headers, body.replace(b"job_1", b"job_2"))


def test_only_what_was_asked_for_comes_and_only_of_the_same_project(
    mine: Process, receiver: Receiver
) -> None:
    endpoint(mine, receiver.url, "job.failed")
    endpoint(mine, receiver.url, project_id="another")
    tell(mine, kind="job.succeeded")
    assert deliveries(mine) == []
    tell(mine, kind="job.failed")
    assert len(deliveries(mine)) == 1


def test_a_message_goes_with_its_transaction(mine: Process, receiver: Receiver) -> None:
    endpoint(mine, receiver.url)
    with pytest.raises(RuntimeError), mine.database.transaction() as session:
        webhooks.emit(session, "p", "job.succeeded", {"id": "job_1", "status": "succeeded"})
        raise RuntimeError("the state did not change after all")
    assert deliveries(mine) == []
    assert deliver.take(mine) is None


def test_while_a_secret_is_rotated_both_verify(mine: Process, receiver: Receiver) -> None:
    endpoint_id, old = endpoint(mine, receiver.url)
    with mine.database.transaction() as session:
        row = session.get_one(WebhookEndpoint, endpoint_id)
        webhooks.rotate(row, hours=1)
        new = webhooks.secret(mine.settings.secret, row.salt)
    tell(mine)
    send_all(mine)
    assert old != new
    assert receiver.verified(old) == receiver.verified(new)
    assert len(receiver.came[0][0]["webhook-signature"].split()) == 2
    with mine.database.transaction() as session:
        session.get_one(WebhookEndpoint, endpoint_id).previous_until = utcnow() - timedelta(seconds=1)
    receiver.came.clear()
    tell(mine)
    send_all(mine)
    assert receiver.verified(new)
    with pytest.raises(WebhookVerificationError):
        receiver.verified(old)


def test_the_waits_are_those_of_the_specification(tmp_path: Path) -> None:
    # standard-webhooks.md, "Deliverability and reliability": an example schedule
    hours = (2, 5, 10, 14, 20, 24)
    waits = (5.0, 5 * 60.0, 30 * 60.0, *(60.0 * 60 * one for one in hours))
    assert Settings(data_dir=tmp_path).webhook_retry_seconds == waits
    page = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()
    assert "5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h" in page


def test_each_wait_is_as_long_as_it_says(mine: Process, receiver: Receiver) -> None:
    mine.settings.webhook_retry_seconds = (60.0, 600.0)
    endpoint(mine, receiver.url)
    receiver.answer = lambda _n: (500, {})
    tell(mine)
    for wait in mine.settings.webhook_retry_seconds:
        with mine.database.transaction() as session:
            session.execute(update(Work).values(due_at=0))  # the time has come
        row = deliver.take(mine)
        assert row is not None
        deliver.deliver(mine, row)
        assert deliver.take(mine) is None
        (told,) = deliveries(mine, "pending")
        assert told.next_attempt_at is not None
        planned = (told.next_attempt_at - utcnow()).total_seconds()
        assert wait - 5 < planned < wait * 1.1
    assert len(receiver.came) == 2


def test_what_fails_is_sent_again_under_the_same_id(mine: Process, receiver: Receiver) -> None:
    endpoint_id, secret = endpoint(mine, receiver.url)
    receiver.answer = lambda n: (500 if n < 2 else 200, {})
    tell(mine)
    send_all(mine)
    assert len(receiver.verified(secret)) == 3
    assert len(set(receiver.ids())) == 1
    (row,) = deliveries(mine)
    assert [entry["status_code"] for entry in row.log] == [500, 500, 200]
    assert one(mine, endpoint_id).failing_since is None


def test_an_endpoint_that_takes_nothing_all_that_time_is_disabled_and_can_be_replayed(
    mine: Process, receiver: Receiver
) -> None:
    endpoint_id, secret = endpoint(mine, receiver.url)
    receiver.answer = lambda _n: (503, {})
    tell(mine, "job_1")
    send_all(mine)
    row = one(mine, endpoint_id)
    assert (row.disabled, row.disabled_reason) == (True, "failing")
    tell(mine, "job_2")  # nobody listens, and nothing is forgotten
    assert [found.status for found in deliveries(mine)] == ["failed", "skipped"]
    receiver.answer = lambda _n: (200, {})
    receiver.came.clear()
    with mine.database.transaction() as session:
        row = session.get_one(WebhookEndpoint, endpoint_id)
        webhooks.enable(row)
        since, statuses = utcnow() - timedelta(hours=1), ["failed", "skipped"]
        assert webhooks.replay(session, row, since, utcnow(), statuses) == (2, None)
    send_all(mine)
    assert [message["data"]["id"] for message in receiver.verified(secret)] == ["job_1", "job_2"]


def test_one_bad_message_does_not_disable_an_endpoint_that_takes_others(
    mine: Process, receiver: Receiver
) -> None:
    endpoint_id, _ = endpoint(mine, receiver.url)
    receiver.answer = lambda n: (400 if n in (0, 2, 4) else 200, {})
    mine.settings.webhook_retry_seconds = (0.0, 0.0)
    tell(mine, "job_1")
    for _ in range(2):  # its failures, each followed by a success of another
        row = deliver.take(mine)
        assert row is not None
        deliver.deliver(mine, row)
        with mine.database.transaction() as session:
            session.execute(update(Work).values(due_at=Work.due_at + 1000))
        tell(mine, f"job_{time.time_ns()}")
        row = deliver.take(mine)
        assert row is not None
        deliver.deliver(mine, row)
        with mine.database.transaction() as session:
            session.execute(update(Work).values(due_at=Work.due_at - 1000))
    send_all(mine)
    assert [row.status for row in deliveries(mine)] == ["failed", "delivered", "delivered"]
    assert not one(mine, endpoint_id).disabled


def test_gone_disables_at_once(mine: Process, receiver: Receiver) -> None:
    endpoint_id, _ = endpoint(mine, receiver.url)
    receiver.answer = lambda _n: (410, {})
    tell(mine)
    send_all(mine)
    assert one(mine, endpoint_id).disabled_reason == "gone"
    assert len(receiver.came) == 1


def test_a_receiver_that_asks_for_time_gets_it(mine: Process, receiver: Receiver) -> None:
    endpoint(mine, receiver.url)
    receiver.answer = lambda _n: (429, {"Retry-After": "1000"})
    tell(mine)
    row = deliver.take(mine)
    assert row is not None
    deliver.deliver(mine, row)
    (delivery,) = deliveries(mine)
    assert delivery.next_attempt_at is not None
    assert 990 < (delivery.next_attempt_at - utcnow()).total_seconds() < 1010
    assert deliver.take(mine) is None


def test_messages_of_one_job_come_in_order_and_others_do_not_wait(mine: Process, receiver: Receiver) -> None:
    _, secret = endpoint(mine, receiver.url)
    receiver.answer = lambda n: (500 if n == 0 else 200, {})
    mine.settings.webhook_retry_seconds = (0.5,)
    tell(mine, "job_1")
    tell(mine, "sel_1", "selection.succeeded", job_id="job_1")
    tell(mine, "exp_1", "export.succeeded", job_id="job_1")
    tell(mine, "job_2")
    send_all(mine)
    came = [message["data"]["id"] for message in receiver.verified(secret)]
    assert came == ["job_1", "job_2", "job_1", "sel_1", "exp_1"]


def test_a_worker_that_died_while_sending_leaves_the_message_to_another(
    mine: Process, blobs: BlobStore, receiver: Receiver
) -> None:
    endpoint(mine, receiver.url)
    tell(mine)
    assert deliver.take(mine) is not None  # and it dies
    with mine.database.transaction() as session:
        session.execute(update(Work).values(lease_expires_at=0.0))
    sweeper.sweep(mine.database, blobs, max_attempts=5, lease_seconds=1)
    send_all(mine)
    assert len(receiver.came) == 1


def test_a_message_that_kills_every_worker_is_given_up(mine: Process, blobs: BlobStore) -> None:
    endpoint(mine, "https://a.example")
    tell(mine)
    for _ in range(2):
        assert deliver.take(mine) is not None
        with mine.database.transaction() as session:
            session.execute(update(Work).values(lease_expires_at=0.0))
        sweeper.sweep(mine.database, blobs, max_attempts=2, lease_seconds=1)
    (row,) = deliveries(mine)
    assert row.status == "failed"
    assert "died" in row.log[-1]["error"]


# ---------------------------------------------------------------- where it does not go
def test_redirects_are_failures(mine: Process, receiver: Receiver) -> None:
    with receiving() as inner:
        receiver.answer = lambda _n: (302, {"Location": inner.url})
        attempt = deliver.send(mine.settings, receiver.url, {}, b"{}")
        assert (attempt.status, attempt.accepted) == (302, False)
        assert inner.came == []


def test_a_slow_receiver_is_not_waited_for(mine: Process, receiver: Receiver) -> None:
    mine.settings.webhook_seconds = 0.3
    receiver.seconds = 1.5
    attempt = deliver.send(mine.settings, receiver.url, {}, b"{}")
    assert attempt.status is None
    assert "0.3 s" in (attempt.error or "")
    assert attempt.seconds < 1.2


def test_an_answer_that_drips_is_not_waited_for_either(mine: Process) -> None:
    mine.settings.webhook_seconds = 0.5
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                try:
                    for _ in range(100):
                        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
                        time.sleep(0.05)
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        attempt = deliver.send(mine.settings, url, {}, b"{}")
        thread.join()
    assert attempt.status is None
    assert attempt.seconds < 2


def test_a_resolver_that_changes_its_answer_changes_nothing(mine: Process, receiver: Receiver) -> None:
    asked: list[str] = []

    def rebinding(host: str, port: int, **_: Any) -> list[Any]:
        asked.append(host)
        address = "127.0.0.1" if len(asked) == 1 else "169.254.169.254"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    url = receiver.url.replace("127.0.0.1", "hook.example")
    assert deliver.send(mine.settings, url, {}, b"{}", rebinding).accepted
    assert asked == ["hook.example"]  # once: the connection went to the address that was judged
    assert receiver.came[0][0]["host"].startswith("hook.example:")
    refused = deliver.send(mine.settings, url, {}, b"{}", rebinding)
    assert refused.status is None
    assert "169.254.169.254" in (refused.hidden or "") and refused.error == deliver.NOWHERE
    assert len(receiver.came) == 1


def test_without_leave_nothing_goes_to_the_loopback(mine: Process, receiver: Receiver) -> None:
    mine.settings.webhook_allow = ""
    attempt = deliver.send(mine.settings, receiver.url, {}, b"{}")
    assert "public internet" in (attempt.hidden or "")
    assert receiver.came == []


def test_where_a_name_leads_is_told_to_the_operator_alone(
    mine: Process, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    """A name that is nowhere, one that is within, public ones: by what is told a client maps no network."""

    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        found = {"within": "10.20.30.40", "both": "93.184.215.14", "six": "fd00::1:2", "open": "127.0.0.1"}
        if host == "slow":
            time.sleep(0.3)
        if host not in found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        addresses = [found[host], *(["10.20.30.40"] if host == "both" else [])]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

    mine.settings.webhook_retry_seconds = ()
    names = ["nowhere", "slow", "within", "both", "six"]
    for name in names:
        endpoint(mine, f"https://{name}/hook")
    tell(mine)
    with caplog.at_level("INFO", logger="worker.deliver"):
        send_all(mine, lookup=lookup)
    logs = [row.log for row in deliveries(mine, "failed")]
    assert len(logs) == len(names)
    told = {(entry["status_code"], entry["error"], entry["seconds"]) for log in logs for entry in log}
    assert told == {(None, deliver.NOWHERE, 0.0)}
    for words in ("'nowhere' cannot be resolved", "'within' is at 10.20.30.40", "'six' is at fd00::1:2"):
        assert words in caplog.text


def test_what_a_broken_connection_says_holds_no_address(mine: Process) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    def lookup(_host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    for scheme in ("http", "https"):
        attempt = deliver.send(mine.settings, f"{scheme}://hook.example:{port}/", {}, b"{}", lookup)
        assert attempt.error and "127.0.0.1" not in attempt.error


def test_the_certificate_must_be_the_names(mine: Process, tmp_path: Path) -> None:
    served, trust = certified(tmp_path, "hook.example")

    def lookup(_host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    with receiving(trust=served) as receiver:
        good = receiver.url.replace("127.0.0.1", "hook.example")
        assert deliver.send(mine.settings, good, {}, b"{}", lookup, trust).accepted
        other = receiver.url.replace("127.0.0.1", "other.example")
        refused = deliver.send(mine.settings, other, {}, b"{}", lookup, trust)
        assert "CERTIFICATE_VERIFY_FAILED" in (refused.error or "")
        assert len(receiver.came) == 1


def test_threads_send_side_by_side_but_one_at_a_time_to_each(mine: Process, receiver: Receiver) -> None:
    with receiving() as other:
        receiver.seconds = 0.3  # slow, but not for others
        _, slow = endpoint(mine, receiver.url)
        _, quick = endpoint(mine, other.url)
        for number in range(3):
            tell(mine, f"job_{number}")
        senders = Senders(mine)
        senders.start()
        other.wait_for(3)
        receiver.wait_for(3)
        senders.stop()
        assert {Webhook(slow).verify(body, head)["data"]["id"] for head, body in receiver.came} == {
            "job_0",
            "job_1",
            "job_2",
        }
        assert len(other.verified(quick)) == 3
    assert deliveries(mine, "pending") == []
