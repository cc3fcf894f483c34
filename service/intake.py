"""What is taken into the queue: a request, checked against itself, the data, other jobs and the box."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import advice, datasets, estimate, plan, precision, projects, raw_spec, spec, tasks
from service.errors import FieldProblem, InvalidInput, NotFound
from service.ids import is_id
from service.plan import Plan
from service.spec import JobSpec
from service.states import JobStatus
from service.tables import Dataset, Job, Run, WorkerRow
from service.users import Principal

NEVER_SUCCEED = (JobStatus.FAILED, JobStatus.CANCELLED)


@dataclass(frozen=True)
class Draft:
    """A checked request: what would be created, and what is said about it."""

    spec: JobSpec
    plan: Plan
    warnings: list[dict[str, str]]
    dataset: Dataset
    needs: list[int] = field(default_factory=list)


def draft(session: Session, principal: Principal, raw: Mapping[str, Any], found: Iterable[FieldProblem] = ()) -> Draft:
    """Checks a raw spec against itself, the data, other jobs and the box. Raises InvalidInput with every problem.

    found: problems that the caller met while decoding the request.
    """
    asked = raw_spec.parse(raw, lambda raw: _misfits(session, principal, raw), found)
    dataset = datasets.find(session, asked.dataset)
    if impossible := plan.problems(asked, dataset.rows, dataset.validation_rows):
        raise InvalidInput(impossible)
    counted = plan.make(asked, dataset.rows, dataset.validation_rows)
    if (known := estimate.of(session, asked, counted, dataset.id)) is not None:
        counted = counted.model_copy(update={"estimated_seconds": known.seconds, "estimate_basis": known.basis})
    needs = _jobs(session, principal, asked.depends_on)
    return Draft(asked, counted, advice.warnings(asked, counted), dataset, [job.seq for job in needs.values()])


def _misfits(session: Session, principal: Principal, raw: Mapping[str, Any]) -> Iterable[FieldProblem]:
    """What only the database knows: is there such a data set, does it fit the task, can any worker hold the job?"""
    name = raw.get("dataset")
    if isinstance(name, str) and spec.is_dataset_reference(name):
        try:
            yield from _data_misfits(datasets.find(session, name), raw)
        except NotFound:
            known = ", ".join(datasets.names(session)[:20])
            yield FieldProblem("dataset", "unknown_dataset", "there is no such data set", f"known here: {known}")
    wanted = raw.get("resources")
    if isinstance(wanted, dict):
        largest, together = _largest_worker(session)
        yield from _too_many_processes(wanted, largest, together)
        for name, most in largest.items():
            if isinstance(wanted.get(name), int | float) and wanted[name] > most:
                message = f"no worker of this box has more than {most} to give"
                yield FieldProblem(f"resources.{name}", "never_available", message)
    yield from precision.misfits(session, raw)
    needed = raw.get("depends_on")
    if isinstance(needed, list):
        yield from _dependency_misfits(session, principal, needed)


def _too_many_processes(
    wanted: Mapping[str, Any], largest: Mapping[str, int], together: Mapping[str, int]
) -> Iterable[FieldProblem]:
    """Each has its threads and its memory, also those of several GPUs."""
    named = "processes" if "processes" in wanted else "gpus"
    given, gpus = wanted.get("processes", 1), wanted.get("gpus", 0)
    if not isinstance(given, int) or not isinstance(gpus, int | float):
        return
    processes = max(given, int(gpus))
    for name, unit in (("threads", "threads"), ("memory_mib", "MiB")):
        each, most = wanted.get(name, 1 if name == "threads" else None), together.get(name, math.inf)
        if isinstance(each, int) and each <= largest.get(name, math.inf) and each * processes > most:
            message = f"{processes} processes of {each} {unit} each, and no worker has more than {most}"
            yield FieldProblem(f"resources.{named}", "never_available", message)
            return


def _dependency_misfits(session: Session, principal: Principal, needed: list[Any]) -> Iterable[FieldProblem]:
    found = _jobs(session, principal, [job_id for job_id in needed if isinstance(job_id, str)][:1000])
    for place, job_id in enumerate(needed):
        job = found.get(job_id) if isinstance(job_id, str) else None
        if job is None and isinstance(job_id, str) and is_id(job_id):
            yield FieldProblem(f"depends_on.{place}", "unknown_job", "there is no such job")
        elif job is not None and job.status in NEVER_SUCCEED:
            yield FieldProblem(f"depends_on.{place}", "never_succeeds", f"that job is {job.status.value}")


def _jobs(session: Session, principal: Principal, ids: Sequence[str]) -> dict[str, Job]:
    query = select(Job).join(Run, Run.seq == Job.seq).where(Job.id.in_(ids), projects.visible(principal))
    return {job.id: job for job in session.scalars(query)} if ids else {}


def _data_misfits(dataset: Dataset, raw: Mapping[str, Any]) -> Iterable[FieldProblem]:
    yield from _empty_cells(dataset, raw)
    task = raw.get("task")
    fitting = tasks.of_data(dataset.kind, dataset.task)
    if isinstance(task, str) and task in tasks.TASKS and task not in fitting:
        yield FieldProblem("task", "task_does_not_fit", f"the data set is for {' or '.join(fitting)}")
    model = raw.get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    wanted = tasks.DATA_KINDS.get(kind) if isinstance(kind, str) else None
    if wanted is not None and dataset.kind not in wanted:
        message = f"{kind} wants {' or '.join(wanted)}, and the data set is {dataset.kind}"
        yield FieldProblem("model.type", "model_does_not_fit", message)
    chosen = raw.get("hyperparameters")
    loss = chosen.get("loss") if isinstance(chosen, dict) else None
    classes = len(dataset.classes or ())
    if loss == "bce" and dataset.task == "classification" and classes != 2:
        yield FieldProblem(
            "hyperparameters.loss", "loss_does_not_fit", f"bce tells two classes apart, and the data set has {classes}"
        )


def _empty_cells(dataset: Dataset, raw: Mapping[str, Any]) -> Iterable[FieldProblem]:
    """Unless the job says what stands in for them."""
    empty = [column["name"] for column in dataset.columns if column.get("missing")]
    chosen = raw.get("data")
    if empty and (not isinstance(chosen, dict) or chosen.get("missing", "refuse") == "refuse"):
        named = ", ".join(empty[:20]) + (f" and {len(empty) - 20} more" if len(empty) > 20 else "")
        hint = '"mean" takes the mean of a number, and none of the values of a category'
        yield FieldProblem("data.missing", "missing_values", f"these columns have empty cells: {named}", hint)


def _largest_worker(session: Session) -> tuple[dict[str, int], dict[str, int]]:
    """The most that one process of a job can ever hold, and the most that all of them can.

    Nothing is known before a worker has been here.
    """
    columns = WorkerRow.slots, WorkerRow.devices, WorkerRow.memory_mib, WorkerRow.trainer_memory_mib
    workers = session.execute(select(*columns)).all()
    if not workers:
        return {}, {}
    most = {"threads": max(row.slots for row in workers), "gpus": max(len(row.devices) for row in workers)}
    memory = [
        row.memory_mib if row.trainer_memory_mib is None else min(row.memory_mib, row.trainer_memory_mib)
        for row in workers
        if row.memory_mib is not None
    ]
    if not memory:
        return most, most
    in_all = max(row.memory_mib for row in workers if row.memory_mib is not None)
    return most | {"memory_mib": max(memory)}, most | {"memory_mib": in_all}
