"""How large a micro-batch may be: what attempts that ran out of a device's memory have taught, by model and device."""

import hashlib
import json
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.plan import Plan
from service.tables import MemoryLimit


def limits(session: Session, model: str) -> dict[str, int]:
    """The samples of the largest micro-batch that may fit, for each device that is known by name to be too small.

    model: see `kind`.
    """
    query = select(MemoryLimit.device, MemoryLimit.samples).where(MemoryLimit.model == model)
    return {row.device: row.samples for row in session.execute(query)}


def parts(plan: Plan, limit: int | None) -> int:
    """How many micro-batches a process's share of a full batch is computed in, by the plan and by what is remembered.

    limit: of `limits`, for the device at hand.
    """
    most = plan.micro_batches_per_step
    return most if limit is None else max(most, -(-plan.samples_per_process // limit))


def halve(session: Session, model: str, device: str, plan: Plan, used: int) -> int | None:
    """Remembers that so many parts were too few; twice as many, or None when each was a lone sample already."""
    share = plan.samples_per_process
    if used >= share:
        return None
    needed = min(2 * used, share)
    session.merge(MemoryLimit(model=model, device=device, samples=-(-share // needed)))
    session.flush()
    return needed


def kind(spec: dict[str, Any], shape: list[int], classes: int | None) -> str:
    """Models of one kind need the same memory for the same number of samples."""
    chosen = spec["hyperparameters"]
    told = [spec["task"], spec["model"], chosen["precision"], shape, classes]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
