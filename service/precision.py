"""Which precisions the workers of this box compute in. CPUs do in every one, and all GPUs in float16."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.errors import FieldProblem
from service.tables import WorkerRow

BFLOAT16_SINCE = 8  # the major number of a GPU's compute capability: those before only pretend to have it


def misfits(session: Session, raw: Mapping[str, Any]) -> Iterable[FieldProblem]:
    """Of a spec that may be wrong in other ways too, and asks for more GPUs than compute as it wants them to."""
    chosen, wanted = raw.get("hyperparameters"), raw.get("resources")
    if not isinstance(chosen, dict) or not isinstance(wanted, dict) or chosen.get("precision") != "bfloat16":
        return
    gpus, workers = wanted.get("gpus"), session.scalars(select(WorkerRow.devices)).all()
    if not isinstance(gpus, int | float) or not 0 < gpus <= max(map(len, workers), default=0):
        return
    most = max(sum(map(_may_have_bfloat16, devices)) for devices in workers)
    if gpus > most:
        found = f"no worker of this box has more than {most} that can" if most else "no GPU of this box can"
        message = f"{gpus} GPUs are to compute in bfloat16, and {found}"
        yield FieldProblem("hyperparameters.precision", "never_available", message, "float16 is known to all of them")


def _may_have_bfloat16(device: Mapping[str, Any]) -> bool:
    capability = device.get("compute_capability")
    return capability is None or capability[0] >= BFLOAT16_SINCE
