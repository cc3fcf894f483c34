"""How large a micro-batch may be: what attempts that ran out of a device's memory have taught, by model and device."""

import hashlib
import json
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.plan import Plan
from service.tables import MemoryLimit


def parts(session: Session, model: str, device: str, plan: Plan) -> int:
    """How many micro-batches a process's share of a full batch is computed in, by the plan and by what is remembered.

    model: see `kind`. device: its name.
    """
    query = select(MemoryLimit.samples).where(MemoryLimit.model == model, MemoryLimit.device == device)
    limit = session.scalars(query).one_or_none()
    share = plan.samples_per_process
    return plan.micro_batches_per_step if limit is None else max(plan.micro_batches_per_step, -(-share // limit))


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
