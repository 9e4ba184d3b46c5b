"""Progress bars in a terminal, fed by the callbacks of `Diffin`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
)

from diffin.models import Job
from diffin.selecting import Selection

TEXT = TextColumn("{task.description:<28}")


@contextmanager
def sending(what: str, console: Console, *, files: bool = False) -> Iterator[Callable[[int, int], None]]:
    """A bar of bytes, or of `files`, whose callback takes (sent, total)."""
    amount = TextColumn("{task.completed:.0f}/{task.total:.0f}") if files else DownloadColumn()
    with Progress(TEXT, BarColumn(), amount, console=console) as bars:
        bar = bars.add_task(what, total=1)
        yield lambda sent, total: bars.update(bar, completed=sent, total=total)


@contextmanager
def waiting(what: str, console: Console) -> Iterator[Callable[[Job | Selection], None]]:
    """A bar of a job or selection, whose callback takes it each time it changed."""
    with Progress(TEXT, BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), console=console) as bars:
        bar = bars.add_task(what, total=None)

        def show(job: Job | Selection) -> None:
            done = job.status == "succeeded"
            total = job.progress.total or (1 if done else None)
            bars.update(bar, total=total, completed=total if done else job.progress.completed)

        yield show
