"""The Celery application. The database is the truth: messages are acknowledged early and may be lost."""

from __future__ import annotations

from celery import Celery
from kombu import Queue

from app import broker
from app.settings import Settings

broker.register()
_settings = Settings()

celery = Celery("diffin", broker=_settings.broker_url, include=["worker.tasks"])
celery.conf.update(
    accept_content=["json"],
    broker_connection_retry_on_startup=True,
    broker_transport_options=_settings.broker_options,
    task_acks_late=False,
    task_default_queue="cpu",
    task_ignore_result=True,
    task_queues=[Queue("cpu"), Queue("gpu")],
    worker_pool="solo",  # one process, no pool: what is killed holds no lock that others wait for
    worker_consumer="worker.consumer:Consumer",
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    worker_prefetch_multiplier=1,
    worker_send_task_events=False,
)
