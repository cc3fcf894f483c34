"""One execution of a job on this machine: how its trainer is started, and how its end is judged and written down."""

import os
import shutil
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service import checkpoints, job_logs, jobs, leases, memory
from service.database import Database
from service.errors import LeaseLost, ServiceError
from service.leases import Claim, Terms
from service.plan import Plan
from service.settings import Settings
from service.states import EndReason
from workers import checkpoints as files, endings, recorder
from workers.endings import Asked, Drained, Ending, Failed, Lost, Stopped, Succeeded
from workers.launcher import Launcher, Trainer
from workers.processes import memory_kills, seize
from workers.recorder import Recording
from workers.slots import Grant
from workers.trainer import Order
from workers.watchdog import Watchdog

# What a spool or an outcome that makes no sense can raise: its own job's end, and not that of the worker.
UNREADABLE = (ValueError, LookupError, ServiceError, IntegrityError)

log = structlog.get_logger()


@dataclass
class Attempt:
    """One execution that this worker looks after. memory_kills: the last two readings while its trainer lived."""

    claim: Claim
    grant: Grant
    trainer: Trainer
    recording: Recording
    folder: Path
    started: float
    memory_kills: deque[int]
    watchdog: Watchdog
    micro_batches: int
    asked: Asked | None = None
    stalled_for: float | None = None
    rang: bool = False


def start(claim: Claim, grant: Grant, settings: Settings, launcher: Launcher) -> Attempt:
    """Forks the trainer of a claimed job, once no process of an older attempt is left.

    Raises Busy or OSError when that cannot be; the job's lock is free again then.
    """
    lease = claim.lease
    folder = jobs.attempt_folder(settings.jobs_path, lease.job_id, lease.attempt)
    kept_in = checkpoints.folder(settings.jobs_path, lease.job_id)
    plan = Plan.model_validate(claim.plan)
    parts = memory.parts(plan, claim.memory_limits.get(grant.device_name))
    folder.parent.mkdir(mode=0o700, exist_ok=True)
    lock = seize(folder.parent / "attempt.lock", lease.attempt)
    try:
        # A database put back from a backup gives numbers out again, and their outcomes must not be believed.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        files.remove_strangers(kept_in, claim.checkpoints)
        order = Order(
            job_id=lease.job_id,
            attempt=lease.attempt,
            spec=claim.spec,
            plan=claim.plan,
            classes=claim.classes,
            columns=claim.columns,
            dataset_path=str(settings.datasets_path / claim.dataset_id),
            dataset_sha256=claim.dataset_sha256,
            checkpoints_path=str(kept_in),
            checkpoints=claim.checkpoints,
            resumed_path=str(folder / "resumed.json"),
            spool_path=str(folder / "spool"),
            outcome_path=str(folder / "outcome.json"),
            device=grant.address,
            micro_batches=parts,
            devices=grant.addresses(plan.processes) if plan.processes > 1 else [],
        )
        memory_mib = claim.memory_mib and claim.memory_mib // plan.processes
        trainer = launcher.start(order, folder / "order.json", lock, memory_mib)
    except OSError:
        os.close(lock)
        raise
    recording = Recording(
        lease, folder / "spool", kept_in, folder / "resumed.json", claim.keep, claim.gate, counts=claim.counts
    )
    watchdog = Watchdog(folder / "spool", settings.stall_seconds)
    log.info("attempt started", job=lease.job_id, attempt=lease.attempt, pid=trainer.pid, device=grant.address)
    kills = deque([memory_kills()], maxlen=2)
    return Attempt(claim, grant, trainer, recording, folder, monotonic(), kills, watchdog, parts)


def note_memory_kills(attempts: Iterable[Attempt]) -> None:
    """To be called now and then: what the kernel killed hours before a trainer died was not that trainer."""
    kills = memory_kills()
    for attempt in attempts:
        if attempt.trainer.status is None:
            attempt.memory_kills.append(kills)


def write_end(database: Database, attempt: Attempt, terms: Terms) -> None:
    """Records what is left of an attempt whose trainer has ended, and writes down how it ended."""
    lease = attempt.claim.lease
    try:
        ending = _ending(database, attempt, terms)
        with database.write() as session:
            match ending:
                case Succeeded(early):
                    leases.succeed(session, lease, early)
                case Stopped():
                    leases.stop(session, lease)
                case Drained():
                    leases.give_back(session, lease)
                case Lost(message, number, reason):
                    leases.lose(session, lease, terms, message, number, reason)
                case Failed(EndReason.OOM_DEVICE) if _shrink(session, attempt):
                    pass
                case Failed(reason, message, exit_code, number):
                    leases.fail(session, lease, reason, message, exit_code, number)
        log.info("attempt ended", job=lease.job_id, attempt=lease.attempt, ending=type(ending).__name__.lower())
    except LeaseLost:
        log.warning("attempt was taken over", job=lease.job_id, attempt=lease.attempt)


def _ending(database: Database, attempt: Attempt, terms: Terms) -> Ending:
    """Records what is left, and judges the whole. Raises LeaseLost."""
    assert attempt.trainer.status is not None
    try:
        recorder.drain(database, attempt.recording, terms)
        return endings.judge(
            endings.read_outcome(attempt.folder / "outcome.json"),
            attempt.trainer.status,
            attempt.recording.steps,
            attempt.claim.plan["total_steps"],
            attempt.asked,
            memory_kills() > attempt.memory_kills[0],
            attempt.stalled_for,
            attempt.claim.spec["early_stopping"] is not None,
        )
    except LeaseLost:
        raise
    except UNREADABLE as error:
        log.exception("end not understood", job=attempt.claim.lease.job_id)
        return Failed(EndReason.ERROR, f"what its trainer left cannot be read ({type(error).__name__})")


def _shrink(session: Session, attempt: Attempt) -> bool:
    """Whether the job may try again in smaller parts."""
    claim, device = attempt.claim, attempt.grant.device_name
    return leases.shrink(session, claim.lease, claim.model_kind, device, attempt.micro_batches)


def trim_log(attempt: Attempt, most_bytes: int) -> None:
    try:
        job_logs.trim(attempt.folder / "log", most_bytes)
    except OSError as error:
        log.warning("log not trimmed", job=attempt.claim.lease.job_id, error=str(error))
