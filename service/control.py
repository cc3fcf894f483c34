"""What people do to a job that exists: cancel, pause, resume, retry, clone, relabel, delete."""

import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic.json_schema import SkipJsonSchema
from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from service import clock, intake, meaning, projects, queue, raw_spec, spec
from service.errors import FieldProblem, IllegalMove, InvalidInput, NotFound, NotNow, NotOwner
from service.plan import Plan
from service.queue import QueueLimits, move, tell
from service.spec import JobSpec, Part
from service.states import TERMINAL, JobStatus, Scope
from service.tables import Dataset, Job, Run
from service.users import Principal


def owned(session: Session, principal: Principal, job_id: str) -> Job:
    """A job that the principal may change. Raises NotFound if it may not be seen, NotOwner if only that."""
    job = seen(session, principal, job_id)
    if job.user != principal.user and principal.scope is not Scope.ADMIN:
        raise NotOwner("job")
    return job


def seen(session: Session, principal: Principal, job_id: str) -> Job:
    """A job that the principal may look at. Raises NotFound."""
    query = select(Job).join(Run, Run.seq == Job.seq).where(Job.id == job_id, projects.visible(principal))
    job = session.scalars(query).one_or_none()
    if job is None:
        raise NotFound("job")
    return job


def cancel(session: Session, principal: Principal, job_id: str) -> None:
    """Ends a waiting or paused job at once; asks a running one to stop. Again on a cancelled one changes nothing.

    Raises NotFound, NotOwner, or IllegalMove for a job that ended otherwise.
    """
    job = owned(session, principal, job_id)
    if job.status is JobStatus.CANCELLED or job.cancel_requested_at is not None:
        return
    if job.status in TERMINAL:
        raise IllegalMove(job_id, job.status, JobStatus.CANCELLED)
    asked = {"cancel_requested_at": clock.now()}
    if job.status is JobStatus.RUNNING:
        ask(session, job, "cancelling", f"asked to stop by {principal.user}", asked)
    else:
        move(session, job.seq, JobStatus.CANCELLED, "cancelled", f"cancelled by {principal.user}", **asked)


def prune(session: Session, job: Job, message: str) -> None:
    """Ends a job of a search that promises nothing; one that is over or asked to stop stays as it is."""
    if job.status in TERMINAL or job.cancel_requested_at is not None:
        return
    asked = {"cancel_requested_at": clock.now()}
    if job.status is JobStatus.RUNNING:
        ask(session, job, "pruning", message, asked)
    else:
        move(session, job.seq, JobStatus.CANCELLED, "pruned", message, **asked)


def pause(session: Session, principal: Principal, job_id: str) -> None:
    """Takes a waiting job out of the queue at once; asks a running one to keep a checkpoint and free its slot.

    Again on a paused one changes nothing. Raises NotFound, NotOwner, or IllegalMove for a job that is over or ending.
    """
    job = owned(session, principal, job_id)
    if job.status is JobStatus.PAUSED or job.pause_requested_at is not None:
        return
    if job.status in TERMINAL or job.cancel_requested_at is not None:
        raise IllegalMove(job_id, job.status, JobStatus.PAUSED)
    if job.status is JobStatus.RUNNING:
        asked = {"pause_requested_at": clock.now()}
        ask(session, job, "pausing", f"asked to pause by {principal.user}", asked)
    else:
        move(session, job.seq, JobStatus.PAUSED, "paused", f"paused by {principal.user}")


def resume(session: Session, principal: Principal, job_id: str) -> None:
    """Puts a paused job back into the queue, where it was. Raises NotFound, NotOwner or IllegalMove."""
    job = owned(session, principal, job_id)
    if job.status is not JobStatus.PAUSED:
        raise IllegalMove(job_id, job.status, JobStatus.QUEUED)
    move(session, job.seq, JobStatus.QUEUED, "waiting", f"resumed by {principal.user}", not_before=0)


def ask(session: Session, job: Job, code: str, message: str, asked: Mapping[str, str]) -> None:
    """Tells the worker, which sees it in the job's row, what is wanted of a running job."""
    reason = {"reason_code": code, "reason_message": message, "reason_since": clock.now()}
    session.execute(update(Job).where(Job.seq == job.seq).values(**asked, **reason))
    tell(session, job.seq, code, message)


def retry(session: Session, principal: Principal, job_id: str, limits: QueueLimits) -> str:
    """A new job with the spec of one that failed or was cancelled, on the same version of the data; its id.

    Raises NotFound, QueueFull, NotNow for another job, or InvalidInput when the spec cannot be trained any more.
    """
    job = seen(session, principal, job_id)
    if job.status not in (JobStatus.FAILED, JobStatus.CANCELLED):
        raise NotNow(job_id, job.status, "be retried", "when it failed or was cancelled")
    draft = intake.draft(session, principal, _pinned(session, job))
    return queue.submit(session, principal, draft, limits, retry_of=job.id)


@dataclass(frozen=True)
class Clone:
    """A changed copy of a job, and what the changes mean."""

    draft: intake.Draft
    changes: list[dict[str, Any]]


def clone(
    session: Session, principal: Principal, job_id: str, patch: Mapping[str, Any], met: Iterable[FieldProblem] = ()
) -> Clone:
    """What a job becomes under a JSON merge patch (RFC 7396) on its spec. Raises NotFound or InvalidInput.

    met: problems that the caller met while decoding the patch.
    """
    job = seen(session, principal, job_id)
    merged = merge(_pinned(session, job), patch)
    # A run is as long as its epochs or its steps say: naming one of them takes the place of the other.
    length, given = merged.get("hyperparameters"), patch.get("hyperparameters")
    if isinstance(length, dict) and isinstance(given, dict):
        for named, other in (("max_steps", "epochs"), ("epochs", "max_steps")):
            if given.get(named) is not None and given.get(other) is None:
                length.pop(other, None)
    if "model" in merged:
        merged["model"] = _of_its_kind(merged["model"], patch.get("model"))
    draft = intake.draft(session, principal, merged, met)
    changes, advice = meaning.of(_stored(job), Plan.model_validate(job.plan), draft.spec, draft.plan)
    told = intake.Draft(draft.spec, draft.plan, draft.warnings + advice, draft.dataset, draft.needs)
    return Clone(told, changes)


def _of_its_kind(model: Any, given: Any) -> Any:
    """A merged model without the fields of a former kind that the new one has not, unless the patch names them.

    given: what the patch says of it.
    """
    if not isinstance(model, dict) or not isinstance(given, dict):
        return model
    with suppress(KeyError, TypeError):  # what is no kind is told of by the check of the spec
        known = spec.model_class(model["type"]).model_fields
        return {name: value for name, value in model.items() if name in known or name in given}
    return model


def changes(session: Session, principal: Principal, job_id: str, copy_id: str) -> list[dict[str, Any]]:
    """What a copy that was made before has otherwise than the job. Raises NotFound."""
    job, copy = (seen(session, principal, each) for each in (job_id, copy_id))
    return meaning.of(_stored(job), Plan.model_validate(job.plan), _stored(copy), Plan.model_validate(copy.plan))[0]


def _stored(job: Job) -> JobSpec:
    return raw_spec.parse(job.spec, lambda _: ())


def merge(target: Any, patch: Any) -> Any:
    """RFC 7396: objects are merged, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def _pinned(session: Session, job: Job) -> dict[str, Any]:
    """The job's spec with the version of the data set that it was submitted for."""
    dataset = session.get_one(Dataset, job.dataset_id)
    return job.spec | {"dataset": f"{dataset.name}@{dataset.version}"}


class Relabel(Part):
    """What may be changed of a job: its name and its tags at any time, its priority while it waits."""

    # None stands for what is not given. Given, it is refused: nothing of this can be removed.
    name: spec.Label | SkipJsonSchema[None] = None
    priority: spec.Priority | SkipJsonSchema[None] = None
    tags: dict[spec.TagKey, spec.Text | None] | SkipJsonSchema[None] = None


def relabel(session: Session, principal: Principal, job_id: str, wanted: Relabel) -> None:
    """Changes what is given; a tag of null is removed. Raises NotFound, NotOwner, NotNow or InvalidInput."""
    job = owned(session, principal, job_id)
    run = session.get_one(Run, job.seq)
    if nulls := sorted(name for name in wanted.model_fields_set if getattr(wanted, name) is None):
        message = "it cannot be removed; what is left out of the request stays as it is"
        raise InvalidInput([FieldProblem(name, "null", message) for name in nulls])
    if wanted.priority is not None and wanted.priority != job.priority:
        if job.status not in (JobStatus.QUEUED, JobStatus.PAUSED):
            raise NotNow(job_id, job.status, "be given another priority", "while it waits")
        tell(session, job.seq, "priority_changed", f"priority {wanted.priority}, was {job.priority}")
        job.priority = wanted.priority
    if wanted.name is not None:
        run.name = wanted.name
    if wanted.tags is not None:
        tags = merge(run.tags, wanted.tags)
        if len(tags) > spec.MOST_TAGS:
            raise InvalidInput([FieldProblem("tags", "too_many_tags", f"a job has at most {spec.MOST_TAGS} tags")])
        run.tags = tags
    session.flush()


def remove(session: Session, principal: Principal, job_id: str) -> None:
    """Deletes a job that is over, with its run and its curves. Raises NotFound, NotOwner or NotNow.

    Its files go by `remove_files`, after the commit: the other way round a crash would leave a job without its log.
    """
    job = owned(session, principal, job_id)
    if job.status not in TERMINAL:
        raise NotNow(job_id, job.status, "be deleted", "when it is over")
    session.execute(delete(Run).where(Run.seq == job.seq))


def remove_files(jobs_path: Path, job_id: str) -> None:
    shutil.rmtree(jobs_path / job_id, ignore_errors=True)
