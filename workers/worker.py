"""The worker: claims jobs, gives out slots, starts trainers, watches them, and says how each attempt ended.

One thread and one loop; a job may do anything, its worker lives on.
"""

import math
import os
import selectors
import shutil
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

import psutil
import structlog
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from service import bell, checkpoints, clock, disk, job_logs, jobs, leases, locks, memory
from service.database import Database
from service.errors import LeaseLost, ServiceError
from service.ids import new_id
from service.leases import Claim, Terms
from service.plan import Plan
from service.settings import Settings
from service.states import EndReason, JobStatus
from workers import checkpoints as files, endings, recorder
from workers.devices import Driver, Probe
from workers.endings import Asked, Drained, Ending, Failed, Lost, Stopped, Succeeded
from workers.launcher import Launcher, Trainer
from workers.processes import Busy, adopt_orphans, is_stopped, seize
from workers.recorder import Recording
from workers.slots import Grant, Slots
from workers.trainer import Order
from workers.watchdog import Watchdog

LOOK_SECONDS = 1.0
WANTED = {JobStatus.CANCELLED: Asked.CANCEL, JobStatus.PAUSED: Asked.PAUSE}

log = structlog.get_logger()


@dataclass
class Attempt:
    """One execution that this worker looks after."""

    claim: Claim
    grant: Grant
    trainer: Trainer
    recording: Recording
    folder: Path
    started: float
    memory_kills: int
    watchdog: Watchdog
    micro_batches: int
    asked: Asked | None = None
    stalled_for: float | None = None
    rang: bool = False


class Worker:
    """State of one worker process: its identity, its slots and its attempts."""

    def __init__(self, settings: Settings, probe: Probe | None = None) -> None:
        self.id = new_id()
        self.settings = settings
        self.database = Database(settings.database_path)
        self.terms = Terms(settings.lease_seconds, settings.backoff_seconds, settings.max_running_jobs_per_user)
        self.probe = probe or Driver()
        self.slots = Slots(settings.slots, self.probe.devices())
        memory = settings.trainer_memory_mib
        self.launcher = Launcher(psutil.virtual_memory().total if memory is None else memory << 20)
        self.attempts: dict[str, Attempt] = {}
        self.registered = False
        self.renewed = 0
        self.stop_signals = 0

    def run(self) -> None:
        """Works until SIGTERM or SIGINT, then drains; a second signal ends the trainers at once."""
        lock = locks.take(leases.worker_lock(self.settings.run_path, self.id))
        assert lock is not None, "a fresh id is locked by nobody"
        wake_end, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note_signal)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # the end of an orphaned trainer ends a wait
        adopt_orphans()
        self.bell = bell.Bell(self.settings.run_path, self.id)
        self.watcher = self.database.watch()
        try:
            self._loop(wake_end)
        finally:
            self.launcher.close()
            self.bell.close()
            self.watcher.close()
            with suppress(OperationalError), self.database.write() as session:
                leases.unregister(session, self.id)
            self.database.close()
            leases.worker_lock(self.settings.run_path, self.id).unlink(missing_ok=True)
            os.close(lock)
            log.info("worker ended", worker=self.id)

    def _loop(self, wake_end: int) -> None:
        tended = -math.inf
        while not (self.stop_signals and not self.attempts):
            rang = self._wait(wake_end)
            now = monotonic()
            try:
                look = rang or self.watcher.changed()
                if now - tended > self.settings.lease_seconds / 6:
                    tended = now
                    self._kill_hung()  # first, because one that hangs may hold the write lock
                    self._renew()
                    self._reclaim()
                    look = True  # a lost job's wait ends without a commit
                self._record()
                ended = self._end()
                if not self.launcher.ready:
                    self.launcher.warm()
                elif not self.registered:
                    self._register()
                elif ended or look:
                    self._ask_to_stop()
                    self._claim()
            except OperationalError as error:
                # A database that was busy for once is no reason to leave the trainers alone.
                log.warning("database busy", error=str(error.orig))
            self._enforce_limits()

    def _register(self) -> None:
        """Tells the service that this worker is there, now that it can start trainers; then it claims."""
        described, memory_mib = self._devices(), self.launcher.memory_bytes >> 20
        with self.database.write() as session:
            leases.register(session, self.id, os.getpid(), self.settings.slots, described, self.terms, memory_mib)
        self.registered = True
        log.info("worker ready", worker=self.id, slots=self.settings.slots, devices=len(self.slots.accelerators))
        self._claim()

    def _wait(self, wake_end: int) -> bool:
        """Sleeps until something happens; whether the bell rang or a signal came."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.bell, selectors.EVENT_READ, "bell")
            selector.register(wake_end, selectors.EVENT_READ, "signal")
            if (server := self.launcher.fileno()) is not None:
                selector.register(server, selectors.EVENT_READ, "launcher")
            for attempt in self.attempts.values():
                if not attempt.rang:
                    selector.register(attempt.trainer, selectors.EVENT_READ, attempt)
            waits = [attempt.recording.due_in() for attempt in self.attempts.values() if attempt.rang]
            events = selector.select(max(0.0, min([LOOK_SECONDS, *waits])))
        woken = {key.data for key, _ in events if isinstance(key.data, str)}
        for key, _ in events:
            if isinstance(key.data, Attempt):
                key.data.rang = True
                with suppress(BlockingIOError):
                    os.read(key.data.trainer.bell, 4096)
        if "bell" in woken:
            self.bell.answer()
        if "signal" in woken:
            with suppress(BlockingIOError):
                os.read(wake_end, 4096)
        return bool(woken & {"bell", "signal"})

    def _devices(self) -> list[dict[str, Any]]:
        return [each.view() for each in self.slots.accelerators]

    def _look_at_devices(self) -> None:
        """Asks the driver who uses the GPUs, and tells the box of what has changed."""
        own = [pid for attempt in self.attempts.values() for pid in self.launcher.processes(attempt.trainer)]
        if self.slots.accelerators and self.slots.look(self.probe, own) and self.registered:
            with self.database.write() as session:
                leases.describe(session, self.id, self._devices())

    def _claim(self) -> None:
        """Starts what fits, until nothing does."""
        self._look_at_devices()
        # What starts on a full disk fails, again and again: it had better wait.
        if disk.lack(self.settings.home, self.settings.min_free_mib) is not None:
            return
        while self.launcher.ready and not self.stop_signals and self.slots.free_threads:
            with self.database.write() as session:
                claim = leases.claim(session, self.id, self.slots.free, self.slots.total, self.terms)
            if claim is None:
                return
            self._start(claim)

    def _start(self, claim: Claim) -> None:
        lease = claim.lease
        folder = jobs.attempt_folder(self.settings.jobs_path, lease.job_id, lease.attempt)
        grant = self.slots.take(lease.job_id, claim.threads, claim.gpus)
        lock = None
        with self.database.read() as session:
            plan = Plan.model_validate(claim.plan)
            parts = memory.parts(session, claim.model_kind, grant.device_name, plan)
        try:
            folder.parent.mkdir(mode=0o700, exist_ok=True)
            lock = seize(folder.parent / "attempt.lock", lease.attempt)
            # A database put back from a backup gives numbers out again, and their outcomes must not be believed.
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
            kept_in = checkpoints.folder(self.settings.jobs_path, lease.job_id)
            files.remove_strangers(kept_in, claim.checkpoints)
            order = Order(
                job_id=lease.job_id,
                attempt=lease.attempt,
                spec=claim.spec,
                plan=claim.plan,
                classes=claim.classes,
                columns=claim.columns,
                dataset_path=str(self.settings.datasets_path / claim.dataset_id),
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
            trainer = self.launcher.start(order, folder / "order.json", lock, claim.memory_mib)
        except (Busy, OSError) as error:
            if lock is not None:
                os.close(lock)
            self.slots.give_back(grant)
            log.exception("trainer not started", job=lease.job_id, attempt=lease.attempt)
            with self.database.write() as session:
                leases.lose(session, lease, self.terms, f"its trainer could not be started ({type(error).__name__})")
            return
        recording = Recording(
            lease, folder / "spool", kept_in, folder / "resumed.json", claim.keep, claim.gate, counts=claim.counts
        )
        watchdog = Watchdog(folder / "spool", self.settings.stall_seconds)
        self.attempts[lease.job_id] = Attempt(
            claim, grant, trainer, recording, folder, monotonic(), endings.memory_kills(), watchdog, parts
        )
        log.info("attempt started", job=lease.job_id, attempt=lease.attempt, pid=trainer.pid, device=grant.address)

    def _record(self) -> None:
        for attempt in self.attempts.values():
            if attempt.rang and attempt.recording.due_in() <= 0:
                facts = {} if attempt.recording.offset else {"pid": attempt.trainer.pid}
                try:
                    # What is left by the limit on a flush stays due, and comes in the next round.
                    attempt.rang = recorder.flush(self.database, attempt.recording, self.terms, **facts)
                except LeaseLost:
                    attempt.rang = False
                    self.launcher.kill(attempt.trainer)
                except (ValueError, LookupError, ServiceError, IntegrityError):
                    # A spool that nobody can record is its own job's end, and not that of the worker.
                    log.exception("points not recorded", job=attempt.claim.lease.job_id)
                    attempt.rang = False
                    self.launcher.kill(attempt.trainer)

    def _end(self) -> bool:
        """Writes down the ends of trainers that have ended; whether there were any."""
        ended = self.launcher.poll()
        for trainer in ended:
            for attempt in [attempt for attempt in self.attempts.values() if attempt.trainer is trainer]:
                self._write_end(attempt)
                del self.attempts[attempt.claim.lease.job_id]
                self.slots.give_back(attempt.grant, pids=[trainer.pid])
            self.launcher.forget(trainer)
        return bool(ended)

    def _write_end(self, attempt: Attempt) -> None:
        lease, trainer = attempt.claim.lease, attempt.trainer
        assert trainer.status is not None
        self._trim_log(attempt)
        try:
            ending = self._ending(attempt)
            with self.database.write() as session:
                match ending:
                    case Succeeded(early):
                        leases.succeed(session, lease, early)
                    case Stopped():
                        leases.stop(session, lease)
                    case Drained():
                        leases.give_back(session, lease)
                    case Lost(message, number, reason):
                        leases.lose(session, lease, self.terms, message, number, reason)
                    case Failed(EndReason.OOM_DEVICE) if self._shrink(session, attempt):
                        pass
                    case Failed(reason, message, exit_code, number):
                        leases.fail(session, lease, reason, message, exit_code, number)
            log.info("attempt ended", job=lease.job_id, attempt=lease.attempt, ending=type(ending).__name__.lower())
        except LeaseLost:
            log.warning("attempt was taken over", job=lease.job_id, attempt=lease.attempt)

    def _ending(self, attempt: Attempt) -> Ending:
        """Records what is left, and judges the whole. Raises LeaseLost."""
        assert attempt.trainer.status is not None
        try:
            recorder.drain(self.database, attempt.recording, self.terms)
            return endings.judge(
                endings.read_outcome(attempt.folder / "outcome.json"),
                attempt.trainer.status,
                attempt.recording.steps,
                attempt.claim.plan["total_steps"],
                attempt.asked,
                endings.memory_kills() > attempt.memory_kills,
                attempt.stalled_for,
                attempt.claim.spec["early_stopping"] is not None,
            )
        except LeaseLost:
            raise
        except (ValueError, LookupError, ServiceError, IntegrityError) as error:
            log.exception("end not understood", job=attempt.claim.lease.job_id)
            return Failed(EndReason.ERROR, f"what its trainer left cannot be read ({type(error).__name__})")

    def _shrink(self, session: Session, attempt: Attempt) -> bool:
        """Whether the job may try again in smaller parts."""
        claim, device = attempt.claim, attempt.grant.device_name
        return leases.shrink(session, claim.lease, claim.model_kind, device, attempt.micro_batches)

    def _kill_hung(self) -> None:
        """Ends workers that live but do nothing: their jobs come with a later sweep."""
        with self.database.read() as session:
            hung = leases.hung(session, self.settings.run_path, self.terms)
        for worker in hung:
            pid = locks.holder(leases.worker_lock(self.settings.run_path, worker))
            # Where this one could not renew either, after a sleep or without the database, only a stopped one hangs.
            renewing = clock.boot_milliseconds() - self.renewed < self.terms.lease_milliseconds
            if worker != self.id and pid is not None and (renewing or is_stopped(pid)):
                log.warning("killing a worker that hangs", worker=worker, pid=pid)
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _renew(self) -> None:
        with self.database.write() as session:
            held = leases.renew(session, self.id, self.terms)
            # A start that failed when the database could not be written either has left its job behind.
            strays = leases.disown(session, self.id, self.attempts, self.terms) if held.keys() - self.attempts else []
        self.renewed = clock.boot_milliseconds()
        for job_id in strays:
            log.warning("let go of a job without a trainer", job=job_id)
        for job_id in self.attempts.keys() - held.keys():
            self.launcher.kill(self.attempts[job_id].trainer)

    def _reclaim(self) -> None:
        """Takes over from dead workers."""
        with self.database.write() as session:
            reclaimed = leases.reclaim(session, self.settings.run_path, self.terms)
        for job_id in reclaimed:
            log.warning("reclaimed from a lost worker", job=job_id)
        self.launcher.end_strangers()

    def _ask_to_stop(self) -> None:
        if not self.attempts:
            return
        with self.database.read() as session:
            held = leases.held_by(session, self.id)
        for job_id, wanted in held.items():
            if wanted is not None and job_id in self.attempts:
                self._stop(self.attempts[job_id], WANTED[wanted])

    def _enforce_limits(self) -> None:
        for attempt in self.attempts.values():
            most, asked_at = attempt.claim.max_seconds, attempt.trainer.asked_to_stop_at
            if most is not None and attempt.claim.active_seconds + monotonic() - attempt.started > most:
                self._stop(attempt, Asked.TIME_LIMIT)
            if self.stop_signals:
                self._stop(attempt, Asked.DRAIN)
            overdue = asked_at is not None and monotonic() - asked_at > self.settings.stop_seconds
            if overdue or self.stop_signals > 1:
                self.launcher.kill(attempt.trainer)
            if attempt.watchdog.is_stalled(attempt.recording.step_seconds) and attempt.stalled_for is None:
                attempt.stalled_for = attempt.watchdog.silent
                log.warning("killing a trainer that takes no step", job=attempt.claim.lease.job_id)
                self.launcher.kill(attempt.trainer)
            self._trim_log(attempt)

    def _trim_log(self, attempt: Attempt) -> None:
        try:
            job_logs.trim(attempt.folder / "log", self.settings.max_log_mib << 20)
        except OSError as error:
            log.warning("log not trimmed", job=attempt.claim.lease.job_id, error=str(error))

    def _stop(self, attempt: Attempt, why: Asked) -> None:
        if attempt.asked is None or why is Asked.CANCEL:
            attempt.asked = why
        self.launcher.stop(attempt.trainer)

    def _note_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.stop_signals += 1
