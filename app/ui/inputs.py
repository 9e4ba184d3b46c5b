"""What was sent: data sets and runs, how each stands, and who uses it; renamed and deleted."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from app.api.datasets import DatasetId, found_dataset
from app.api.deps import Blobs, Db
from app.api.resources import NO_NUL, GivenName, deleting, refuse_use
from app.api.trajectories import TrajectoryId, found_trajectory
from app.store import datasets, jobs, pages, trajectories, uses
from app.store.tables import Dataset, Trajectory
from app.ui import state
from app.ui.shell import render
from app.ui.visitors import PageCaller, PageWriter

router = APIRouter(include_in_schema=False)

SHOWN = 50  # of each kind a page
JOBS = 50  # that use one

Before = Annotated[str | None, Query(max_length=64, pattern=NO_NUL)]


@router.get("/inputs")
def show(
    request: Request,
    caller: PageCaller,
    database: Db,
    blobs: Blobs,
    sets_before: Before = None,
    runs_before: Before = None,
) -> HTMLResponse:
    """Data sets and runs, newest first."""
    with database.snapshot() as session:
        sets, older_sets = pages.older(session, Dataset, caller.project_id, SHOWN, sets_before)
        runs, older_runs = pages.older(session, Trajectory, caller.project_id, SHOWN, runs_before)
        set_ids, run_ids = [one.id for one in sets], [one.id for one in runs]
        return render(
            request,
            "inputs.html",
            caller=caller,
            here="inputs",
            sets=sets,
            set_uses=uses.of_datasets(session, set_ids),
            runs=runs,
            run_uses=uses.of_trajectories(session, run_ids),
            checkpoints=uses.checkpoints(session, run_ids),
            networks={one.id: trajectories.verdict(one)[0] for one in runs},
            older_sets=older_sets,
            older_runs=older_runs,
            first=sets_before is None and runs_before is None,
            sent=uses.sent(session, caller.project_id),
            free=blobs.free(),
        )


@router.get("/trajectories/{trajectory_id}")
def show_run(request: Request, trajectory_id: TrajectoryId, caller: PageCaller, database: Db) -> HTMLResponse:
    """One run: its network, how it was trained, its checkpoints and files, and the jobs over it."""
    with database.snapshot() as session:
        run = found_trajectory(session, caller.project_id, trajectory_id)
        used = uses.jobs_with(session, caller.project_id, JOBS, trajectory_id=trajectory_id)
        states = [one.status for one in run.files] + [one.status for one in run.checkpoints]
        states += [run.batch_order.status] if run.batch_order else []
        network, error = trajectories.verdict(run)
        return render(
            request,
            "trajectory.html",
            caller=caller,
            here="inputs",
            run=run,
            network=network,
            error=error,
            jobs=state.rows(session, used),
            last=next((one for one in used if one.train_dataset_id), None),
            waiting="validating" in states,
            num_ready=sum(one.status == "ready" for one in run.checkpoints),
        )


# ---------------------------------------------------------------- what forms do
@router.post("/datasets/{dataset_id}/rename")
def rename_set(
    dataset_id: DatasetId, caller: PageWriter, database: Db, name: Annotated[GivenName, Form()]
) -> RedirectResponse:
    with database.transaction() as session:
        found_dataset(session, caller.project_id, dataset_id).name = name
    return RedirectResponse(f"/datasets/{dataset_id}", 303)


@router.post("/datasets/{dataset_id}/delete")
def delete_set(dataset_id: DatasetId, caller: PageWriter, database: Db, blobs: Blobs) -> RedirectResponse:
    """Refused while a job names it."""
    with deleting("The data set"), database.transaction() as session:
        dataset = found_dataset(session, caller.project_id, dataset_id)
        refuse_use("The data set", jobs.using(session, dataset_id=dataset_id))
        datasets.delete(session, blobs, dataset)
    return RedirectResponse("/inputs", 303)


@router.post("/trajectories/{trajectory_id}/rename")
def rename_run(
    trajectory_id: TrajectoryId, caller: PageWriter, database: Db, name: Annotated[GivenName, Form()]
) -> RedirectResponse:
    with database.transaction() as session:
        found_trajectory(session, caller.project_id, trajectory_id).name = name
    return RedirectResponse(f"/trajectories/{trajectory_id}", 303)


@router.post("/trajectories/{trajectory_id}/delete")
def delete_run(
    trajectory_id: TrajectoryId, caller: PageWriter, database: Db, blobs: Blobs
) -> RedirectResponse:
    """Refused while a job names it; otherwise it goes with its checkpoints."""
    with deleting("The run"), database.transaction() as session:
        run = found_trajectory(session, caller.project_id, trajectory_id, lock=True)
        refuse_use("The run", jobs.using(session, trajectory_id=trajectory_id))
        trajectories.delete(session, blobs, run)
    return RedirectResponse("/inputs", 303)
