"""Starts, watches and stops trainers on this machine."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import structlog

from service.settings import trainer_environment
from workers import processes
from workers.forkserver import MESSAGE_BYTES
from workers.trainer import Order

START_SECONDS = 10  # for a fork that takes milliseconds
LEAVE_SECONDS = 2.0  # for what was killed to be gone
MOST_AT_ONCE = 1000  # strangers that are ended: what forks faster than it dies is not to hold up the worker

log = structlog.get_logger()


@dataclass
class Trainer:
    """A trainer process: `status` is its wait status once it has ended."""

    pid: int
    attempt: str  # its folder, with which its processes are marked
    lifeline: int  # closed when the worker dies: the trainer's sign to stop
    bell: int  # readable when the trainer has written points
    lock: int
    status: int | None = None
    orphaned: bool = False  # its forkserver died: it is this process's own child now
    asked_to_stop_at: float | None = None
    killed_at: float | None = None

    def fileno(self) -> int:
        return self.bell


@dataclass
class Launcher:
    """The local launcher: a forkserver and the trainers that it forked."""

    memory_bytes: int  # that a trainer may allocate, unless its job says less
    trainers: dict[int, Trainer] = field(default_factory=dict)
    undying: dict[psutil.Process, str] = field(default_factory=dict)  # trainers given up, and their attempts
    ready: bool = False
    _server: subprocess.Popen[bytes] | None = None
    _control: socket.socket | None = None

    def fileno(self) -> int | None:
        """Readable when `poll` has news; None while there is no forkserver."""
        return None if self._control is None else self._control.fileno()

    def warm(self) -> None:
        """Starts the forkserver unless there is one. It is `ready` seconds later: it imports torch first."""
        if self._control is not None:
            return
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "workers.forkserver", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=trainer_environment(),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def start(self, order: Order, order_path: Path, lock: int, memory_mib: int | None = None) -> Trainer:
        """Forks a trainer; only when `ready`. `lock` is the job's: the trainer's own until its last process is gone.

        memory_mib: that it may allocate. Raises OSError when the forkserver has died.
        """
        if self._control is None:
            raise ConnectionResetError("the forkserver ended")
        order_path.write_text(order.to_json())
        log = os.open(order_path.with_name("log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        lifeline_end, lifeline = os.pipe2(os.O_CLOEXEC)
        bell, bell_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        memory = self.memory_bytes if memory_mib is None else min(self.memory_bytes, memory_mib << 20)
        message = json.dumps({"order": str(order_path), "memory": memory}).encode()
        try:
            socket.send_fds(self._control, [message], [log, lock, lifeline_end, bell_end])
            pid = self._await_start()
        except OSError:
            os.close(lifeline)
            os.close(bell)
            self._drop_server()
            raise
        finally:
            for descriptor in (log, lifeline_end, bell_end):
                os.close(descriptor)
        trainer = Trainer(pid, str(order_path.parent.resolve()), lifeline, bell, lock)
        self.trainers[pid] = trainer
        return trainer

    def poll(self) -> list[Trainer]:
        """The trainers that have ended since they were last forgotten."""
        try:
            while self._control is not None:
                self._control.setblocking(False)
                self._hear(self._control.recv(MESSAGE_BYTES))
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self._drop_server()
        for trainer in self.trainers.values():
            if trainer.orphaned and trainer.status is None:
                try:
                    pid, status = os.waitpid(trainer.pid, os.WNOHANG)
                    trainer.status = status if pid else None
                except ChildProcessError:
                    # Its forkserver saw the end and died before it told: as good as killed.
                    trainer.status = signal.SIGKILL
        return [trainer for trainer in self.trainers.values() if trainer.status is not None]

    def stop(self, trainer: Trainer) -> None:
        """Asks a trainer to stop at its next step."""
        if trainer.asked_to_stop_at is None:
            trainer.asked_to_stop_at = time.monotonic()
            self._signal(trainer, signal.SIGTERM)
            self._signal(trainer, signal.SIGCONT)

    def kill(self, trainer: Trainer) -> None:
        """Ends all processes of a trainer's group at once."""
        trainer.killed_at = trainer.killed_at or time.monotonic()
        self._signal(trainer, signal.SIGKILL)

    def give_up(self, trainer: Trainer) -> None:
        """Takes a trainer that was killed and does not die for one that has ended; its process stays watched."""
        with suppress(psutil.NoSuchProcess):
            self.undying[psutil.Process(trainer.pid)] = trainer.attempt
        trainer.status = signal.SIGKILL

    def processes(self, trainer: Trainer) -> list[int]:
        """The trainer and its descendants."""
        with suppress(psutil.NoSuchProcess):
            return [trainer.pid, *(child.pid for child in psutil.Process(trainer.pid).children(recursive=True))]
        return [trainer.pid]

    def forget(self, trainer: Trainer) -> None:
        """Lets go of an ended trainer, and ends what is left of its group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(trainer.pid, signal.SIGKILL)
        for descriptor in (trainer.lifeline, trainer.bell, trainer.lock):
            os.close(descriptor)
        del self.trainers[trainer.pid]

    def end_strangers(self) -> dict[str | None, list[int]]:
        """Kills what ended trainers left behind and became this process's children: see `processes.adopt_orphans`.

        Returns those that live all the same, by attempt; under None those that nobody knows an attempt of.
        """
        living: dict[str | None, list[int]] = defaultdict(list)
        self.undying = {process: attempt for process, attempt in self.undying.items() if processes.lives(process)}
        for process, given_up in self.undying.items():
            living[given_up].append(process.pid)
        alive = {trainer.attempt for trainer in self.trainers.values() if trainer.status is None}
        met: set[int] = set()
        # Those that are gone at once have perhaps left children, which are there now.
        while len(met) < MOST_AT_ONCE and (fresh := self._strangers() - met):
            met |= fresh
            for pid in fresh:
                with suppress(ProcessLookupError, ChildProcessError):
                    attempt = processes.attempt_of(pid)
                    if attempt not in alive:
                        processes.kill(pid)
                    if os.waitpid(pid, os.WNOHANG) == (0, 0):
                        living[attempt].append(pid)
        return living

    def leave_nothing(self) -> None:
        """Before this process ends: kills strangers, and those that become its children by that."""
        deadline = time.monotonic() + LEAVE_SECONDS
        while self.end_strangers() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _strangers(self) -> set[int]:
        server = {self._server.pid} if self._server is not None else set()
        return set(processes.children()) - server - self.trainers.keys()

    def close(self) -> None:
        """Ends the forkserver; trainers that still live see their lifeline close."""
        self._drop_server()

    def _signal(self, trainer: Trainer, number: signal.Signals) -> None:
        # Until its end has been read, the pid is not given to another process.
        if trainer.status is not None:
            return
        try:
            os.killpg(trainer.pid, number)
        except ProcessLookupError:  # just forked, and not the leader of its own group yet
            with suppress(ProcessLookupError):
                os.kill(trainer.pid, number)
        except PermissionError:  # it has become another user's
            log.warning("trainer not signalled", attempt=trainer.attempt, signal=number.name)

    def _await_start(self) -> int:
        while self._control is not None:
            self._control.settimeout(START_SECONDS)
            started = self._hear(self._control.recv(MESSAGE_BYTES))
            if started is not None:
                return started
        raise ConnectionResetError("the forkserver ended")

    def _hear(self, content: bytes) -> int | None:
        """Takes in one message; the pid of a trainer that it says was started."""
        if not content:
            self._drop_server()
            return None
        message = json.loads(content)
        self.ready = self.ready or "ready" in message
        if "ended" in message and (trainer := self.trainers.get(message["ended"])):
            trainer.status = message["status"]
        started: int | None = message.get("started")
        return started

    def _drop_server(self) -> None:
        self.ready = False
        for trainer in self.trainers.values():
            trainer.orphaned = True
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._server is not None:
            self._server.kill()  # it has nothing to say any more, and may be seconds from the end of its imports
            self._server.wait()
            self._server = None
