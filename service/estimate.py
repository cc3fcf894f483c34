"""How long a run will take, by what finished runs of the same shape took on this box."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.plan import Plan
from service.spec import JobSpec
from service.states import JobStatus
from service.tables import Job

MOST_MEASURED = 50  # of the newest


@dataclass(frozen=True)
class Estimate:
    """Seconds of training, and what they rest on."""

    seconds: float
    basis: str


def of(session: Session, spec: JobSpec, plan: Plan, dataset_id: str) -> Estimate | None:
    """None before a run of the same task, data, model, batch, precision and slots has ended well."""
    same = (
        Job.status == JobStatus.SUCCEEDED,
        Job.dataset_id == dataset_id,
        Job.task == spec.task,
        Job.threads == spec.resources.threads * spec.resources.processes,
        Job.gpus == spec.resources.gpus,
        Job.step > 0,
    )
    query = select(Job.spec, Job.plan, Job.step, Job.active_seconds).where(*same).order_by(Job.seq.desc())
    wanted = _shape(spec.model_dump(mode="json"), plan.model_dump())
    rows = [
        row
        for row in session.execute(query.limit(MOST_MEASURED))
        if _shape(row.spec, row.plan) == wanted and row.active_seconds > 0
    ]
    if not rows:
        return None
    # Over all steps together: the first ones of a run are slow, and would make a short run's mean.
    a_step = sum(row.active_seconds for row in rows) / sum(row.step for row in rows)
    runs = "1 finished run" if len(rows) == 1 else f"{len(rows)} finished runs"
    return Estimate(plan.total_steps * a_step, f"{runs} of the same shape")


def _shape(spec: dict[str, object], plan: dict[str, object]) -> tuple[object, ...]:
    chosen = spec["hyperparameters"]
    assert isinstance(chosen, dict)
    parts = chosen["gradient_accumulation"], plan.get("processes", 1)
    return spec["model"], chosen["optimizer"], chosen["precision"], parts, plan["batch_size"]
