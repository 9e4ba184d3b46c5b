"""Every knob of the service, read from the environment with the prefix `DIFFIN_`.

One class for API and worker, so that both see the same database, broker and storage.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from app import addresses, uris

MIB = 1024**2
GIB = 1024**3
LEAST_KEY, LEAST_KEY_DIFFERENT = 20, 8  # characters of a key that is not to be guessed


class Quota(BaseModel):
    """What a project may take; None: as much as there is."""

    model_config = ConfigDict(extra="forbid")

    bytes: int | None = Field(None, ge=0)
    jobs_queued: int | None = Field(None, ge=0)
    jobs_running: int | None = Field(None, ge=1)


class Settings(BaseSettings):
    """The deployment in one object. Without any of these set, everything lives under `data_dir`."""

    model_config = SettingsConfigDict(env_prefix="DIFFIN_", extra="ignore")

    data_dir: Path = Field(
        Path(".diffin"), description="Database, blobs, broker and secrets of the embedded default."
    )
    host: str = Field("127.0.0.1", description="Address the API listens on.")
    port: int = Field(8000, ge=0, le=65535, description="Port the API listens on; 0 takes a free one.")
    api_processes: int = Field(1, ge=1, le=64, description="Processes of `diffin api`, on that one port.")
    api_shared: Path | None = Field(None, description="The folder that they share, made by their parent.")
    api_key: SecretStr | None = Field(
        None, description="The first admin key; else generated and kept in data_dir."
    )
    api_key_file: Path | None = Field(None, description="In place of api_key: a file that holds it.")
    secret_key: SecretStr | None = Field(
        None, description="Hashes API keys and signs cursors; else kept in data_dir."
    )
    database_url: str = Field("", description="sqlite:///… (default, in data_dir) or postgresql://…")
    broker_url: str = Field("", description="filesystem:// (default, in data_dir) or redis://…")
    blob_url: str = Field(
        "",
        description="file://… (default, in data_dir) or s3://bucket/prefix, with the usual AWS_… variables: "
        "uploads, canonical data, results.",
    )
    blob_cache_bytes: int = Field(
        20 * GIB,
        ge=MIB,
        description="With s3://…: what copies of blobs in data_dir may take of the disk.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where the worker computes.")
    threads: int = Field(0, ge=0, description="Torch threads of a worker; 0: the cores over DIFFIN_WORKERS.")
    workers: int = Field(1, ge=1, description="Worker processes `diffin serve` starts; keep 1 a GPU.")
    memory_bytes: int = Field(
        GIB,
        ge=16 * MIB,
        description="Memory in the worker of a chunk of samples and of what options keep beside it.",
    )
    reader_memory_bytes: int = Field(
        8 * GIB, ge=64 * MIB, description="Memory that reading an uploaded file may take."
    )
    reader_seconds: float = Field(
        120.0,
        gt=0,
        description="Time that reading an uploaded file may take, and again for each 100 MiB; it keeps its "
        "worker so long.",
    )
    block_seconds: float = Field(2.0, gt=0, description="How long one block of scores should take.")
    exit_with_parent: bool = Field(False, description="A worker stops when what started it is gone.")
    lease_seconds: float = Field(15.0, ge=1, description="How long a silent worker keeps its work.")
    max_attempts: int = Field(5, ge=1, description="How often a unit of work is tried before its job fails.")
    session_hours: float = Field(24.0, gt=0, description="How long the page keeps somebody signed in.")
    max_upload_bytes: int = Field(5 * GIB, ge=1, description="Largest file accepted in one request.")
    max_resumable_bytes: int = Field(64 * GIB, ge=1, description="Largest file accepted in parts.")
    upload_hours: float = Field(
        72.0, gt=0, description="How long a file in parts is kept after its last part, unless it is used."
    )
    max_body_bytes: int = Field(MIB, ge=1024, description="Largest JSON body accepted.")
    body_seconds: float = Field(
        30.0, gt=0, description="How long a body may take; more by a second for each 8 KiB that came."
    )
    head_seconds: float = Field(20.0, gt=0, description="How long a request's headers may take to arrive.")
    requests_per_second: float = Field(
        100.0, gt=0, description="Requests of one key, on average; of each `diffin api`."
    )
    request_burst: int = Field(500, ge=1, description="Requests of one key at once.")
    sqlite_samples: int = Field(
        1_000_000, ge=1, description="Samples of a job's training set on SQLite; PostgreSQL takes any number."
    )
    project_bytes: int | None = Field(None, ge=0, description="Bytes of files that a project may keep.")
    project_jobs_queued: int | None = Field(None, ge=0, description="Jobs of a project that may wait.")
    project_jobs_running: int | None = Field(
        None, ge=1, description="Jobs of a project that run at once; others wait."
    )
    project_quotas: dict[str, Quota] = Field(
        {}, description="Quotas of single projects: {project: {bytes, jobs_queued, jobs_running}}."
    )
    audit_days: float = Field(365.0, gt=0, description="How long the audit log is kept.")
    idempotency_hours: float = Field(
        24.0, gt=0, description="How long an Idempotency-Key replays its answer."
    )
    export_hours: float = Field(168.0, gt=0, description="How long the file of an export is kept.")
    webhook_allow: str = Field(
        "",
        description="Networks beside the public internet that webhooks may go to, by http as well: "
        "10.0.0.0/8,192.168.0.0/16.",
    )
    webhook_seconds: float = Field(
        20.0, gt=0, description="How long a webhook's receiver may take to answer."
    )
    webhook_retry_seconds: tuple[float, ...] = Field(
        (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400),
        description="Waits between attempts to deliver a webhook, as a JSON list: those that Standard "
        "Webhooks proposes.",
    )
    webhook_senders: int = Field(4, ge=1, le=64, description="Webhooks that one worker sends side by side.")
    webhook_log_days: float = Field(30.0, gt=0, description="How long deliveries of webhooks are listed.")
    uri_prefixes: str = Field(
        "",
        description="What clients may name files below by `uri`: s3://bucket/prefix/,file:///folder/,"
        "https://host/path/; {project} in one stands for the project's id. None unless given.",
    )
    uri_allow: str = Field(
        "",
        description="Networks beside the public internet that https://… prefixes may lead to, by http as "
        "well: 10.0.0.0/8.",
    )
    uri_seconds: float = Field(
        120.0, gt=0, description="Time that fetching a file by `uri` may take, and again for each 100 MiB."
    )
    uri_fetchers: int = Field(2, ge=1, le=64, description="Files that one worker fetches side by side.")
    retention_days: float = Field(
        0.0, ge=0, description="Jobs are deleted so long after their end, with what came of them; 0: never."
    )
    log_level: str = Field("INFO", description="Level of the structured logs on standard error.")
    log_format: Literal["text", "json"] = Field("text", description="Lines for people, or JSON for machines.")

    def model_post_init(self, context: Any, /) -> None:
        if self.api_key is not None and self.api_key_file is not None:
            raise ValueError("give DIFFIN_API_KEY or DIFFIN_API_KEY_FILE, not both")
        self.data_dir = self.data_dir.expanduser().absolute()
        self.database_url = _psycopg(self.database_url) or f"sqlite:///{self.data_dir / 'diffin.db'}"
        self.broker_url = self.broker_url or "filesystem://localhost//"
        self.blob_url = self.blob_url or (self.data_dir / "blobs").as_uri()
        for networks in (self.webhook_allow, self.uri_allow):
            addresses.networks(networks)  # what cannot be read is told at the start
        scheme, place, *_ = urlsplit(self.blob_url)
        if scheme != "file" and (scheme != "s3" or not place):
            raise ValueError(
                f"DIFFIN_BLOB_URL must be file:///folder or s3://bucket/prefix, not {self.blob_url!r}"
            )
        uris.refuse_own(uris.prefixes(self.uri_prefixes), self._own(), self.blob_url)

    def _own(self) -> list[Path]:
        """Files and folders that hold what no client may read."""
        database = Path(self.database_url.removeprefix("sqlite:///")) if self.embedded else None
        return [one for one in (self.data_dir, self.blob_dir, self.api_key_file, database) if one]

    def quota(self, project_id: str) -> Quota:
        """What holds for this project: its own quotas, else those of all."""
        of_all = {name: getattr(self, f"project_{name}") for name in Quota.model_fields}
        own = self.project_quotas.get(project_id, Quota())
        return Quota(**of_all | own.model_dump(exclude_unset=True))

    @property
    def embedded(self) -> bool:
        """Whether the database is the local SQLite file."""
        return self.database_url.startswith("sqlite")

    @property
    def webhook_networks(self) -> tuple[addresses.Network, ...]:
        return addresses.networks(self.webhook_allow)

    @property
    def uri_networks(self) -> tuple[addresses.Network, ...]:
        return addresses.networks(self.uri_allow)

    def uri_prefixes_of(self, project_id: str) -> tuple[str, ...]:
        """What this project may name files below."""
        return uris.of_project(uris.prefixes(self.uri_prefixes), project_id)

    @property
    def blob_dir(self) -> Path:
        """Where files come in, and blobs are kept (with s3://…: copied to)."""
        scheme, _, path, *_ = urlsplit(self.blob_url)
        return Path(path) if scheme == "file" else self.data_dir / "blobs"

    @property
    def broker_options(self) -> dict[str, Any]:
        """Kombu's transport options: two folders for `filesystem://`, short time-outs for the rest."""
        if not self.broker_url.startswith("filesystem"):
            return {"socket_timeout": 10, "socket_connect_timeout": 5, "retry_on_timeout": True}
        folder = self.data_dir / "broker"
        for name in ("messages", "control"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        return {
            "data_folder_in": str(folder / "messages"),
            "data_folder_out": str(folder / "messages"),
            "control_folder": str(folder / "control"),
            "polling_interval": 0.05,
        }

    @cached_property
    def secret(self) -> bytes:
        return _kept(self.secret_key, self.data_dir / "secret").encode()

    @cached_property
    def first_key(self) -> str:
        if self.api_key_file is None:
            return _kept(self.api_key, self.data_dir / "api-key")
        return self.api_key_file.read_text().strip()

    @property
    def public(self) -> bool:
        """Whether others than this machine can reach the API."""
        try:
            return not ip_address(self.host).is_loopback
        except ValueError:
            return self.host != "localhost"

    def guessable(self) -> str | None:
        """Why others could find out a key that was given, if they could: None when they can't."""
        for name, given in (("DIFFIN_API_KEY", self.first_key), ("DIFFIN_SECRET_KEY", self.secret.decode())):
            if len(given) < LEAST_KEY or len(set(given)) < LEAST_KEY_DIFFERENT or "change-me" in given:
                return (
                    f"{name} can be guessed (it has {len(given)} characters): take one of at least "
                    f"{LEAST_KEY} that nobody else has, {LEAST_KEY_DIFFERENT} of them different, as "
                    "`openssl rand -hex 32` gives, or none, and one is made"
                )
        return None


def _psycopg(url: str) -> str:
    for plain in ("postgresql://", "postgres://"):
        if url.startswith(plain):
            return "postgresql+psycopg://" + url.removeprefix(plain)
    return url


def _kept(given: SecretStr | None, file: Path) -> str:
    """The secret given, or the one kept in `file`, made on first use and readable by its owner only."""
    if given is not None:
        return given.get_secret_value()
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        whole = file.with_name(f"{file.name}.{secrets.token_hex(8)}")
        whole.touch(mode=0o600)
        whole.write_text(f"diffin_{secrets.token_urlsafe(32)}")
        with suppress(FileExistsError):  # of processes that start at once, the first one's counts
            file.hardlink_to(whole)
        whole.unlink()
    return file.read_text().strip()
