"""The gate of a job: a diagnosis while it trains, and what is done when that finds what the spec asks about."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from service import clock, control, examination
from service.diagnosis import Code
from service.queue import tell
from service.spec import Gate
from service.tables import Job, JobEvent, Run

CAUGHT = {
    "diverging": (Code.DIVERGED,),
    "too_high": (Code.DIVERGED, Code.LEARNING_RATE_TOO_HIGH),
}
EVENTS = {"warn": "gate_warned", "cancel": "gate_cancelled"}


def next_look(gate: Gate, step: int) -> int:
    """The step of the first look behind `step`: at `after_steps`, twice that, and so on; few, however long the run."""
    due = gate.after_steps
    while due <= step:
        due *= 2
    return due


def look(session: Session, seq: int, gate: Gate) -> bool:
    """Diagnoses a running job and acts on what is found, once for a job; whether there is anything left to watch for.

    The evidence becomes an event of the job. To cancel is to ask, as a person does.
    """
    if session.scalars(select(JobEvent.id).where(JobEvent.job == seq, JobEvent.code.in_(EVENTS.values()))).first():
        return False
    parameters = session.scalars(select(Run.parameters).where(Run.seq == seq)).one()
    found = examination.of_curves(session, seq, parameters, running=True).findings
    caught = next((finding for finding in found if finding.code in CAUGHT[gate.on]), None)
    if caught is None:
        return True
    message = f"the gate found {caught.code.value}: {caught.explanation}"
    tell(session, seq, EVENTS[gate.do], message, finding=caught.as_dict())
    if gate.do == "cancel":
        job = session.scalars(select(Job).where(Job.seq == seq)).one()
        if job.cancel_requested_at is None:
            control.ask(session, job, "cancelling", message[:500], {"cancel_requested_at": clock.now()})
    return False
