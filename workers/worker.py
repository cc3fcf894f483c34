"""The worker: claims jobs, gives out slots, starts trainers, watches them, and says how each attempt ended.

One thread and one loop; a job may do anything, its worker lives on.
"""

import math
import os
import selectors
import signal
from contextlib import suppress
from time import monotonic
from types import FrameType
from typing import Any

import structlog
from sqlalchemy.exc import OperationalError

from service import bell, clock, crew, disk, leases, locks
from service.database import Database
from service.errors import LeaseLost
from service.ids import new_id
from service.leases import Claim, Terms
from service.settings import Settings, visible_gpus
from service.states import JobStatus
from workers import attempts, neighbours, recorder
from workers.attempts import UNREADABLE, Attempt
from workers.devices import Driver, Probe
from workers.endings import Asked
from workers.launcher import Launcher
from workers.processes import KILL_SECONDS, Busy, adopt_orphans, machine_memory
from workers.slots import Slots

LOOK_SECONDS = 1.0
SETTLE_SECONDS = 0.1  # between two looks at what an ended job still holds
GIVEN_OUT = 0.9  # of the machine's memory, unless a setting says how much: the system and the service need some too
WANTED = {JobStatus.CANCELLED: Asked.CANCEL, JobStatus.PAUSED: Asked.PAUSE}

log = structlog.get_logger()


class Worker:
    """State of one worker process: its identity, its slots and its attempts."""

    def __init__(self, settings: Settings, probe: Probe | None = None) -> None:
        self.id = new_id()
        self.settings = settings
        self.database = Database(settings.database_path)
        self.terms = Terms(settings.lease_seconds, settings.backoff_seconds, settings.max_running_jobs_per_user)
        self.probe = probe or Driver(visible_gpus())
        machine = machine_memory()
        most = settings.trainer_memory_mib
        given_out = int(GIVEN_OUT * machine) >> 20 if settings.memory_mib is None else settings.memory_mib
        self.slots = Slots(settings.slots, self.probe.devices(), given_out)
        self.launcher = Launcher(machine if most is None else most << 20)
        self.attempts: dict[str, Attempt] = {}
        self.most_log = settings.max_log_mib << 20
        self.lost: list[dict[str, Any]] = []
        self.registered = False
        self.untold = False  # whether the box shows devices and slots as they were
        self.renewed = 0
        self.tended = self.settled = -math.inf
        self.claiming = False  # whether it was to renew before all was started that fits
        self.stop_signals = 0

    def run(self) -> None:
        """Works until SIGTERM or SIGINT, then drains; a second signal ends the trainers at once."""
        lock = locks.make(crew.worker_lock(self.settings.run_path, self.id))
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
            self.launcher.leave_nothing()
            self.launcher.close()
            self.bell.close()
            self.watcher.close()
            with suppress(OperationalError), self.database.write() as session:
                crew.unregister(session, self.id)
            self.database.close()
            crew.worker_lock(self.settings.run_path, self.id).unlink(missing_ok=True)
            os.close(lock)
            log.info("worker ended", worker=self.id)

    def _loop(self, wake_end: int) -> None:
        while not (self.stop_signals and not self.attempts):
            rang = self._wait(wake_end)
            now = monotonic()
            try:
                look = rang or self.watcher.changed()
                if self._must_tend():
                    self.tended = now
                    self._tend()
                    look = True  # a lost job's wait ends without a commit
                look |= self.slots.settling and now - self.settled > SETTLE_SECONDS and self._settle()
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

    def _must_tend(self) -> bool:
        return monotonic() - self.tended > self.settings.lease_seconds / 6

    def _register(self) -> None:
        """Tells the service that this worker is there, now that it can start trainers; then it claims."""
        memory = crew.Memory(self.slots.memory_mib, self.launcher.memory_bytes >> 20)
        with self.database.write() as session:
            crew.register(session, self.id, os.getpid(), self.settings.slots, self._devices(), self.terms, memory)
        self.registered = True
        log.info("worker ready", worker=self.id, slots=self.settings.slots, devices=len(self.slots.accelerators))
        self._claim()

    def _wait(self, wake_end: int) -> bool:
        """Sleeps until something happens; whether the bell rang, a signal came, or there is more to claim."""
        claiming, self.claiming = self.claiming, False
        with selectors.DefaultSelector() as selector:
            selector.register(self.bell, selectors.EVENT_READ, "bell")
            selector.register(wake_end, selectors.EVENT_READ, "signal")
            if (server := self.launcher.fileno()) is not None:
                selector.register(server, selectors.EVENT_READ, "launcher")
            for attempt in self.attempts.values():
                if not attempt.rang:
                    selector.register(attempt.trainer, selectors.EVENT_READ, attempt)
            waits = [attempt.recording.due_in() for attempt in self.attempts.values() if attempt.rang]
            events = selector.select(0.0 if claiming else max(0.0, min([LOOK_SECONDS, *waits])))
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
        return claiming or bool(woken & {"bell", "signal"})

    def _devices(self) -> list[dict[str, Any]]:
        return [each.view() for each in self.slots.accelerators]

    def _settle(self) -> bool:
        """Looks who uses the GPUs and what ended jobs still hold, and tells the box of what has changed.

        Whether something else is free now.
        """
        self.settled, before = monotonic(), self.slots.free
        self.untold |= self.slots.settle(self.launcher.end_strangers(), monotonic())
        if self.slots.accelerators:
            own = [pid for attempt in self.attempts.values() for pid in self.launcher.processes(attempt.trainer)]
            self.untold |= self.slots.look(self.probe, own, monotonic())
        if self.untold and self.registered:
            if (lost := self.slots.out_of_service) != self.lost:
                log.warning("slots are out of service" if lost else "all slots are in service", slots=lost)
                self.lost = lost
            with self.database.write() as session:
                crew.describe(session, self.id, self._devices(), lost)
            self.untold = False
        return self.slots.free != before

    def _claim(self) -> None:
        """Starts what fits, until nothing does, or until leases are to be renewed: fifty starts may take a minute."""
        self._settle()
        # What starts on a full disk fails, again and again: it had better wait.
        if disk.lack(self.settings.home, self.settings.min_free_mib) is not None:
            return
        while self.launcher.ready and not self.stop_signals and self.slots.free_threads:
            with self.database.write() as session:
                claim = leases.claim(session, self.id, self.slots.free, self.slots.total, self.terms)
            if claim is None:
                return
            self._start(claim)
            if self._must_tend():
                self.claiming = True
                return

    def _start(self, claim: Claim) -> None:
        lease = claim.lease
        grant = self.slots.take(lease.job_id, claim.threads, claim.gpus, claim.memory_mib)
        try:
            self.attempts[lease.job_id] = attempts.start(claim, grant, self.settings, self.launcher)
        except (Busy, OSError) as error:
            self.slots.give_back(grant)
            log.exception("trainer not started", job=lease.job_id, attempt=lease.attempt)
            with self.database.write() as session:
                leases.lose(session, lease, self.terms, f"its trainer could not be started ({type(error).__name__})")

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
                except UNREADABLE:
                    log.exception("points not recorded", job=attempt.claim.lease.job_id)
                    attempt.rang = False
                    self.launcher.kill(attempt.trainer)

    def _end(self) -> bool:
        """Writes down the ends of trainers that have ended; whether there were any."""
        ended = self.launcher.poll()
        for trainer in ended:
            for attempt in [attempt for attempt in self.attempts.values() if attempt.trainer is trainer]:
                attempts.trim_log(attempt, self.most_log)
                attempts.write_end(self.database, attempt, self.terms)
                del self.attempts[attempt.claim.lease.job_id]
                self.slots.leave(attempt.grant, trainer.attempt, [trainer.pid], trainer.killed_at or monotonic())
            self.launcher.forget(trainer)
        return bool(ended)

    def _tend(self) -> None:
        run_path = self.settings.run_path
        # First, because one that hangs may hold the write lock.
        neighbours.kill_hung(self.database, run_path, self.id, self.terms, self.renewed)
        self._renew()
        neighbours.reclaim(self.database, run_path, self.settings.jobs_path, self.terms)
        attempts.note_memory_kills(self.attempts.values())

    def _renew(self) -> None:
        with self.database.write() as session:
            held = crew.renew(session, self.id, self.terms)
            # A start that failed when the database could not be written either has left its job behind.
            strays = crew.disown(session, self.id, self.attempts, self.terms) if held.keys() - self.attempts else []
        self.renewed = clock.boot_milliseconds()
        for job_id in strays:
            log.warning("let go of a job without a trainer", job=job_id)
        for job_id in self.attempts.keys() - held.keys():
            self.launcher.kill(self.attempts[job_id].trainer)

    def _ask_to_stop(self) -> None:
        if not self.attempts:
            return
        with self.database.read() as session:
            held = crew.held_by(session, self.id)
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
            if (killed := attempt.trainer.killed_at) is not None and monotonic() - killed > KILL_SECONDS:
                log.error("a trainer that was killed does not die", job=attempt.claim.lease.job_id)
                self.launcher.give_up(attempt.trainer)
            attempts.trim_log(attempt, self.most_log)

    def _stop(self, attempt: Attempt, why: Asked) -> None:
        if attempt.asked is None or why is Asked.CANCEL:
            attempt.asked = why
        self.launcher.stop(attempt.trainer)

    def _note_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.stop_signals += 1
